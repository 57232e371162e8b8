"""Frames as tables for a terminal, Markdown, CSV or JSON. Knows nothing of what they mean."""

from __future__ import annotations

import csv
import io
import json
import math
from datetime import date, datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from reconcile.days import iso

if TYPE_CHECKING:
    import pandas as pd

FORMATS = ("table", "json", "csv", "markdown")
NOTHING = "–"
RIGHT = ("missing rate", "unconfirmed spend")
GIVE_WAY = ("missing rate", "pending", "unconfirmed spend", "currency")
TEXT_WIDTH = 8


def render(frame: pd.DataFrame, form: str, title: str = "", note: str = "") -> str:
    """The frame as text that ends with a newline."""
    rows: list[dict[str, Any]] = [
        {str(name): value for name, value in row.items()} for row in frame.to_dict("records")
    ]
    names = [str(name) for name in frame.columns]
    if form == "json":
        plain = [{k: _plain(v) for k, v in row.items()} for row in rows]
        return json.dumps(plain, indent=1, ensure_ascii=False) + "\n"
    if form == "csv":
        out = io.StringIO()
        writer = csv.writer(out, lineterminator="\n")
        writer.writerow(names)
        writer.writerows([_plain(row[n]) for n in names] for row in rows)
        return out.getvalue()
    words = [[_words(n, row[n]) for n in names] for row in rows]
    if form == "markdown":
        return markdown(names, words)
    return _terminal(names, words, rows, title, note)


def markdown(names: list[str], rows: list[list[str]]) -> str:
    """A Markdown table."""
    lines = [names, ["---"] * len(names), *([c.replace("|", "\\|") for c in row] for row in rows)]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def _terminal(
    names: list[str], words: list[list[str]], rows: list[dict[str, Any]], title: str, note: str
) -> str:
    import shutil

    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    width = max(shutil.get_terminal_size((120, 24)).columns, 40)
    table = Table(
        title=title or None, caption=note or None, box=box.SIMPLE_HEAD, pad_edge=False,
        title_justify="left", caption_justify="left",
    )  # fmt: skip
    numeric = {n for n in names if n in RIGHT or any(_is_number(row[n]) for row in rows)}
    shown = _fitting(names, words, numeric, width)
    for at in shown:
        name = names[at]
        if name in numeric:
            table.add_column(name.replace("_", " "), justify="right", no_wrap=True)
        else:
            table.add_column(name.replace("_", " "), overflow="fold")
    for row in words:
        table.add_row(*(Text(row[at]) for at in shown))
    out = io.StringIO()
    Console(file=out, width=width, force_terminal=False).print(table)
    return "".join(f"{line.rstrip()}\n" for line in out.getvalue().splitlines())


def _fitting(names: list[str], words: list[list[str]], numeric: set[str], width: int) -> list[int]:
    """The columns that a terminal has room for: the least important ones give way."""
    needs = {
        n: max(len(n), *(len(row[at]) for row in words)) if n in numeric else TEXT_WIDTH
        for at, n in enumerate(names)
    }
    shown = list(names)
    for name in GIVE_WAY:
        if name in shown and sum(needs[n] + 3 for n in shown) > width:
            shown.remove(name)
    return [at for at, name in enumerate(names) if name in shown]


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float | Decimal)


def _plain(value: Any) -> Any:
    """A value as JSON and CSV carry it: money as text, times in ISO 8601, nothing as null."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return None
    if isinstance(value, Decimal):
        return format(value, "f")
    if isinstance(value, datetime):
        return iso(value)
    return value.isoformat() if isinstance(value, date) else value


def _words(name: str, value: Any) -> str:
    value = _plain(value)
    if value is None:
        return NOTHING
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.1%}"
    if isinstance(value, int):
        return f"{value:,}"
    if name.startswith("spend"):
        return f"{Decimal(value):,.2f}"
    return str(value)
