"""Generated traffic as the job takes it in: served over HTTP, fetched and ingested into a store."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import duckdb

from reconcile.days import DAY, iso
from reconcile.sandbox.generate import START, Generated, generate
from reconcile.sandbox.server import Sandbox

SEND_LOG, CAPABILITIES, CONVERSIONS = "sent.csv", "capabilities.csv", "conversions.csv"


def taken_in(
    folder: Path, *, messages: int, days: int, seed: int, besides: bool = False
) -> Generated:
    """Makes traffic with every fault in it; the commands `fetch` and `ingest` fill `folder/store`.

    Nothing is judged yet. Numbers are kept as they are: they are invented. `besides`: with all
    that a user may have beside it, see `tell_besides`.
    """
    made = generate(folder / "world", messages=messages, days=days, seed=seed)
    if besides:
        tell_besides(made, days)
    take_in(made, folder / "store", days=days)
    return made


def flags_of(made: Generated) -> tuple[str, ...]:
    """The flags of `reconcile judge` that name what `tell_besides` wrote for it."""
    files = {"--capabilities": CAPABILITIES, "--conversions": CONVERSIONS}
    return tuple(each for flag, name in files.items() for each in (flag, str(made.folder / name)))


def tell_besides(made: Generated, days: int) -> None:
    """Writes what else a user may have beside this traffic, before it is taken in.

    A log of what was sent, with messages of which Reports has no record; what the user knows of
    networks, one of each kind; which messages converted, fewer of one network's on the last day;
    and on that day messages of one network of which no receipt comes.
    """
    con, last = duckdb.connect(), str(START + (days - 1) * DAY)
    folder, of_last = made.folder, made.folder / "world" / f"day={last}"
    con.execute(f"""
        CREATE TABLE silent AS FROM '{of_last}/*.parquet'
        WHERE network = (SELECT min(network) FROM '{of_last}/*.parquet' WHERE country = 'GB')
    """)
    con.execute(f"""
        COPY (SELECT * REPLACE (
            upper(left(md5(message_id), 16)) AS message_id, md5(id)::UUID AS id) FROM silent)
        TO '{of_last}/silent.parquet'
    """)
    con.execute(f"""
        CREATE VIEW world AS SELECT *, hash(message_id) AS number, dense_rank() OVER (
            ORDER BY network) AS network_number
        FROM read_parquet('{folder}/world/*/*.parquet', hive_partitioning = false)
    """)
    tables = {
        SEND_LOG: """
            SELECT if(number % 500 = 0, upper(left(md5(id), 16)), message_id) AS message_id,
                if(number % 700 = 0, '1', '0') AS status, "to", network, client_ref,
                date_received AS timestamp FROM world""",
        CAPABILITIES: """
            SELECT DISTINCT country, network AS network_code, receipts FROM world
            JOIN (VALUES (3, 'handset'), (5, 'carrier'), (7, 'none'), (9, 'untrusted'))
                AS kinds (network_number, receipts) USING (network_number)""",
        CONVERSIONS: f"""
            SELECT message_id, number % if(network_number = 1 AND date_received > '{last}', 99, 5)
                = 0 AS converted FROM world WHERE status = 'delivered'""",
    }
    for name, query in tables.items():
        con.execute(f"COPY ({query}) TO '{folder / name}' (FORMAT csv)")
    con.close()


def take_in(
    made: Generated, store: Path | str, *, days: int, env: Mapping[str, str] | None = None
) -> None:
    """Fills a store with traffic that was made, which covers so many days."""
    plain = {k: v for k, v in os.environ.items() if not k.startswith(("RECONCILE", "VONAGE"))}
    log = made.folder / SEND_LOG
    common = ["--store", str(store), "--pii", "keep", "--as-of", iso(made.mature_at)]
    with Sandbox(made.folder, now=made.mature_at, pending_seconds=0.2) as sandbox:
        key = {"VONAGE_API_KEY": sandbox.api_key, "VONAGE_API_SECRET": sandbox.api_secret}
        for command in (
            ["fetch", "--base-url", sandbox.base_url, "--via", "async", "--poll-first", "100ms",
             "--from", str(START), "--to", str(START + days * DAY)],
            ["ingest", str(made.folder / "dlr")],
            *([["ingest", "--send-log", str(log)]] if log.exists() else []),
        ):  # fmt: skip
            subprocess.run(
                [sys.executable, "-m", "reconcile.cli", *command, *common],
                env=plain | key | dict(env or {}), cwd=made.folder.parent,
                stdout=subprocess.DEVNULL, check=True,
            )  # fmt: skip
