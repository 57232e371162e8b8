"""What every program that does the whole night is told, and how each reports what it took.

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
from datetime import date, datetime
from pathlib import Path


@dataclass(frozen=True)
class Task:
    """One day, from what came to what is published.

    Attributes:
        archive: the day's report, a ZIP of CSV.
        captures: its receipts, NDJSON.
        key: the file that holds the key of the hash of recipients.
        out: a folder of the program's own, which becomes its store.
        day: the UTC day.
        as_of: when the report was made, the captures were taken in, and the day is judged.
        account: the one account that is ours.
        memory_limit: for the program whose engine takes one.
    """

    archive: Path
    captures: Path
    key: Path
    out: Path
    day: date
    as_of: datetime
    account: str
    memory_limit: str


def run(work: Callable[[Task], dict[str, float]]) -> None:
    """Does what the command line names; prints seconds, also by stage, and peak memory as JSON."""
    task = _told()
    begun, used = time.perf_counter(), time.process_time()
    stages = work(task)
    seconds, cpu = time.perf_counter() - begun, time.process_time() - used
    peak_kb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    print(json.dumps({"seconds": seconds, "cpu": cpu, "peak_mb": peak_kb / 1024, **stages}))


def _told() -> Task:
    parser = argparse.ArgumentParser()
    for name in ("archive", "captures", "key", "out"):
        parser.add_argument(name, type=Path)
    parser.add_argument("--day", type=date.fromisoformat, required=True)
    parser.add_argument("--as-of", type=datetime.fromisoformat, required=True)
    parser.add_argument("--account", required=True)
    parser.add_argument("--memory-limit", required=True)
    return Task(**vars(parser.parse_args()))
