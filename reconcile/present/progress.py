"""Progress on a terminal or as lines of JSON, silence everywhere else."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from reconcile.present.lines import Lines

# Lines of JSON about the same thing are this far apart, whatever happens in between.
SECONDS = 1.0


@contextmanager
def progress(lines: Lines | None = None) -> Iterator[Callable[[str, int], None]]:
    """A callback that is told what was done and how many rows more; it shows them on stderr.

    Downloads and what is done beside them tell it from threads of their own.
    """
    if lines and lines.is_json:
        yield from _as_json(lines)
        return
    if not sys.stderr.isatty():
        yield lambda _what, _rows: None
        return
    from rich.console import Console
    from rich.progress import Progress, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn

    columns = (
        SpinnerColumn(finished_text="✓"),
        TextColumn("{task.description}"),
        TextColumn("{task.completed:>12,.0f} rows"),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as bars:
        tasks: dict[str, TaskID] = {}
        guard = threading.Lock()

        def tell(what: str, rows: int) -> None:
            with guard:
                if what not in tasks:
                    tasks[what] = bars.add_task(what, total=None)
                bars.update(tasks[what], advance=rows)

        yield tell


def _as_json(lines: Lines) -> Iterator[Callable[[str, int], None]]:
    """A line when something begins, then at most one a second, and one with its sum at the end."""
    rows: dict[str, int] = {}
    told: dict[str, tuple[float, int]] = {}
    guard = threading.Lock()

    def say(what: str) -> None:
        told[what] = (time.monotonic(), rows[what])
        lines.tell("progress", f"{what}: {rows[what]:,} rows", what=what, rows=rows[what])

    def tell(what: str, more: int) -> None:
        with guard:
            rows[what] = rows.get(what, 0) + more
            if what not in told or time.monotonic() - told[what][0] >= SECONDS:
                say(what)

    try:
        yield tell
    finally:
        with guard:  # a thread that was left behind may still tell
            for what, count in rows.items():
                if told[what][1] != count:
                    say(what)
