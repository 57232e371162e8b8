"""Makes docs/performance.md: our judging against programs that conclude the same, by size.

    python -m tests.benchmarks.performance

After the first run all programs that judge must have written the same tables, else nothing is kept.
The measurements are kept beside the page; `--render` makes page and figure from them again. This
process imports nothing heavy: a child's peak memory begins with what its parent held when it was
started.
"""

from __future__ import annotations

import argparse
import json
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tests.benchmarks import contest, guarded
from tests.benchmarks.contest import PROGRAMS, SPARK, Day, Program
from tests.benchmarks.guarded import FAILED, Ended
from tests.benchmarks.harness import ROOT, hardware, say, versions

NAME = "performance"
Measured = dict[str, Any]


def main(arguments: Sequence[str] | None = None) -> None:
    """Measures and writes; with `--render`, only writes. Ends with 1 where a program failed."""
    told = _told(arguments)
    kept = told.docs / f"{NAME}.json"
    if not told.render:
        with tempfile.TemporaryDirectory(dir=told.folder, prefix=f"{NAME}-") as scratch:
            before = json.loads(kept.read_text("utf-8")) if told.add else None
            for measured in measurements(told, Path(scratch), before):
                kept.write_text(json.dumps(measured, indent=1, ensure_ascii=False) + "\n", "utf-8")
    measured = json.loads(kept.read_text("utf-8"))
    render(measured, told.docs)
    failed = [
        f"{size['messages']:,}: {name}: {one['why']}"
        for size in measured["sizes"]
        for name, one in size["programs"].items()
        if one.get("trouble") == FAILED
    ]
    if failed:
        raise SystemExit("\n".join(["these failed:", *failed]))


def measurements(
    told: argparse.Namespace, scratch: Path, before: Measured | None = None
) -> Iterator[Measured]:
    """What was measured so far, after each size: an outage loses no more than one.

    Args:
        told: the command line.
        scratch: a folder for the traffic.
        before: what was measured before; its other sizes stay.

    Raises:
        SystemExit: that was on another machine, or otherwise.
    """
    asked = [each for each in PROGRAMS if each.name in told.programs]
    left_out = {each.name: lacks for each in asked if (lacks := each.lacking())}
    for name, lacks in left_out.items():
        say(f"{name} is left out: this machine has no {lacks}")
    programs = [each for each in asked if each.name not in left_out]
    pythons = {each: _python(each, scratch) for each in programs}
    theirs = [_installed(each, python) for each, python in pythons.items() if each.needs and python]
    measured: Measured = {
        "measured_at": datetime.now(UTC).date().isoformat(),
        "hardware": hardware(),
        "versions": "; ".join(
            [versions("polars", *(["pyspark"] if SPARK in programs else [])), *theirs]
        ),
        "memory_limit": told.memory_limit,
        "most_mb": round(told.most_memory or guarded.most_of_memory()),
        "longest_s": told.longest,
        "left_out": left_out,
        "sizes": [],
    }
    if before:
        _refuse_other(before, measured)
        asked_for = [messages for messages, _ in told.sizes]
        kept = [size for size in before["sizes"] if size["messages"] not in asked_for]
        measured["sizes"], measured["left_out"] = kept, before["left_out"] | left_out
    contender = Contest(measured, pythons)
    for messages, runs in told.sizes:
        say(f"{messages:,}: making the traffic")
        day = contest.make(scratch / str(messages), messages)
        measured["sizes"].append(contender.held(day, runs))
        measured["sizes"].sort(key=lambda size: size["messages"])
        shutil.rmtree(day.folder)
        yield measured


def _refuse_other(before: Measured, now: Measured) -> None:
    """What stands on one page was measured alike; a program more or less changes no version."""
    for name in ("hardware", "memory_limit"):
        if before[name] != now[name]:
            raise SystemExit(f"--add: {name} was {before[name]} before, and is {now[name]}")
    by, by_before = (set(re.split("[,;] ", told["versions"])) for told in (now, before))
    if not by <= by_before:
        raise SystemExit(f"--add: by {before['versions']} before, and now {now['versions']}")
    # How much memory is free differs by the minute.
    now |= {name: before[name] for name in ("versions", "most_mb", "longest_s")}


