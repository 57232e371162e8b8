"""Times reading a report's archive into `records` against csv.DictReader and pandas.read_csv.

    python -m tests.benchmarks.archive --messages 2000000

First all three must make the same table; only then is anything timed. This process imports nothing
heavy: a child's peak memory begins with what its parent held when it was started.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import tempfile
from pathlib import Path

from tests.benchmarks.harness import machine, python, say

HERE = Path(__file__).resolve().parent

PROGRAMS = {
    "ours": "archive_ours.py",
    "(a) csv.DictReader": "archive_rival_csv.py",
    "(b) pandas.read_csv": "archive_rival_pandas.py",
}


def main() -> None:
    """Prepares, compares, times and prints."""
    told = _told()
    print(machine(told.memory_limit), "\n")
    print("| messages | program | median s | CPU s | × ours | peak MB |")
    print("|---:|---|---:|---:|---:|---:|", flush=True)
    with tempfile.TemporaryDirectory(dir=told.folder, prefix="archive-") as scratch:
        for messages in told.messages:
            folder = Path(scratch, str(messages))
            folder.mkdir()
            print(*reading(folder, messages, told.runs, told.memory_limit), sep="\n", flush=True)
            shutil.rmtree(folder)
        if told.memory_at:
            folder = Path(scratch, "memory")
            folder.mkdir()
            print(alone(folder, told.memory_at, told.memory_limit))


def reading(folder: Path, messages: int, runs: int, memory_limit: str) -> list[str]:
    """Rows of the table for one size: medians of interleaved runs."""
    calls = _calls(folder, messages, memory_limit)
    _compare(folder, calls)
    taken: dict[str, list[dict[str, float]]] = {name: [] for name in PROGRAMS}
    for run in range(runs):
        for name, call in calls.items():
            shutil.rmtree(call[3], ignore_errors=True)
            taken[name].append(json.loads(python(*call)))
            say(f"{messages}: run {run + 1}, {name}: {taken[name][-1]}")
    middle = {
        name: [statistics.median(t[what] for t in taken[name]) for what in ("seconds", "cpu")]
        for name in taken
    }
    ours = middle["ours"][0]
    return [
        f"| {messages:,} | {name} | {seconds:.1f} | {cpu:.1f} | {seconds / ours:.2f} | "
        f"{max(t['peak_mb'] for t in taken[name]):.0f} |"
        for name, (seconds, cpu) in middle.items()
    ]


def alone(folder: Path, messages: int, memory_limit: str) -> str:
    """A row of the table for ours only: its memory must not grow with the archive."""
    took = json.loads(python(*_calls(folder, messages, memory_limit)["ours"]))
    return (
        f"| {messages:,} | ours, once | {took['seconds']:.1f} | {took['cpu']:.1f} | | "
        f"{took['peak_mb']:.0f} |"
    )


def _calls(folder: Path, messages: int, memory_limit: str) -> dict[str, list[object]]:
    """Makes the archive; says how each program is called for it."""
    say(f"{messages}: making the archive")
    made = json.loads(python(HERE / "archive_traffic.py", folder, messages))
    say(f"{messages}: {made['records']} records in {made['bytes'] / 1e6:.0f} MB")
    return {
        name: [
            HERE / script, folder / "report.zip", folder / "pii.key", _out(folder, script),
            "--day", made["day"], "--as-of", made["as_of"], "--account", made["account"],
            "--memory-limit", memory_limit,
        ]
        for name, script in PROGRAMS.items()
    }  # fmt: skip


def _out(folder: Path, script: str) -> Path:
    return folder / script.removesuffix(".py")


def _compare(folder: Path, calls: dict[str, list[object]]) -> None:
    for call in calls.values():
        python(*call)
    files = {
        name: next(_out(folder, script).glob("records/*/*.parquet"))
        for name, script in PROGRAMS.items()
    }
    for name in list(PROGRAMS)[1:]:
        found = python(HERE / "archive_equal.py", files["ours"], files[name])
        if found:
            raise SystemExit(f"ours and {name} differ, so nothing was timed:\n{found}")
    say("all three programs made the same table")


def _told() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--messages", type=int, nargs="+", default=[2_000_000])
    parser.add_argument("--memory-at", type=int, default=6_000_000, help="0: not asked")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--memory-limit", default="240MB", help="for ours")
    parser.add_argument("--folder", type=Path, help="where to make a scratch folder")
    return parser.parse_args()


if __name__ == "__main__":
    main()
