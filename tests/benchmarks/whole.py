"""Times a whole night, from a report's archive and captures to all tables, against plain pandas.

    python -m tests.benchmarks.whole --messages 1000000

First both must publish the same tables; only then is anything timed. This process imports nothing
heavy: a child's peak memory begins with what its parent held when it was started.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import sys
import tempfile
import time
from pathlib import Path

from tests.benchmarks.harness import machine, python, say

HERE = Path(__file__).resolve().parent
PROGRAMS = {"ours": "whole_ours.py", "plain pandas": "whole_rival_pandas.py"}
# The same as ours, and the day's networks besides: the rival does not judge those.
WITH_NETWORKS = {"ours, and networks": "whole_ours_networks.py"}
STAGES = ("archive", "captures", "judging")
COMMANDS = "ours, as three commands"
Calls = dict[str, list[object]]
Took = dict[str, float]


def main() -> None:
    """Prepares, compares, times and prints."""
    told = _told()
    print(machine(told.memory_limit), "\n")
    columns = ["messages", "program", "median s", "CPU s", "× ours", *STAGES, "peak MB"]
    print(f"| {' | '.join(columns)} |")
    print("|---:|---|---:|---:|---:|---:|---:|---:|---:|", flush=True)
    with tempfile.TemporaryDirectory(dir=told.folder, prefix="whole-") as scratch:
        for messages in told.messages:
            folder = Path(scratch, str(messages)).resolve()
            folder.mkdir()
            print(*whole(folder, messages, told.runs, told.memory_limit), sep="\n", flush=True)
            shutil.rmtree(folder)


def whole(folder: Path, messages: int, runs: int, memory_limit: str) -> list[str]:
    """Rows of the table for one size: medians of interleaved runs."""
    say(f"{messages}: making the archive and the captures")
    made = json.loads(python(HERE / "whole_traffic.py", folder, messages))
    say(f"{messages}: {made['records']} records, {made['lines']} captured lines")
    calls = _calls(folder, made, memory_limit)
    _compare(folder, calls, made["day"])
    taken: dict[str, list[Took]] = {name: [] for name in (*calls, COMMANDS)}
    for run in range(runs):
        for name, call in calls.items():
            _fresh(folder, call)
            taken[name].append(json.loads(python(*call)))
            say(f"{messages}: run {run + 1}, {name}: {taken[name][-1]}")
        taken[COMMANDS].append(_commands(folder, made, memory_limit))
        say(f"{messages}: run {run + 1}, {COMMANDS}: {taken[COMMANDS][-1]}")
    ours = _median(taken["ours"], "seconds")
    return [_row(messages, name, took, ours) for name, took in taken.items()]


def _row(messages: int, name: str, took: list[Took], ours: float) -> str:
    seconds = _median(took, "seconds")
    told = [f"{_median(took, what):.1f}" if what in took[0] else "" for what in ("cpu", *STAGES)]
    peak = f"{max(t['peak_mb'] for t in took):.0f}" if "peak_mb" in took[0] else ""
    cells = [f"{messages:,}", name, f"{seconds:.1f}", told[0], f"{seconds / ours:.2f}"]
    return f"| {' | '.join([*cells, *told[1:], peak])} |"


def _median(took: list[Took], what: str) -> float:
    return statistics.median(t[what] for t in took)


def _calls(folder: Path, made: dict[str, str], memory_limit: str) -> Calls:
    return {
        name: [
            HERE / script, folder / "report.zip", folder / "dlr.ndjson", folder / "pii.key",
            folder / script.removesuffix(".py"),
            "--day", made["day"], "--as-of", made["as_of"], "--account", made["account"],
            "--memory-limit", memory_limit,
        ]
        for name, script in (PROGRAMS | WITH_NETWORKS).items()
    }  # fmt: skip


def _fresh(folder: Path, call: list[object]) -> Path:
    """The program's own folder: the store as it was the night before."""
    out = Path(str(call[4]))
    shutil.rmtree(out, ignore_errors=True)
    shutil.copytree(folder / "store", out)
    return out


def _compare(folder: Path, calls: Calls, day: str) -> None:
    outs = []
    for name in PROGRAMS:
        outs.append(_fresh(folder, calls[name]))
        python(*calls[name])
    found = python(HERE / "equal.py", *outs, "--day", day)
    if found:
        raise SystemExit(f"ours and pandas differ, so nothing was timed:\n{found}")
    say("both programs published the same tables")


def _commands(folder: Path, made: dict[str, str], memory_limit: str) -> Took:
    """The seconds that a user waits for the real commands, starts of processes included."""
    store = _fresh(folder, [None] * 4 + [folder / "commands"])
    settings = folder / "reconcile.toml"
    settings.write_text(
        f'store = "{store}"\npii_key_file = "{folder / "pii.key"}"\ncurrency = "EUR"\n'
        f'memory_limit = "{memory_limit}"\n'
    )
    common = ["--config", settings, "--as-of", made["as_of"]]
    seconds = []
    for command in (
        ["fetch", "--archive", folder / "report.zip"],
        ["ingest", folder / "dlr.ndjson"],
        ["judge", "--date", made["day"]],
    ):
        begun = time.perf_counter()
        python("-m", "reconcile.cli", *command, *common)
        seconds.append(time.perf_counter() - begun)
    return {"seconds": sum(seconds), **dict(zip(STAGES, seconds, strict=True))}


def _told() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--messages", type=int, nargs="+", default=[1_000_000])
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--memory-limit", default="1500MB", help="for ours")
    parser.add_argument("--folder", type=Path, help="where to make a scratch folder")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
