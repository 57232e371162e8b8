"""Times the judging of one day against three programs that conclude the same.

    python tests/benchmarks/judging.py --messages 1000000 5000000

First all four must write the same tables; only then is anything timed. This process imports
nothing heavy: a child's peak memory begins with what its parent held when it was started.
"""

from __future__ import annotations

import argparse
import json
import math
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tests.benchmarks import contest
from tests.benchmarks.harness import environment, machine, python, say

PROGRAMS = {
    "ours": "ours.py",
    "(a) plain pandas": "rival_plain_pandas.py",
    "(b) DuckDB SQL": "rival_sql.py",
    "(c) tuned pandas": "rival_pandas.py",
}
# The same as ours, and the day's networks besides: no rival judges those.
WITH_NETWORKS = {"ours, and networks": "ours_networks.py"}
STARTS = 20


def main() -> None:
    """Prepares, compares, times and prints."""
    told = _told()
    print(machine(told.memory_limit), "\n")
    with tempfile.TemporaryDirectory(dir=told.folder, prefix="judging-") as scratch:
        tables = []
        for messages in told.messages:
            folder = Path(scratch, str(messages))
            programs = WITH_NETWORKS if told.alone else PROGRAMS | WITH_NETWORKS
            say(f"{messages}: making the traffic")
            day = contest.make(folder, messages, told.other_days)
            tables += judging(day, programs, told.runs, told.memory_limit)
            shutil.rmtree(folder)
    print("| messages | program | median s | × ours | µs each | peak MB |")
    print("|---:|---|---:|---:|---:|---:|")
    print(*tables, sep="\n")
    print("\n| start | median ms | ratio |\n|---|---:|---:|")
    print(*starts(), sep="\n")


def judging(day: contest.Day, programs: dict[str, str], runs: int, memory_limit: str) -> list[str]:
    """Rows of the table for one size: medians of interleaved runs."""
    messages = day.messages
    calls = {name: day.call(script, memory_limit) for name, script in programs.items()}
    if "ours" in calls:
        _compare(day, calls)
    taken: dict[str, list[dict[str, float]]] = {name: [] for name in calls}
    for run in range(runs):
        for name, call in calls.items():
            taken[name].append(json.loads(python(*call)))
            say(f"{messages}: run {run + 1}, {name}: {taken[name][-1]['seconds']:.1f} s")
    seconds = {name: statistics.median(t["seconds"] for t in taken[name]) for name in taken}
    ours = seconds.get("ours", math.nan)
    return [
        f"| {messages:,} | {name} | {seconds[name]:.1f} | {seconds[name] / ours:.2f} | "
        f"{seconds[name] / messages * 1e6:.2f} | "
        f"{max(t['peak_mb'] for t in taken[name]):.0f} |"
        for name in taken
    ]


def starts() -> list[str]:
    """What `reconcile --help` costs against the import of click alone."""
    click = [sys.executable, "-c", "import click"]
    ours = [sys.executable, "-c", "from reconcile.cli import main; main()", "--help"]
    medians = [
        statistics.median(_milliseconds(call) for _ in range(STARTS)) for call in (click, ours)
    ]
    return [
        f"| `{name}` | {median:.0f} | {median / medians[0]:.2f} |"
        for name, median in zip(
            ("python -c 'import click'", "reconcile --help"), medians, strict=True
        )
    ]


def _milliseconds(call: list[str]) -> float:
    begun = time.perf_counter()
    subprocess.run(call, check=True, stdout=subprocess.DEVNULL, env=environment())
    return (time.perf_counter() - begun) * 1000


def _compare(day: contest.Day, calls: dict[str, list[object]]) -> None:
    for name in PROGRAMS:
        python(*calls[name])
    outs = [(name, contest.out(day.folder, script)) for name, script in PROGRAMS.items()]
    if found := contest.differences(day, outs):
        raise SystemExit("\n".join(["they differ, so nothing was timed:", *found]))
    say("all four programs wrote the same tables")


def _told() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--messages", type=int, nargs="+", default=[1_000_000, 5_000_000])
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--memory-limit", default="1500MB", help="for ours and (b)")
    parser.add_argument("--other-days", type=int, default=0, help="also in reach (8 at night)")
    parser.add_argument("--alone", action="store_true", help="only ours, and networks")
    parser.add_argument("--folder", type=Path, help="where to make a scratch folder")
    return parser.parse_args()


if __name__ == "__main__":
    main()
