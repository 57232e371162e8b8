"""Rows as tables for a terminal, Markdown, CSV or JSON. Knows nothing of what they mean."""

from __future__ import annotations

import csv
import io
import json
import os
import sys
import unicodedata
from collections.abc import Iterable, Sequence
from datetime import date, datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from reconcile.days import iso

if TYPE_CHECKING:
    import pandas as pd
    from rich.console import Console

FORMATS = ("table", "json", "csv", "markdown")
NOTHING = "–"
RIGHT = ("missing rate", "unknown rate", "suspect rate", "unconfirmed spend", "cost")
# The columns that a terminal without room for all does without, in this order.
GIVE_WAY = ("suspect rate", "unknown rate", "trend", "missing rate", "pending",
            "unconfirmed spend", "currency")  # fmt: skip
# Colour only helps to find what the words and numbers say as well.
COLOURS = {"missing": "yellow", "unknown": "cyan", "suspect": "red"}
# And those that give way even so that texts stand on one line.
EASILY = GIVE_WAY[:2]
WIDTH, NARROWEST, TEXT_WIDTH, GAP = 120, 40, 24, 2
BARS = "▁▂▃▄▅▆▇█"
_OBEYED = ("Cc", "Cf", "Cs", "Zl", "Zp")


def render(
    frame: pd.DataFrame, form: str, title: str = "", note: str = "",
    legend: dict[str, str] | None = None,
) -> str:  # fmt: skip
    """The frame as text that ends with a newline.

    Args:
        title, note, legend: for a terminal; the legend says of a column what is in it.
    """
    names = [str(name) for name in frame.columns]
    rows = [{str(k): v for k, v in row.items()} for row in frame.to_dict("records")]
    return render_rows(names, rows, form, title, note, legend)


def render_rows(
    names: Sequence[str], rows: Sequence[dict[str, Any]], form: str, title: str = "",
    note: str = "", legend: dict[str, str] | None = None,
) -> str:  # fmt: skip
    """Rows with these columns as text that ends with a newline."""
    if form == "json":
        return as_json([{name: plain(row[name]) for name in names} for row in rows])
    if form == "csv":
        out = io.StringIO()
        writer = csv.writer(out, lineterminator="\n")
        writer.writerow(names)
        writer.writerows([_cell(row[name]) for name in names] for row in rows)
        return out.getvalue()
    words = [[_words(name, row[name]) for name in names] for row in rows]
    if form == "markdown":
        return markdown(list(names), words)
    return _terminal(list(names), words, rows, (title, note, legend or {}))


def as_json(told: Any) -> str:
    """JSON as all commands print it."""
    return json.dumps(told, indent=1, ensure_ascii=False) + "\n"


def markdown(names: list[str], rows: list[list[str]]) -> str:
    """A Markdown table."""
    lines = [names, ["---"] * len(names), *([c.replace("|", "\\|") for c in row] for row in rows)]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def sparkline(values: Iterable[float | None]) -> str:
    """One bar a value, from 0 to the highest of them; a dot where there is none.

    Example:
        >>> sparkline([0.0, None, 0.5, 1.0])
        '▁·▅█'
    """
    seen = list(values)
    highest = max((value for value in seen if value is not None), default=0)
    last = len(BARS) - 1
    return "".join(
        "·" if value is None else BARS[round(value / highest * last) if highest else 0]
        for value in seen
    )


def has_colour() -> bool:
    """Whether results may be coloured: a terminal reads them, and nobody said no (no-color.org)."""
    dumb = os.environ.get("TERM", "") in ("", "dumb")
    return sys.stdout.isatty() and not dumb and not os.environ.get("NO_COLOR")


def terminal_width() -> int:
    """Columns of the terminal (or of COLUMNS); a pipe has as many as people read well."""
    import shutil

    return max(shutil.get_terminal_size((WIDTH, 24)).columns, NARROWEST)


def _terminal(
    names: list[str], words: list[list[str]], rows: Sequence[dict[str, Any]],
    around: tuple[str, str, dict[str, str]],
) -> str:  # fmt: skip
    from rich.console import Console
    from rich.text import Text

    title, note, legend = around
    width = terminal_width()
    colour = has_colour()
    out = io.StringIO()
    console = Console(
        file=out, width=width, force_terminal=colour, color_system="standard" if colour else None,
        highlight=False, emoji=False, markup=False,
    )  # fmt: skip
    numeric = {n for n in names if n in RIGHT or any(_is_number(row[n]) for row in rows)}
    cells = {n: [row[at] for row in words] for at, n in enumerate(names)}
    needs = {n: _needs(n, cells[n], n in numeric) for n in names}
    likes = {n: max(needs[n], min(TEXT_WIDTH, max(map(len, cells[n]), default=0))) for n in names}
    shown = _fitting(names, needs, width)
    shown = shown if _wide(needs, shown) > width else _fitting(shown, likes, width, EASILY)
    if title:
        console.print(Text(title, style="bold"))
    if _wide(needs, shown) <= width:
        _print_table(console, names, shown, numeric, words)
    else:
        shown = names
        _print_records(console, names, words)
    told = [f"{name}: {legend[name]}" for name in shown if name in legend]
    for line in filter(None, (note, *told)):
        console.print(Text(line, style="dim"))
    return "".join(f"{line.rstrip()}\n" for line in out.getvalue().splitlines())


