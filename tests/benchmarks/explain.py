"""Times `reconcile explain` in a store of 30 days of a million messages each.

    python -m tests.benchmarks.explain

The store is made by SQL in the engine (half of the messages have a receipt, of a tenth of these it
came twice) and published as the job publishes it: same files, same order, same row groups. Each
time is that of a whole process, from its start to its end.
"""

from __future__ import annotations

import argparse
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from datetime import date, datetime, timedelta
from pathlib import Path

from tests.benchmarks.harness import environment, machine, python, say

FIRST = date(2026, 1, 5)
NUMBER = "447700900123"
KEY = "a key for numbers that do not exist\n"
MEMORY = "4GB"


def main() -> None:
    """Makes the store in a process of its own, asks for messages of several days, and prints."""
    told = _told()
    if told.prepare:
        prepare(told.prepare, told.days, told.messages)
        return
    print(machine(MEMORY), "\n")
    with tempfile.TemporaryDirectory(dir=told.folder, prefix="explain-") as scratch:
        folder = told.store or Path(scratch)
        if not told.store:
            say(f"making {told.days} days of {told.messages:,} messages")
            python("-m", "tests.benchmarks.explain", "--prepare", folder, "--days", told.days,
                   "--messages", told.messages)  # fmt: skip
        print("| asked for | median s | slowest s |\n|---|---:|---:|")
        print(*measure(folder, told.days, told.messages, told.runs), sep="\n")


