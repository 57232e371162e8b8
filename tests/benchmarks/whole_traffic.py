"""Makes what comes to a night: a day's report archive, its receipts as NDJSON, and a store before.

The store has the days before that day, each downloaded whole and without a record: else nobody
could say that a receipt belongs to none.
"""

from __future__ import annotations

import argparse
import json
import shutil
from dataclasses import replace
from datetime import date
from pathlib import Path

import archive_traffic
import numpy as np

from reconcile.days import DAY, days_between, end_of, iso, start_of
from reconcile.sandbox.captures import STYLES, Captures
from reconcile.sandbox.generate import START, make, plan
from reconcile.store import Store

# Longer than any message's validity with its grace.
DAYS_BEFORE = 10
PLAIN = next(n for n, style in enumerate(STYLES) if style.file.endswith(".ndjson"))


def prepare(folder: Path, messages: int) -> dict[str, object]:
    """Writes `folder/report.zip`, `folder/dlr.ndjson`, the key, and `folder/store`."""
    made = archive_traffic.prepare(folder, messages)
    lines = _write_captures(folder, messages)
    store = Store.open(folder / "store", create=True)
    ledger = store.ledger()
    before = days_between(START - DAYS_BEFORE * DAY, START)
    ledger.downloads = [_nothing(day, str(made["account"])) for day in before]
    store.save(ledger)
    return {**made, "lines": lines}


def _write_captures(folder: Path, messages: int) -> int:
    """The receipts of the archive's traffic, all in the first style: one file, a day after the
    other."""
    with Captures(folder / "dlr") as captures:
        for part in plan(messages, 1):
            for lines in make(part, messages, archive_traffic.SEED).lines:
                captures.write(replace(lines, style=np.full_like(lines.style, PLAIN)))
    with (folder / "dlr.ndjson").open("wb") as together:
        for file in sorted((folder / "dlr").iterdir()):
            with file.open("rb") as own:
                shutil.copyfileobj(own, together)
    shutil.rmtree(folder / "dlr")
    return captures.receipts + captures.rejects + captures.blank


def _nothing(day: date, account: str) -> dict[str, object]:
    return {
        "account_id": account, "product": "SMS", "start": iso(start_of(day)),
        "end": iso(end_of(day)), "via": "async", "request_id": f"before-{day}", "records": 0,
        "billed": 0, "rejects": 0, "as_of": iso(end_of(day) + DAY),
    }  # fmt: skip


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("messages", type=int)
    asked = parser.parse_args()
    print(json.dumps(prepare(asked.folder, asked.messages)))
