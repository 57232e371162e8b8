"""Nights one after the other, each held against what was true then.

    python -m tests.nights --messages 1400000 --days 14

Generated traffic with every fault, receipts up to seven days late. Each night at 02:30 the command
`run` works on the captures of the days before, and the sandbox shows the records as they are then.
After it every verdict of every open day must be what `reference_judge` says of the same night: from
the generator's own world, and from the receipts that were captured by then. At the end one run over
all days in another store must have made the same verdicts as the nights.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import subprocess
import sys
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from reconcile.days import DAY, days_between, iso
from reconcile.sandbox.generate import START, Generated, generate
from reconcile.sandbox.server import Sandbox
from tests import reference_judge as reference

Row = dict[str, Any]
AT_NIGHT = timedelta(hours=2, minutes=30)
# The receipts that were captured by a night, by their message.
HEARD: dict[str, list[Row]] = {}
HORIZON = 8  # days: the longest validity of a message, and the grace of its webhook


@dataclass
class Nights:
    """The nights over a folder of traffic; `wrong`: what was not as it should have been."""

    folder: Path
    made: Generated
    sandbox: Sandbox
    checked: int = 0
    wrong: list[str] = field(default_factory=list)
    changed: Counter[str] = field(default_factory=Counter)

    def night(self, morning: date) -> None:
        """One run, and what it must have concluded."""
        moment = datetime.combine(morning, datetime.min.time(), UTC) + AT_NIGHT
        self.capture(morning)
        self.run(self.folder / "store", moment)
        judged = json.loads((self.folder / "store" / "ledger.json").read_text())["judged"]
        open_days = [day for day, told in judged.items() if told["as_of"] == iso(moment)]
        # Children are made when all is there that they look at: nothing is sent to them.
        HEARD.clear()
        HEARD.update(self.heard(moment))
        hold = partial(held, self.folder / "store", self.made.folder / "world", moment)
        fork = multiprocessing.get_context("fork")
        with ProcessPoolExecutor(os.cpu_count(), mp_context=fork) as beside:
            for checked, wrong in beside.map(hold, sorted(open_days)):
                self.checked += checked
                self.wrong += wrong

    def capture(self, morning: date) -> None:
        """The captures of the days before: a link each, the next day's are not there yet."""
        there = self.folder / "dlr"
        there.mkdir(exist_ok=True)
        for file in sorted((self.made.folder / "dlr").iterdir()):
            day = date.fromisoformat(file.name.split("-", 1)[1][:10])
            if day < morning and not (there / file.name).exists():
                (there / file.name).hardlink_to(file)

    def run(self, store: Path, moment: datetime, *days: str) -> None:
        """The command as cron would run it."""
        self.sandbox.now = moment
        plain = {k: v for k, v in os.environ.items() if not k.startswith(("RECONCILE", "VONAGE"))}
        key = {"VONAGE_API_KEY": self.sandbox.api_key, "VONAGE_API_SECRET": self.sandbox.api_secret}
        command = [
            sys.executable, "-m", "reconcile.cli", "run", "--store", str(store), "--pii", "keep",
            "--base-url", self.sandbox.base_url, "--dlr", str(self.folder / "dlr" / "*"),
            "--as-of", iso(moment), "--poll-first", "50ms", "--lookback", "1d",
            "--refresh-limit", "1000000", *days,
        ]  # fmt: skip
        ended = subprocess.run(
            command, env=plain | key, cwd=self.folder, capture_output=True, text=True, check=False
        )
        if ended.returncode != 0:
            raise SystemExit(f"{iso(moment)}: exit {ended.returncode}: {ended.stderr}")

    def heard(self, moment: datetime) -> dict[str, list[Row]]:
        """All receipts that were captured by then, by their message."""
        found: dict[str, list[Row]] = defaultdict(list)
        for path in sorted((self.folder / "store" / "receipts").glob("*/*.parquet")):
            for row in pq.ParquetFile(path).read().to_pylist():
                if reference.is_known(row, moment):
                    found[row["message_id"]].append(row)
        return found

    def count_changes(self) -> None:
        """What the nights changed, by verdicts and why."""
        for path in sorted((self.folder / "store" / "changes").glob("*/*.parquet")):
            for row in pq.ParquetFile(path).read().to_pylist():
                self.changed[f"{row['from_verdict']} → {row['to_verdict']}: {row['why']}"] += 1