def _print_table(
    console: Console, names: list[str], shown: list[str], numeric: set[str], words: list[list[str]]
) -> None:
    from rich import box
    from rich.table import Table
    from rich.text import Text

    table = Table(
        box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, GAP - 1, 0, 0)
    )  # fmt: skip
    for name in shown:
        right = name in numeric
        table.add_column(
            _header(name, right=right), justify="right" if right else "left", overflow="fold",
            no_wrap=right or name == "trend", header_style="bold",
        )  # fmt: skip
    places = {name: at for at, name in enumerate(names)}
    for row in words:
        table.add_row(*(Text(row[places[n]], style=_style(n, row[places[n]])) for n in shown))
    console.print()
    console.print(table)
    console.print()


def _print_records(console: Console, names: list[str], words: list[list[str]]) -> None:
    """A line a column, where a line a row has no room."""
    from rich.table import Table
    from rich.text import Text

    for row in words:
        record = Table(box=None, show_header=False, pad_edge=False, padding=(0, GAP, 0, 0))
        record.add_column(no_wrap=True)
        record.add_column(overflow="fold")
        for name, word in zip(names, row, strict=True):
            record.add_row(Text(name.replace("_", " "), style="bold"), Text(word))
        console.print(record)
        console.print()


def _style(name: str, word: str) -> str:
    """Numbers of a verdict in its colour, and the verdict's own word."""
    if name in COLOURS:
        return COLOURS[name] if word != "0" else "dim"
    return COLOURS.get(word, "")


def _header(name: str, *, right: bool) -> str:
    """What stands above a column; above numbers, which are never broken, a word a line."""
    return name.replace("_", " ").replace(" ", "\n" if right else " ")


def _needs(name: str, words: list[str], numeric: bool) -> int:
    """How many columns it takes at least: numbers are never broken, texts between words only."""
    header = max(map(len, _header(name, right=True).split("\n")))
    if numeric or name == "trend":
        return max(header, *map(len, words), 0)
    longest = max((len(part) for word in words for part in word.split()), default=0)
    return max(header, min(longest, TEXT_WIDTH))


def _wide(needs: dict[str, int], names: list[str]) -> int:
    return sum(needs[name] for name in names) + GAP * (len(names) - 1)


def _fitting(
    names: list[str], needs: dict[str, int], width: int, order: tuple[str, ...] = GIVE_WAY
) -> list[str]:
    """The columns that a terminal has room for: the least important ones give way."""
    shown = list(names)
    for name in order:
        if name in shown and _wide(needs, shown) > width:
            shown.remove(name)
    return shown


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float | Decimal)


def plain(value: Any) -> Any:
    """A value as JSON carries it: money and bytes as text, times in ISO 8601, nothing as null."""
    if hasattr(value, "tolist"):  # numpy's
        value = value.tolist()
    if isinstance(value, dict):
        return {str(name): plain(each) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [plain(each) for each in value]
    if value is None or value != value:
        return None
    if isinstance(value, Decimal):
        return format(value, "f")
    if isinstance(value, datetime):
        return iso(value)
    if isinstance(value, bytes):
        return value.decode("utf-8", "backslashreplace")
    return value.isoformat() if isinstance(value, date) else value


def _cell(value: Any) -> Any:
    """A value as CSV carries it: what has parts is JSON."""
    value = plain(value)
    return json.dumps(value, ensure_ascii=False) if isinstance(value, list | dict) else value


def _words(name: str, value: Any) -> str:
    """A value for people, on one line, without what a terminal would obey."""
    value = plain(value)
    if value is None:
        return NOTHING
    if name == "trend":
        return sparkline(value)
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.1%}"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, list) and all(isinstance(each, str) for each in value):
        return printable(", ".join(value)) or NOTHING
    if isinstance(value, list | dict):
        return printable(json.dumps(value, ensure_ascii=False))
    if name.startswith("spend"):
        return f"{Decimal(value):,.2f}"
    return printable(str(value))


def printable(text: str) -> str:
    """Text of others without what a terminal obeys: ends of lines, escapes, turns of direction.

    Example:
        >>> printable("a" + chr(27) + "[2J")
        'a\\\\x1b[2J'
    """
    if text.isprintable():
        return text
    return "".join(
        c.encode("unicode_escape").decode() if unicodedata.category(c) in _OBEYED else c
        for c in text
    )
