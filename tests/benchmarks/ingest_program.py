"""What every program that takes captures in is told, and how each reports what it took.

A program is a script of this folder, run in a process of its own. Its clock starts when everything
is imported and stops when its tables are on disk; its memory is the most it ever held.
"""

from __future__ import annotations

import argparse
import json
import resource
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path


@dataclass(frozen=True)
class Task:
    """What to take in.

    Attributes:
        captures: a capture, or a folder of some.
        key: the file that holds the key of the hash of recipients.
        out: a folder of the program's own.
        as_of: when it is taken in; the rejects' partition is named after its day.
        memory_limit: for the program whose engine takes one.
    """

    captures: Path
    key: Path
    out: Path
    as_of: datetime
    memory_limit: str

    def target(self, table: str, day: str) -> Path:
        """The file of one partition, its folder made."""
        path = self.out / table / f"day={day}" / f"{table}.parquet"
        path.parent.mkdir(parents=True, exist_ok=True)
        return path


def run(take: Callable[[Task], dict[str, int] | None]) -> None:
    """Takes in what the command line names; prints seconds, peak memory and counts as JSON."""
    task = _told()
    begun, used = time.perf_counter(), time.process_time()
    counted = take(task) or {}
    seconds, cpu = time.perf_counter() - begun, time.process_time() - used
    peak_kb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    print(json.dumps({"seconds": seconds, "cpu": cpu, "peak_mb": peak_kb / 1024} | counted))


def _told() -> Task:
    parser = argparse.ArgumentParser()
    for name in ("captures", "key", "out"):
        parser.add_argument(name, type=Path)
    parser.add_argument("--as-of", type=datetime.fromisoformat, required=True)
    parser.add_argument("--memory-limit", required=True)
    return Task(**vars(parser.parse_args()))
