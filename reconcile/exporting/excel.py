"""Tables as one Excel file: a sheet each, and a sheet that says what their columns mean.

Every text is written as a text: no cell is a formula or a link, whatever it begins with. Times are
UTC, since a cell has no time zone; money is a number of Excel's, exact to 15 digits.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa

from reconcile.errors import UsageError
from reconcile.selection import Selection
from reconcile.tables import MONEY, Column

MOST_ROWS = 1_048_576 - 1  # without the header
LONGEST = 32_767  # letters in a cell
FIRST_YEAR = 1900
_CHUNK = 10_000
# By suffix or Arrow type: how a cell is shown, and how wide its column is.
_RATE, _COUNT, _MONEY = "0.00%", "#,##0", "#,##0.00######"
_DAY, _MOMENT = "yyyy-mm-dd", "yyyy-mm-dd hh:mm:ss.000"


def write_excel(path: Path, chosen: list[Selection]) -> None:
    """Writes a workbook: header frozen, filters set, rows sorted by the table's key.

    Raises:
        UsageError: XlsxWriter is not here, or a table or text is larger than Excel takes.
        OSError: the disk refused.
    """
    for each in chosen:
        _refuse_too_many(each)
    try:
        import xlsxwriter
        from xlsxwriter.exceptions import FileCreateError
    except ImportError:
        raise UsageError(
            "Excel files need XlsxWriter: pip install 'dlr-reconcile[excel]', or export to CSV"
        ) from None
    book = xlsxwriter.Workbook(
        str(path), {"constant_memory": True, "strings_to_formulas": False,
                    "strings_to_urls": False, "strings_to_numbers": False},
    )  # fmt: skip
    try:
        for each in chosen:
            _sheet(book, each)
        _dictionary(book, chosen)
    finally:
        try:
            book.close()
        except FileCreateError as error:
            raise OSError(str(error)) from None


def _refuse_too_many(chosen: Selection) -> None:
    rows = chosen.count()
    if rows > MOST_ROWS:
        raise UsageError(
            f"table {chosen.table.name} has {rows:,} rows, and a sheet of Excel holds "
            f"{MOST_ROWS:,}: ask for fewer days, use --where, or export to CSV"
        )


def _sheet(book: Any, chosen: Selection) -> None:
    columns = chosen.contract
    sheet = book.add_worksheet(chosen.table.name)
    _head(book, sheet, [column.name for column in columns])
    writers = []
    for at, column in enumerate(columns):
        form, width = _shown(column)
        style = book.add_format({"num_format": form})
        sheet.set_column(at, at, max(width, len(column.name) + 3), style)
        writers.append(_writer(sheet, style, column))
    row = 0
    for batch in chosen.arrow().to_batches(_CHUNK):
        lists = [batch.column(column.name).to_pylist() for column in columns]
        for values in zip(*lists, strict=True):
            row += 1
            for at, value in enumerate(values):
                if value is not None:
                    writers[at](row, at, value)
    sheet.autofilter(0, 0, row, len(columns) - 1)


def _dictionary(book: Any, chosen: list[Selection]) -> None:
    """The contract of each exported column, in its own words."""
    sheet = book.add_worksheet("dictionary")
    names = ["table", "column", "type", "null", "says"]
    for at, width in enumerate((16, 28, 22, 8, 100)):
        sheet.set_column(at, at, width)
    _head(book, sheet, names)
    row = 0
    for each in chosen:
        for column in each.contract:
            row += 1
            nullable = "yes" if column.nullable else "no"
            told = (each.table.name, column.name, str(column.type), nullable, column.sentence)
            for at, text in enumerate(told):
                sheet.write_string(row, at, text)
    sheet.autofilter(0, 0, row, len(names) - 1)


def _head(book: Any, sheet: Any, names: list[str]) -> None:
    bold = book.add_format({"bold": True, "bottom": 1})
    for at, name in enumerate(names):
        sheet.write_string(0, at, name, bold)
    sheet.freeze_panes(1, 0)


def _shown(column: Column) -> tuple[str, int]:
    """How a column's cells are shown, and how wide it is."""
    kind = column.type
    if pa.types.is_timestamp(kind):
        return _MOMENT, 24
    if pa.types.is_date(kind):
        return _DAY, 12
    if kind == MONEY:
        return _MONEY, 14
    if pa.types.is_integer(kind):
        return _COUNT, 10
    if pa.types.is_floating(kind):
        return (_RATE if "rate" in column.name or column.name == "baseline" else "0.00####"), 12
    return "@" if pa.types.is_string(kind) else "General", 18


def _writer(sheet: Any, style: Any, column: Column) -> Callable[[int, int, Any], None]:
    """What writes one value of a column into its cell."""

    def text(row: int, at: int, value: str) -> None:
        if len(value.encode("utf-16-le")) // 2 > LONGEST:
            raise UsageError(
                f"a text in column {column.name} has {len(value):,} letters, and a cell of Excel "
                f"holds {LONGEST:,}: leave the row out with --where, or export to CSV"
            )
        sheet.write_string(row, at, value, style)

    def moment(row: int, at: int, value: datetime | date) -> None:
        if value.year < FIRST_YEAR:
            text(row, at, value.isoformat())
            return
        if isinstance(value, datetime):
            value = value.astimezone(UTC).replace(tzinfo=None)
        sheet.write_datetime(row, at, value, style)

    def number(row: int, at: int, value: int | float | Decimal) -> None:
        if math.isfinite(value):
            sheet.write_number(row, at, float(value), style)

    kind = column.type
    if pa.types.is_string(kind):
        return text
    if pa.types.is_boolean(kind):
        return lambda row, at, value: sheet.write_boolean(row, at, value, style)
    if pa.types.is_temporal(kind):
        return moment
    if pa.types.is_nested(kind):
        return lambda row, at, value: text(row, at, _joined(value))
    return number


def _joined(values: list[Any]) -> str:
    """A list in one cell: texts with commas, all else as JSON."""
    if all(isinstance(value, str) for value in values):
        return ", ".join(values)
    return json.dumps(values, ensure_ascii=False)
