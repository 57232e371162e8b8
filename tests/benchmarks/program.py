"""What every benchmarked program is told, and how each reports what it took.

A program is a script of this folder, run in a process of its own. Its clock starts when everything
is imported and stops when the last table is on disk; its memory is the most it ever held.
"""

from __future__ import annotations

import argparse
import json
import resource
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from pathlib import Path

# The settings that verdicts depend on, at the job's own defaults.
VALIDITY_MS = 72 * 3_600_000
LONGEST_VALIDITY_MS = 7 * 24 * 3_600_000
GRACE_MS = 24 * 3_600_000
TOO_FAST_MS = 800
CURRENCY = "EUR"
TABLES = ("verdicts", "orphans", "summary", "reasons", "error_codes")


@dataclass(frozen=True)
class Task:
    """One day to judge.

    Attributes:
        store: the folder that holds `records` and `receipts`.
        out: the folder for the five tables.
        day: the UTC day.
        as_of: the moment to judge at.
        account: the one account that is ours.
        memory_limit: for the programs whose engine takes one.
    """

    store: Path
    out: Path
    day: date
    as_of: datetime
    account: str
    memory_limit: str

    def records(self) -> list[Path]:
        """Files of the day's records."""
        return self._files("records", [str(self.day)])

    def records_in_reach(self) -> list[Path]:
        """Files in which the records of the day's receipts can be."""
        return self._files("records", [str(self.day + timedelta(days=1 - n)) for n in range(10)])

    def receipts(self) -> list[Path]:
        """Files of the day's receipts."""
        return self._files("receipts", [str(self.day)])

    def receipts_in_reach(self) -> list[Path]:
        """Files in which the receipts of the day's records can be."""
        days = [str(self.day + timedelta(days=n)) for n in range(-1, 9)]
        return self._files("receipts", [*days, "undated"])

    def target(self, table: str) -> Path:
        """The file of one of the five tables; its folder is made."""
        path = _file(self.out, table, str(self.day))
        path.parent.mkdir(parents=True, exist_ok=True)
        return path

    def _files(self, table: str, days: list[str]) -> list[Path]:
        paths = [_file(self.store, table, day) for day in days]
        return [path for path in paths if path.exists()]


def run(judge: Callable[[Task], None]) -> None:
    """Judges what the command line names, and prints seconds and peak memory as JSON."""
    task = told()
    begun = time.perf_counter()
    judge(task)
    tell(time.perf_counter() - begun)


def tell(seconds: float) -> None:
    """Prints what it took, and the most memory that this process ever held."""
    peak_kb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    print(json.dumps({"seconds": seconds, "peak_mb": peak_kb / 1024}))


def told() -> Task:
    """What the command line names."""
    parser = argparse.ArgumentParser()
    parser.add_argument("store", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--day", type=date.fromisoformat, required=True)
    parser.add_argument("--as-of", type=datetime.fromisoformat, required=True)
    parser.add_argument("--account", required=True)
    parser.add_argument("--memory-limit", required=True)
    return Task(**vars(parser.parse_args()))


def _file(folder: Path, table: str, day: str) -> Path:
    return folder / table / f"day={day}" / f"{table}.parquet"
