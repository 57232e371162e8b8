"""Makes the store that the programs judge: labelled traffic, taken in by the job's own code.

The captures go through the job's ingest. The records do not come over HTTP: the generator's world,
which is what the Reports API would show, is read straight into the contract of `records`, in the
order in which the job keeps them.
"""

from __future__ import annotations

import argparse
import json
import shutil
from datetime import datetime
from pathlib import Path

from reconcile import border, engine
from reconcile.days import iso
from reconcile.receipts import ingest
from reconcile.receipts.intake import Wishes
from reconcile.sandbox.generate import ACCOUNT, START, generate
from reconcile.settings import Settings
from reconcile.store import Store
from reconcile.tables import RECORDS

SEED = 20260105


def prepare(folder: Path, messages: int) -> dict[str, object]:
    """Generates one day of messages and fills the store in `folder/store`."""
    made = generate(folder / "traffic", messages=messages, days=1, seed=SEED)
    key = folder / "pii.key"
    key.write_text("a key for numbers that do not exist\n", "ascii")
    settings = Settings(store=folder / "store", pii_key_file=key)
    store = Store.open(settings.store, create=True)
    con = engine.connect(engine.half_of_memory(), None, folder / "spill")
    with store.lock():
        border.set_key(con, settings)
        con.con.execute(f"CREATE VIEW world AS {_records(made.folder, made.mature_at)}")
        store.publish([store.write_view(con, "world", RECORDS, START, made.mature_at)])
        files, _ = ingest.find([str(made.folder / "dlr" / "*")])
        ledger = store.ledger()
        wishes = Wishes(settings.pii)
        ingest.ingest(store, con, ledger, files, [], made.mature_at, wishes, lambda *_: None)
    con.disconnect()
    shutil.rmtree(made.folder)
    shutil.rmtree(store.staging, ignore_errors=True)
    return {
        "day": str(START),
        "as_of": iso(made.mature_at),
        "account": ACCOUNT.api_key,
        "receipts": made.receipts,
    }


def _records(traffic: Path, as_of: datetime) -> str:
    world = engine.quote(str(traffic / "world" / f"day={START}" / "*.parquet"))
    t = border.text
    return f"""
        SELECT {border.message_id("message_id")} AS message_id, id AS record_id, product,
            account_id, {t("client_ref")} AS client_ref, {t('"from"')} AS sender,
            coalesce({t("changed_from")}, {t("forced_from")}) AS sender_used,
            {border.recipient('"to"', "hash")} AS recipient,
            country, country_name, network AS network_code, network_name,
            date_received AS received_at, date_finalized AS finalized_at, latency AS latency_ms,
            coalesce(status, status_before) AS status, error_code, total_price AS price,
            {t("currency")} AS currency, concatenated, validity_period AS validity_ms,
            TIMESTAMPTZ '{iso(as_of)}' AS fetched_at, NULL::TIMESTAMPTZ AS asked_at
        FROM read_parquet({world}, hive_partitioning = false)
    """


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("messages", type=int)
    asked = parser.parse_args()
    print(json.dumps(prepare(asked.folder, asked.messages)))
