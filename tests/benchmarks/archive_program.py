"""What every program that reads the archive is told, and how each reports what it took.

A program is a script of this folder, run in a process of its own. Its clock starts when everything
is imported and stops when the table is on disk; its memory is the most it ever held.
"""

from __future__ import annotations

import argparse
import json
import resource
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date, datetime
from pathlib import Path


@dataclass(frozen=True)
class Task:
    """One archive to read.

    Attributes:
        archive: the report, a ZIP of CSV.
        key: the file that holds the key of the hash of recipients.
        out: a folder of the program's own.
        day: the UTC day that the report is of.
        as_of: when it was asked for.
        account: the account that it was asked of.
        memory_limit: for the program whose engine takes one.
    """

    archive: Path
    key: Path
    out: Path
    day: date
    as_of: datetime
    account: str
    memory_limit: str

    @property
    def target(self) -> Path:
        """The file that must hold the records in the end."""
        return self.out / "records" / f"day={self.day}" / "records.parquet"


def run(read: Callable[[Task], None]) -> None:
    """Reads what the command line names, and prints seconds and peak memory as JSON."""
    task = _told()
    begun, used = time.perf_counter(), time.process_time()
    read(task)
    seconds, cpu = time.perf_counter() - begun, time.process_time() - used
    peak_kb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    print(json.dumps({"seconds": seconds, "cpu": cpu, "peak_mb": peak_kb / 1024}))


def _told() -> Task:
    parser = argparse.ArgumentParser()
    for name in ("archive", "key", "out"):
        parser.add_argument(name, type=Path)
    parser.add_argument("--day", type=date.fromisoformat, required=True)
    parser.add_argument("--as-of", type=datetime.fromisoformat, required=True)
    parser.add_argument("--account", required=True)
    parser.add_argument("--memory-limit", required=True)
    return Task(**vars(parser.parse_args()))
