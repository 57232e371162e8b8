"""The page docs/performance.md, from what was measured."""

from __future__ import annotations

import statistics
from collections.abc import Iterator
from typing import Any

from tests.benchmarks.contest import (
    FLOOR,
    OURS,
    PANDAS,
    POLARS,
    PROGRAMS,
    SPARK,
    SQL,
    Program,
)

Measured = dict[str, Any]
WANTED_AT = 5_000_000
# Ours takes at most so many times as long, or it is at least so many times as fast.
WANTED = (
    (SQL, "at most {} × as long as", 1.3),
    (PANDAS, "at least {} × as fast as", 6.0),
    (POLARS, "at least {} × as fast as", 2.0),
)
FROM_A_SESSION = f"  Those of {SPARK.name} are from a session that is up.\n"
PAGE = """\
# Performance

One day is judged by several programs: `records` and `receipts` are read from parquet, and
`verdicts` (sorted by message_id), `orphans`, `summary`, `reasons` and `error_codes` are written as
zstd parquet. All that judge and end must write the same tables, else nothing is kept: the same
columns and types, the same rows as multisets (`EXCEPT ALL` both ways), the rates of `summary`
within 1e-12 and its latencies within 1 ms. The traffic is invented: one day, a fixed seed, all
faults.

![Seconds by messages, a line a program, both axes logarithmic](performance.svg)

Measured on {measured_at}: {hardware}; {versions}.
Medians of interleaved runs; `memory_limit = "{memory_limit}"` for {engines};
any program was ended at {most_mb:,} MB or after {longest_s:,.0f} s.{left_out}

{table}

## How to read it

- **seconds**: in a process of its own, from after its imports until the last table is on disk.
  Compiling the rules, about a second whatever the size, is in ours; start and imports are in none.
{spark}- **× ours**: how many times as long as ours; below 1 it is faster than ours.
- **µs each**: the same time by message: where it stays as sizes grow, time is linear.
- **peak MB**: the most memory that the process and its children held, the largest of its runs.
  `memory_limit` bounds the engine; Python and what it loads come on top.
- **{no_room}**, **{too_long}**: it found no memory or was ended at the bounds above, and is not
  tried with more messages.
- **{floor}**: the least that this engine must do for any judging. What lies between it and a line
  is reducing receipts, judging, sorting and writing.
- Factors compare from page to page, seconds do not: machines differ, and some by the hour.

## What each one is, and what it leaves out

{programs}

## Wanted, and reached

{wanted}

## Make it again

```console
$ .venv/bin/python -m tests.benchmarks.performance
```

`--help` names sizes, bounds and programs. What was measured is kept in
[performance.json](performance.json): `--render` makes this page and its figure from it, and the
tests hold that they are what it says.
"""


def page(measured: Measured) -> str:
    """The whole page in Markdown."""
    from tests.benchmarks.guarded import NO_ROOM, TOO_LONG

    told = measured | {
        "engines": ", ".join(each.name for each in (OURS, SQL, FLOOR)),
        "left_out": "".join(f"\nLeft out: {name}, since this machine has no {lacks}."
                            for name, lacks in measured.get("left_out", {}).items()),
        "spark": FROM_A_SESSION if SPARK in entered(measured) else "",
        "floor": FLOOR.name,
        "no_room": NO_ROOM,
        "too_long": TOO_LONG,
        "table": "\n".join(_table(measured)),
        "programs": "\n".join(f"- **{each.name}** (`tests/benchmarks/{each.script}`): {each.says}"
                              for each in entered(measured)),
        "wanted": "\n".join(wanted(measured)),
    }  # fmt: skip
    return PAGE.format(**told)


def entered(measured: Measured) -> list[Program]:
    """The programs that were measured, or tried."""
    names = {name for size in measured["sizes"] for name in size["programs"]}
    return [each for each in PROGRAMS if each.name in names]


def seconds(one: Measured) -> float | None:
    """The median of a program's runs; None where it did not end."""
    return statistics.median(run["seconds"] for run in one["runs"]) if "runs" in one else None


def wanted(measured: Measured) -> Iterator[str]:
    """What the project wants of itself with 5 million messages, beside what was measured."""
    yield f"| wanted with {WANTED_AT:,} messages | measured | |"
    yield "|---|---:|---|"
    ran: Measured = {}
    for size in measured["sizes"]:
        if size["messages"] == WANTED_AT:
            ran = size["programs"]
    for program, words, factor in WANTED:
        told = _reached(ran, program, factor, is_most=words.startswith("at most"))
        yield f"| ours: {words.format(f'{factor:g}')} {program.name} | {' | '.join(told)} |"


def _reached(ran: Measured, rival: Program, factor: float, is_most: bool) -> tuple[str, str]:
    if OURS.name not in ran or rival.name not in ran:
        return "not measured", ""
    ours, theirs = seconds(ran[OURS.name]), seconds(ran[rival.name])
    if ours is None or theirs is None:
        who = OURS if ours is None else rival
        return f"{who.name}: {ran[who.name]['trouble']}", "not reached" if ours is None else ""
    times = ours / theirs if is_most else theirs / ours
    holds = times <= factor if is_most else times >= factor
    return f"{times:.2f} ×", "reached" if holds else "not reached"


def _table(measured: Measured) -> Iterator[str]:
    named = ("messages", "program", "runs", "seconds", "× ours", "µs each", "peak MB")
    yield f"| {' | '.join(named)} | what it leaves out |"
    yield "|---:|---|---:|---:|---:|---:|---:|---|"
    for size in measured["sizes"]:
        ran, messages = size["programs"], size["messages"]
        ours = seconds(ran.get(OURS.name, {}))
        for each in entered(measured):
            if each.name in ran:
                cells = _cells(ran[each.name], messages, ours)
                yield f"| {messages:,} | {each.name} | {' | '.join(cells)} | {each.lacks} |"


def _cells(one: Measured, messages: int, ours: float | None) -> tuple[str, ...]:
    """Runs, seconds, × ours, µs each and peak; or what happened instead."""
    took = seconds(one)
    if took is None:
        return "", f"{one['trouble']}: {one['why']}".replace("|", "/"), "", "", ""
    peak = max(run["peak_mb"] for run in one["runs"])
    times = f"{took / ours:.2f}" if ours else ""
    return str(len(one["runs"])), f"{took:.1f}", times, f"{took / messages * 1e6:.2f}", f"{peak:,}"