def held(store: Path, world: Path, moment: datetime, day: str) -> tuple[int, list[str]]:
    """Each verdict of a day against the reference's: how many there are, and those that differ."""
    path = store / "verdicts" / f"day={day}" / "verdicts.parquet"
    table = pq.ParquetFile(path).read(["message_id", "verdict", "reasons"])
    told = {r["message_id"]: (r["verdict"], r["reasons"]) for r in table.to_pylist()}
    checked, wrong = 0, []
    for record in records_then(store, world, day, moment):
        name = record["message_id"]
        known = reference.as_known(record, moment)
        wanted = reference.judge(known, HEARD.get(name, []), moment, [known])
        checked += 1
        if told.pop(name, None) != wanted:
            wrong.append(f"{iso(moment)} {day} {name}: not {wanted}")
    return checked, wrong + [f"{iso(moment)} {day} {name}: of no record" for name in told]


def records_then(store: Path, world: Path, day: str, moment: datetime) -> Iterator[Row]:
    """A day's records as the API shows them then, as rows of `records`."""
    path = store / "records" / f"day={day}" / "records.parquet"
    kept = {row["message_id"]: row for row in pq.ParquetFile(path).read().to_pylist()}
    for file in sorted((world / f"day={day}").glob("*.parquet")):
        for row in pq.ParquetFile(file).read().to_pylist():
            yield known_then(row, kept[row["message_id"]], moment)


def known_then(row: Row, kept: Row, moment: datetime) -> Row:
    """A record of the world as it was then; what Vonage says of it is the world's word."""
    ended = row["date_finalized"]
    over = ended is not None and ended <= moment
    return kept | {
        "status": row["status"] if over else row["status_before"],
        "finalized_at": ended if over else None,
        "latency_ms": row["latency"] if over else None,
        "fetched_at": moment,  # whoever is not final is asked again each night
    }


def equal(one: Path, other: Path) -> int:
    """How many verdicts differ between two stores, whatever the night of their judging."""
    tables = [
        pa.concat_tables([
            pq.ParquetFile(path).read() for path in sorted((store / "verdicts").glob("*/*.parquet"))
        ]).sort_by("message_id")
        for store in (one, other)
    ]  # fmt: skip
    if tables[0].num_rows != tables[1].num_rows:
        return abs(tables[0].num_rows - tables[1].num_rows)
    left, right = (table.to_pylist() for table in tables)
    return sum(a != b for a, b in zip(left, right, strict=True))


def main() -> None:
    """Makes the traffic, plays the nights, and says what was wrong."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--messages", type=int, default=1_400_000)
    parser.add_argument("--days", type=int, default=14)
    parser.add_argument("--seed", type=int, default=5)
    parser.add_argument("--folder", type=Path, help="where to make a scratch folder")
    told = parser.parse_args()
    begun = time.monotonic()
    with tempfile.TemporaryDirectory(dir=told.folder, prefix="nights-") as scratch:
        folder = Path(scratch)
        made = generate(folder / "world", messages=told.messages, days=told.days, seed=told.seed)
        with Sandbox(made.folder, pending_seconds=0.05) as sandbox:
            nights = Nights(folder, made, sandbox)
            mornings = days_between(START + DAY, START + (told.days + HORIZON + 3) * DAY)
            for morning in mornings:
                nights.night(morning)
                spent = f"{time.monotonic() - begun:.0f} s"
                count = f"{nights.checked:,} verdicts held, {len(nights.wrong)} wrong"
                print(f"night of {morning}: {count}, {spent}", flush=True)
            last = datetime.combine(mornings[-1], datetime.min.time(), UTC) + AT_NIGHT
            span = ("--from", str(START), "--to", str(START + told.days * DAY))
            nights.run(folder / "once", last, *span)
            nights.count_changes()
            differ = equal(folder / "store", folder / "once")
    for line in nights.wrong[:20]:
        print(line)
    for what, count in nights.changed.most_common():
        print(f"{count:>9,}  {what}")
    print(f"{nights.checked:,} verdicts of open days held, {len(nights.wrong)} wrong")
    print(f"{differ} differ from those of one run at the end; {time.monotonic() - begun:.0f} s")
    raise SystemExit(bool(nights.wrong or differ))


if __name__ == "__main__":
    main()
