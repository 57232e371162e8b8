"""Says where judging spends its time, step by step, by the engine's own profile.

python -m tests.benchmarks.stages --messages 5000000 20000000
"""

from __future__ import annotations

import argparse
import json
import shutil
import tempfile
from pathlib import Path

from tests.benchmarks import contest
from tests.benchmarks.harness import machine, python, say

KINDS = ("scan", "join", "group", "window", "project", "sort", "write", "rest")


def main() -> None:
    """Makes a day of each size, judges it, and prints a table of each."""
    told = _told()
    print(machine(told.memory_limit))
    with tempfile.TemporaryDirectory(dir=told.folder, prefix="stages-") as scratch:
        for messages in told.messages:
            say(f"{messages:,}: making the traffic")
            day = contest.make(Path(scratch, str(messages)), messages)
            steps = json.loads(python(*day.call("ours_stages.py", told.memory_limit)))
            print(f"\n{messages:,} messages\n", *table(steps), sep="\n", flush=True)
            shutil.rmtree(day.folder)


def table(steps: dict[str, dict[str, float]]) -> list[str]:
    """A row a step, the longest first; operators in seconds of all threads together."""
    whole = steps.pop("all")
    # What belongs to no step is Python's: opening, the ledger, publication.
    for name in ("seconds", "cpu"):
        apart = whole[name] - sum(step.get(name, 0) for step in steps.values())
        steps.setdefault("rest", {})[name] = apart
    rows = [*sorted(steps.items(), key=lambda step: -step[1]["seconds"]), ("all", whole)]
    lines = [f"| step | seconds | CPU s | {' | '.join(KINDS)} |",
             f"|---|{'---:|' * (len(KINDS) + 2)}"]  # fmt: skip
    for name, step in rows:
        if name == "all":
            step |= {kind: sum(each.get(kind, 0) for each in steps.values()) for kind in KINDS}
        cells = [f"{step.get(kind, 0):.1f}" for kind in ("seconds", "cpu", *KINDS)]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return lines


def _told() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--messages", type=int, nargs="+", default=[5_000_000])
    parser.add_argument("--memory-limit", default="8GB")
    parser.add_argument("--folder", type=Path, help="where to make a scratch folder")
    return parser.parse_args()


if __name__ == "__main__":
    main()
