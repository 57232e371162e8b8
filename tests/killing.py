"""An ordeal: a download under a random mixture of passing faults, killed again and again.

    python -m tests.killing --messages 300000 --days 3 --kills 10 --via sync

The sandbox serves, struck by every fault that may pass, each with a small probability; the command
`reconcile fetch` runs against it as a person would run it, is killed (SIGKILL) at random moments,
and at last left alone. What it then holds is compared with the world, and what was billed with what
may have been lost.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import duckdb

from reconcile.days import DAY, iso
from reconcile.reports.download import AT_ONCE
from reconcile.sandbox.generate import START, generate
from reconcile.sandbox.server import Sandbox

# Each answer that may be struck is, with this probability, by each of these.
SHARES = {
    "rate_limited": 0.02, "rate_limited_retry_after": 0.005, "error_500": 0.02, "error_502": 0.02,
    "error_503": 0.02, "html_page": 0.01, "stall": 0.01, "stall_mid_body": 0.01,
    "cut_before_answer": 0.02, "cut_mid_body": 0.02, "page_twice": 0.02, "cursor_expired": 0.01,
    "cursor_only": 0.1, "next_without_truncated": 0.1, "items_count_wrong": 0.1,
    "column_added": 0.1, "columns_shuffled": 0.1, "clock_skew": 0.1, "slow_report": 0.1,
    "shape_flat": 0.2, "report_failed": 0.1, "report_aborted": 0.1, "zip_cut_short": 0.1,
    "zip_bad_crc": 0.1, "not_a_zip": 0.1, "zip_two_csvs": 0.2, "zip_other_members": 0.2,
}  # fmt: skip
# Answers that were made, and billed, and did not come whole.
LOST = ("stall", "stall_mid_body", "cut_before_answer", "cut_mid_body", "page_twice")
PAGE = 1000


@dataclass(frozen=True)
class Ordeal:
    """How it ended.

    Attributes:
        wrong: records that differ from the world's, lack, or are too many.
        kills, runs: how often it was killed, and how many runs it took after that.
        billed, owed: records that were billed, and that the world has.
        allowed: how many more may have been billed.
        struck: how often each fault struck.
    """

    wrong: int
    kills: int
    runs: int
    billed: int
    owed: int
    allowed: int
    struck: dict[str, int]


def ordeal(
    folder: Path,
    *,
    messages: int,
    days: int,
    kills: int,
    via: str,
    seed: int,
    patience: float = 4.0,
    read_timeout: float = 5.0,
    most_runs: int = 10,
) -> Ordeal:
    """Makes a world, and downloads it against all odds.

    Args:
        folder: an empty one.
        messages, days, seed: of the world.
        kills: how often the download is killed, each time after at most `patience` seconds.
        read_timeout: seconds; the sandbox needs some to spoil a large archive, and stalls longer.
        via: sync or async.
        most_runs: how often it may be started again after that.
    """
    world = generate(folder / "world", messages=messages, days=days, seed=seed)
    rng = random.Random(seed)
    with Sandbox(
        world.folder, now=world.mature_at, pending_seconds=0.3, faults=SHARES, fault_seed=seed,
        stall_seconds=read_timeout + 1,
    ) as sandbox:  # fmt: skip
        command, environment = (
            _command(folder, sandbox, world.mature_at, days, via, read_timeout),
            _env(sandbox),
        )
        killed = 0
        for _ in range(kills):
            running = subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True)
            time.sleep(rng.uniform(0.6, patience))
            killed += running.poll() is None
            running.send_signal(signal.SIGKILL)
            running.communicate()
        for runs in range(1, most_runs + 1):
            ended = subprocess.run(command, env=environment, stderr=subprocess.PIPE, text=True)
            if ended.returncode == 0:
                break
            print(f"run {runs}: exit {ended.returncode}: {ended.stderr.strip()}", file=sys.stderr)
        struck = dict(sandbox.cruelty.struck)
        lost = sum(struck.get(name, 0) for name in LOST) + killed * AT_ONCE
        refused = struck.get("cursor_expired", 0) * PAGE
        return Ordeal(
            _wrong(folder / "store", world.folder), killed, runs, sandbox.billed_records, messages,
            lost * PAGE + refused if via == "sync" else 0, struck,
        )  # fmt: skip


def _command(
    folder: Path, sandbox: Sandbox, as_of: object, days: int, via: str, read_timeout: float
) -> list[str]:
    return [
        sys.executable, "-m", "reconcile.cli", "fetch", "--base-url", sandbox.base_url,
        "--store", str(folder / "store"), "--from", str(START), "--to", str(START + days * DAY),
        "--as-of", iso(as_of), "--via", via, "--read-timeout", f"{read_timeout}s",  # type: ignore[arg-type]
        "--retry-longest", "500ms", "--poll-first", "200ms", "--poll-max", "500ms", "--pii", "keep",
    ]  # fmt: skip


def _env(sandbox: Sandbox) -> dict[str, str]:
    plain = {k: v for k, v in os.environ.items() if not k.startswith(("RECONCILE", "VONAGE"))}
    key = {"VONAGE_API_KEY": sandbox.api_key, "VONAGE_API_SECRET": sandbox.api_secret}
    return plain | key


def _wrong(store: Path, world: Path) -> int:
    """Records of the store that are not the world's, and those of the world that are not here."""
    con = duckdb.connect()
    con.execute("SET TimeZone = 'UTC'")
    here = f"""SELECT message_id, recipient, status, price, epoch_ms(received_at) AS received
               FROM read_parquet('{store}/records/*/*.parquet', hive_partitioning = false)"""
    there = f"""SELECT message_id, "to", coalesce(status, status_before), total_price,
                    epoch_ms(date_received)
                FROM read_parquet('{world}/world/*/*.parquet', hive_partitioning = false)"""
    found = con.execute(
        f"SELECT (SELECT count(*) FROM ({here} EXCEPT ALL {there})) "
        f"+ (SELECT count(*) FROM ({there} EXCEPT ALL {here}))"
    ).fetchone()
    assert found is not None
    return int(found[0])


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--messages", type=int, default=300_000)
    parser.add_argument("--days", type=int, default=3)
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--via", choices=("sync", "async"), default="async")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--patience", type=float, default=4.0, help="longest time before a kill")
    parser.add_argument("--read-timeout", type=float, default=20.0)
    with tempfile.TemporaryDirectory(prefix="ordeal-") as scratch:
        found = ordeal(Path(scratch), **vars(parser.parse_args()))
    print(json.dumps(found.__dict__, indent=1))
