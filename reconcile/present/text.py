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


def render(frame: pd.DataFrame, form: str, title: str = "", note: str = "") -> str:
    """The frame as text that ends with a newline."""
    rows = frame.to_dict("records")
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

    table = Table(title=title or None, caption=note or None, box=box.SIMPLE_HEAD, pad_edge=False)
    for name in names:
        numeric = any(isinstance(row[name], int | float | Decimal) for row in rows)
        table.add_column(name.replace("_", " "), justify="right" if numeric else "left")
    for row in words:
        table.add_row(*(Text(cell) for cell in row))
    width = max(shutil.get_terminal_size((120, 24)).columns, 60)
    out = io.StringIO()
    Console(file=out, width=width, force_terminal=False).print(table)
    return out.getvalue()


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
