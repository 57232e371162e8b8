"""As `ours_networks.py`, and says what each step took: of the clock, and the engine's operators.

The operators' seconds are the engine's own profile, of all threads together.
"""

from __future__ import annotations

import functools
import json
import resource
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from ours import judge_all
from program import told

from reconcile import engine, judging, networking  # noqa: F401 - before the clock starts

STEPS = {
    "_judge_messages": "verdicts", "_counts": "counts", "_mask_outages": "outages",
    "_is_closed": "counts", "judge_orphans": "orphans", "_count": "reasons, error codes",
    "_judge_networks": "networks", "_summarise": "summary", "_check": "checks",
    "_changes": "changes",
}  # fmt: skip
KINDS = {
    "TABLE_SCAN": "scan", "JOIN": "join", "GROUP_BY": "group", "AGGREGATE": "group",
    "WINDOW": "window", "ORDER": "sort", "PROJECTION": "project", "FILTER": "project",
    "COPY": "write",
}  # fmt: skip
REST = "rest"
ROWS: dict[str, Counter[str]] = {}
_now = [REST]


class Watched:
    """The engine's connection; what a query took goes to the step that is under way."""

    def __init__(self, con: Any) -> None:
        self._con = con

    def __getattr__(self, name: str) -> Any:
        return getattr(self._con, name)

    def execute(self, *asked: Any) -> Any:
        """Runs it, and reads its profile."""
        found = self._con.execute(*asked)
        told = self._con.get_profiling_information()
        if told:
            _add(ROWS.setdefault(_now[-1], Counter()), json.loads(told))
        return found


def _add(row: Counter[str], node: dict[str, Any]) -> None:
    if name := node.get("operator_type") or node.get("operator_name"):
        kind = next((kind for word, kind in KINDS.items() if word in name), REST)
        row[kind] += float(node.get("operator_timing", 0))
    for child in node.get("children", []):
        _add(row, child)


@contextmanager
def _timed(step: str) -> Iterator[None]:
    begun, cpu = time.perf_counter(), _cpu()
    _now.append(step)
    try:
        yield
    finally:
        _now.pop()
        row = ROWS.setdefault(step, Counter())
        row["seconds"] += time.perf_counter() - begun
        row["cpu"] += _cpu() - cpu


def _cpu() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def _stepped(function: Callable[..., Any], step: str) -> Callable[..., Any]:
    @functools.wraps(function)
    def timed(*given: Any, **named: Any) -> Any:
        with _timed(step):
            return function(*given, **named)

    return timed


def main() -> None:
    """Judges what the command line names, and prints the steps as JSON."""
    connect = engine.connect

    def watched(*limits: Any) -> Any:
        con = connect(*limits)
        con.con.execute("PRAGMA enable_profiling = 'no_output'")
        con.con = Watched(con.con)  # type: ignore[assignment]
        return con

    engine.connect = watched  # type: ignore[assignment]
    for name, step in STEPS.items():
        setattr(judging, name, _stepped(getattr(judging, name), step))
    with _timed("all"):
        judge_all(told())
    print(json.dumps(ROWS))


if __name__ == "__main__":
    main()