class Contest:
    """The programs of one comparison, and which of them are out of it."""

    def __init__(self, measured: Measured, pythons: dict[Program, Path | None]) -> None:
        self.measured = measured
        self.pythons = pythons
        self.out: dict[Program, Ended] = {
            each: Ended(0, 0, FAILED, "has no environment: see above")
            for each, python in pythons.items()
            if not python
        }

    def held(self, day: Day, runs: int) -> Measured:
        """What one size took, in so many interleaved runs.

        Raises:
            SystemExit: the first did not write the same, and how.
        """
        taken: dict[Program, list[Ended]] = {each: [] for each in self.pythons}
        for run in range(runs):
            for each in taken:
                if run and each.once:
                    continue
                if ended := self._run(each, day, f"run {run + 1}"):
                    taken[each].append(ended)
            if not run:
                self._compare(day)
        told = {each.name: self._told(each, taken[each]) for each in taken}
        self._stay_out(day)
        return {"messages": day.messages, "receipts": day.receipts, "programs": told}

    def _run(self, each: Program, day: Day, what: str) -> Ended | None:
        python = self.pythons[each]
        if each in self.out or not python:
            return None
        call = day.call(each.script, self.measured["memory_limit"])
        ended = guarded.run(python, call, self.measured["most_mb"], self.measured["longest_s"])
        took = f"{ended.seconds:.1f} s, {ended.peak_mb:,.0f} MB"
        say(f"{day.messages:,}: {what}, {each.name}: {took} {ended.trouble} {ended.why}".rstrip())
        if ended.trouble:
            self.out[each] = ended
        return ended

    def _compare(self, day: Day) -> None:
        there = [each for each in self.pythons if each.judges and each not in self.out]
        if len(there) < 2:
            return
        outs = [(each.name, contest.out(day.folder, each.script)) for each in there]
        if found := contest.differences(day, outs):
            raise SystemExit("\n".join(["they differ, so nothing is kept:", *found]))
        say(f"{day.messages:,}: {', '.join(each.name for each in there)} wrote the same tables")

    def _told(self, each: Program, taken: list[Ended]) -> Measured:
        if each in self.out:
            return self.out[each].as_json()
        return {"runs": [ended.as_json() for ended in taken]}

    def _stay_out(self, day: Day) -> None:
        """Who is out is not tried again with more messages."""
        for each, ended in self.out.items():
            if not ended.why.startswith("not tried"):
                why = f"not tried: with {day.messages:,} messages it {ended.why}"
                self.out[each] = Ended(0, 0, ended.trouble, why)


def render(measured: Measured, docs: Path) -> None:
    """Page and figure; what was wanted and what is reached goes to stdout."""
    from tests.benchmarks.performance_figure import figure
    from tests.benchmarks.performance_page import page, wanted

    (docs / f"{NAME}.md").write_text(page(measured), "utf-8")
    (docs / f"{NAME}.svg").write_text(figure(measured), "utf-8")
    print(*wanted(measured), sep="\n")


def _python(program: Program, scratch: Path) -> Path | None:
    """The Python that runs it: ours, or one with what it needs; None where that cannot be had."""
    if not program.needs:
        return Path(sys.executable)
    folder = scratch / f"environment of {program.name}"
    python = folder / "bin" / "python"
    say(f"making an environment with {', '.join(program.needs)}")
    for command in ([sys.executable, "-m", "venv", folder],
                    [python, "-m", "pip", "install", "-q", *program.needs]):  # fmt: skip
        if subprocess.run(command, stdout=sys.stderr).returncode:
            return None
    return python


def _installed(program: Program, python: Path | None) -> str:
    """The versions in a program's own environment."""
    asked = [python, "-m", "pip", "list", "--format", "json"]
    told = subprocess.run(asked, check=True, capture_output=True, text=True).stdout
    there = {each["name"]: each["version"] for each in json.loads(told)}
    own, *others = [f"{name} {there[name]}" for name in (program.name, "pandas", "polars")]
    return f"{own} with {', '.join(others)}"


def _told(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    names = [each.name for each in PROGRAMS]
    parser.add_argument("--messages", type=int, nargs="+",
                        default=[1_000_000, 5_000_000, 20_000_000])  # fmt: skip
    parser.add_argument("--runs", type=int, nargs="+", default=[3, 3, 1],
                        help="of all sizes, or one number for each")  # fmt: skip
    parser.add_argument("--memory-limit", default="8GB", help="for the engine of ours and of SQL")
    parser.add_argument("--most-memory", type=float, metavar="MB",
                        help="where a program is ended; else at 0.9 of the machine's")  # fmt: skip
    parser.add_argument("--longest", type=float, default=3600, metavar="SECONDS",
                        help="when any program is ended")  # fmt: skip
    parser.add_argument("--programs", nargs="+", choices=names, default=names, metavar="NAME")
    parser.add_argument("--folder", type=Path, help="where to make a scratch folder")
    parser.add_argument("--docs", type=Path, default=ROOT / "docs", help="where the page goes")
    parser.add_argument("--add", action="store_true", help="keep the other sizes of before")
    parser.add_argument("--render", action="store_true", help="only page and figure, no measuring")
    told = parser.parse_args(arguments)
    runs = told.runs * len(told.messages) if len(told.runs) == 1 else told.runs
    if len(runs) != len(told.messages):
        parser.error("--runs: one number, or one for each of --messages")
    told.sizes = sorted(zip(told.messages, runs, strict=True))
    return told


if __name__ == "__main__":
    main()