def measure(folder: Path, days: int, messages: int, runs: int) -> list[str]:
    """Rows of the table: what was asked for, and how long it took."""
    some = [(day * days // runs, messages * (day + 1) // (runs + 2)) for day in range(runs)]
    names = [_id(day, number) for day, number in some]
    asked: dict[str, list[tuple[list[str], str | None]]] = {
        "one message": [([name], None) for name in names],
        "one that is unknown": [([name[::-1]], None) for name in names],
        "twenty messages": [([_id(n % days, 7 * n) for n in range(20)], None)] * 2,
        "a client_ref": [(["--client-ref", f"ref-{messages // 3}"], None)] * 2,
        "a number": [(["--recipient"], NUMBER)] * 2,
    }
    rows = []
    for what, calls in asked.items():
        taken = [_seconds(folder, *call, known="unknown" not in what) for call in calls]
        rows.append(f"| {what} | {statistics.median(taken):.2f} | {max(taken):.2f} |")
        say(rows[-1])
    return rows


def _seconds(folder: Path, flags: list[str], told: str | None, *, known: bool) -> float:
    call = [sys.executable, "-m", "reconcile.cli", "explain", "--store", str(folder / "store"),
            "--pii-key-file", str(folder / "pii.key"), *flags]  # fmt: skip
    begun = time.perf_counter()
    ended = subprocess.run(call, input=told, capture_output=True, text=True, env=environment())
    taken = time.perf_counter() - begun
    if ended.returncode != (0 if known else 6):
        raise SystemExit(f"{' '.join(flags)} ended with {ended.returncode}: {ended.stderr}")
    return taken


def prepare(folder: Path, days: int, messages: int) -> None:
    """A store as the job leaves it, without the tables that nobody reads here."""
    from reconcile import border, engine
    from reconcile.days import iso, start_of
    from reconcile.settings import Settings
    from reconcile.store import Store
    from reconcile.tables import RECEIPTS, RECORDS, VERDICTS

    folder.mkdir(parents=True, exist_ok=True)
    key = folder / "pii.key"
    key.write_text(KEY, "ascii")
    store = Store.open(folder / "store", create=True)
    con = engine.connect(MEMORY, None, folder / "spill")
    border.set_key(con, Settings(store=store.root, pii_key_file=key))
    ledger = store.ledger()
    for n in range(days):
        day = FIRST + timedelta(days=n)
        as_of = start_of(day) + timedelta(days=9, hours=2)
        con.con.execute(f"CREATE OR REPLACE TABLE made AS {_messages(day, n, messages, as_of)}")
        for table, query in ((RECORDS, _RECORDS), (RECEIPTS, _RECEIPTS), (VERDICTS, _VERDICTS)):
            store.publish([store.write(con, query, table, day, as_of)])
        ledger.judged[str(day)] = {"as_of": iso(as_of), "closed": True}
        ledger.receipt_days[str(day)] = [str(day), str(day)]
        ledger.downloads.append({
            "account_id": "bench", "product": "SMS", "start": iso(start_of(day)), "via": "async",
            "end": iso(start_of(day + timedelta(days=1))), "request_id": str(n),
            "records": messages, "billed": messages, "rejects": 0, "as_of": iso(as_of),
        })  # fmt: skip
        say(f"{day} is made")
    store.save(ledger)
    con.disconnect()
    shutil.rmtree(store.work, ignore_errors=True)


def _id(day: int, number: int) -> str:
    """The id of a message: hexadecimal, and in no order."""
    import hashlib

    return hashlib.md5(f"{day}-{number}".encode(), usedforsecurity=False).hexdigest()[:16].upper()


def _messages(day: date, n: int, messages: int, as_of: datetime) -> str:
    """SQL of a day's messages, and of what came back of each."""
    from reconcile import border
    from reconcile.days import iso

    number = f"CASE WHEN i % 300000 = 7 THEN '{NUMBER}' ELSE '4479' || (i * 7919 + {n}) END"
    at = f"TIMESTAMPTZ '{day}T00:00:00Z' + to_milliseconds(i * 86400000 // {messages})"
    return f"""
        SELECT i, upper(left(md5('{n}-' || i), 16)) AS message_id, 'SMS' AS product,
            'bench' AS account_id, 'ref-' || i AS client_ref, 'ACME' AS sender,
            {border.recipient(number, "hash")} AS recipient, 'GB' AS country,
            'United Kingdom' AS country_name, '23410' AS network_code, 'O2' AS network_name,
            {at} AS received_at, {at} + to_milliseconds(2000 + i % 9000) AS finalized_at,
            2000 + i % 9000 AS latency_ms, 'delivered' AS status, '0' AS error_code,
            0.0400::DECIMAL(18, 8) AS price, 'EUR' AS currency, TIMESTAMPTZ '{iso(as_of)}' AS as_of,
            i % 2 = 0 AS heard, i % 20 = 0 AS twice
        FROM range({messages}) AS t(i)
    """


_RECORDS = """
    SELECT message_id, NULL::VARCHAR AS record_id, product, account_id, client_ref, sender,
        NULL::VARCHAR AS sender_used, recipient, country, country_name, network_code, network_name,
        received_at, finalized_at, latency_ms, status, error_code, price, currency,
        false AS concatenated, NULL::BIGINT AS validity_ms, as_of AS fetched_at,
        NULL::TIMESTAMPTZ AS asked_at
    FROM made
"""
_RECEIPTS = """
    SELECT message_id, account_id, product, client_ref, sender, recipient, network_code, status,
        error_code, price, finalized_at AS pushed_at, NULL::VARCHAR AS scts,
        finalized_at + to_milliseconds(200 + n) AS captured_at,
        'capture-' || finalized_at::DATE AS source, i * 2 + n + 1 AS line, 'unsigned' AS signature
    FROM made JOIN (VALUES (0), (1)) AS copies (n) ON heard AND (n = 0 OR twice)
"""
_VERDICTS = """
    SELECT message_id, product, account_id, client_ref, sender, recipient, country, country_name,
        network_code, network_name, received_at, finalized_at, latency_ms,
        status AS record_status, error_code AS record_error_code,
        CASE WHEN heard THEN status END AS receipt_status,
        CASE WHEN heard THEN error_code END AS receipt_error_code,
        CASE WHEN heard THEN network_code END AS receipt_network_code, price AS record_price,
        CASE WHEN heard THEN price END AS receipt_price, currency,
        CASE WHEN heard THEN finalized_at END AS pushed_at,
        CASE WHEN heard THEN finalized_at + to_milliseconds(200) END AS captured_at,
        (heard::INTEGER + twice::INTEGER)::INTEGER AS receipts, twice::INTEGER AS duplicates,
        CASE WHEN heard THEN 'confirmed' ELSE 'missing' END AS verdict,
        CASE WHEN twice THEN ['duplicate_receipt'] WHEN heard THEN [] ELSE ['lost_webhook'] END
            AS reasons
    FROM made ORDER BY message_id
"""


def _told() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--days", type=int, default=30)
    parser.add_argument("--messages", type=int, default=1_000_000, help="of each day")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--folder", type=Path, help="where to make a scratch folder")
    parser.add_argument("--store", type=Path, help="a folder that --prepare has made")
    parser.add_argument("--prepare", type=Path, help="only make the store, in this folder")
    return parser.parse_args()


if __name__ == "__main__":
    main()
