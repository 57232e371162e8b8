"""Exports are read again by other programs: Excel files by openpyxl, CSV by Python and pandas."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import openpyxl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import reconcile
from reconcile.exporting import excel
from reconcile.exporting.export import write
from reconcile.tables import BY_NAME, VERDICTS

Called = tuple[int, str, str]
DAY = "2026-10-12"
NASTY = ["=HYPERLINK(\"http://127.0.0.1\")", "+1", "-1+2", "@SUM(A1)", "\t=1", "\r=1", "'=1", "'x",
         "https://example.com", "00123", "1e5", "a,b\n\"c\"", "", None, "ordinary", "_x000D_",
         "\x01", "mailto:a@example.com"]  # fmt: skip


@pytest.fixture
def export(
    console: Callable[..., Called], demo_store: Path, clean_environment: None
) -> Callable[..., Called]:
    """`reconcile export` of the demo's store, or of another."""

    def call(*args: str, store: Path = demo_store) -> Called:
        return console("export", "--store", str(store), *args)

    return call


@pytest.fixture
def nasty_store(demo_store: Path, tmp_path: Path) -> Path:
    """A store whose client_refs look like formulas, links and numbers."""
    source = next(demo_store.glob(f"verdicts/day={DAY}/*.parquet"))
    day = pq.ParquetFile(source).read()
    refs = [NASTY[at % len(NASTY)] for at in range(len(day))]
    assert len(day) >= len(NASTY)
    day = day.set_column(day.column_names.index("client_ref"), "client_ref", pa.array(refs))
    root = tmp_path / "nasty"
    target = root / "verdicts" / source.parent.name / source.name
    target.parent.mkdir(parents=True)
    pq.write_table(day, target)
    (root / "store.json").write_bytes((demo_store / "store.json").read_bytes())
    return root


def sheet_rows(path: Path, name: str) -> list[dict[str, Any]]:
    rows = list(openpyxl.load_workbook(path)[name].iter_rows(values_only=True))
    return [dict(zip(rows[0], row, strict=True)) for row in rows[1:]]


def test_a_sheet_a_table_and_the_dictionary(export: Callable[..., Called]) -> None:
    """Without names the small tables that have rows are written, each with filter and header."""
    assert export("-o", "all.xlsx")[::2] == (0, "")
    book = openpyxl.load_workbook("all.xlsx")
    assert book.sheetnames == ["summary", "reasons", "error_codes", "networks", "dictionary"]
    for sheet in book:
        assert sheet.freeze_panes == "A2"
        assert sheet.auto_filter.ref == sheet.dimensions
    says = {
        (r["table"], r["column"]): r["says"] for r in sheet_rows(Path("all.xlsx"), "dictionary")
    }
    for name in book.sheetnames[:-1]:
        assert [cell.value for cell in book[name][1]] == BY_NAME[name].names
        for column in BY_NAME[name].columns:
            assert says[name, column.name] == column.sentence


def test_cells_hold_what_the_store_holds(export: Callable[..., Called], demo_store: Path) -> None:
    """Counts, money, times and texts come back, cell by cell, and are shown as what they are."""
    assert export("-o", "v.xlsx", "--tables", "verdicts,summary")[0] == 0
    store = reconcile.open(demo_store)
    for name in ("verdicts", "summary"):
        for made, meant in zip(
            sheet_rows(Path("v.xlsx"), name), store.table(name).arrow().to_pylist(), strict=True
        ):
            assert {n: plain(made[n], meant[n]) for n in meant} == {
                n: cell(v) for n, v in meant.items()
            }
    sheet = openpyxl.load_workbook("v.xlsx")["verdicts"]
    at = {cell.value: cell.column for cell in sheet[1]}
    assert sheet.cell(2, at["record_price"]).number_format == "#,##0.00######"
    assert sheet.cell(2, at["received_at"]).number_format == "yyyy-mm-dd hh:mm:ss.000"
    assert sheet.cell(2, at["network_code"]).data_type == "s"


def cell(value: Any) -> Any:
    """A value of the store as a cell tells it."""
    if isinstance(value, datetime):
        return value.astimezone(UTC).replace(tzinfo=None)
    if isinstance(value, list):
        return ", ".join(value)
    return value


def plain(found: Any, meant: Any) -> Any:
    """What openpyxl gives, in the type that is meant."""
    if isinstance(meant, Decimal):
        return Decimal(str(found)).quantize(Decimal("1e-8"))
    if isinstance(meant, float):
        return meant if float(found) == pytest.approx(meant, rel=1e-14) else found
    if isinstance(meant, list):
        return found or ""
    if isinstance(found, datetime) and not isinstance(meant, datetime):
        return found.date()
    return found


def test_no_cell_of_excel_is_a_formula_or_a_link(
    export: Callable[..., Called], nasty_store: Path
) -> None:
    """Texts that look like formulas, links or numbers are texts."""
    assert export("-o", "n.xlsx", "--tables", "verdicts", store=nasty_store)[0] == 0
    sheet = openpyxl.load_workbook("n.xlsx")["verdicts"]
    [at] = [cell.column for cell in sheet[1] if cell.value == "client_ref"]
    cells = [sheet.cell(row, at) for row in range(2, sheet.max_row + 1)]
    assert {cell.data_type for cell in cells if cell.value is not None} == {"s"}
    assert all(cell.hyperlink is None for cell in cells)
    told = {cell.value for cell in cells}
    assert {'=HYPERLINK("http://127.0.0.1")', "-1+2", "00123", "https://example.com"} <= told


def test_csv_has_no_formula_and_loses_nothing(
    export: Callable[..., Called], nasty_store: Path
) -> None:
    """Risky texts get one apostrophe; without it they are what the store holds."""
    assert export("-o", "n.csv", "--tables", "verdicts", store=nasty_store)[0] == 0
    rows = list(csv.DictReader(io.StringIO(Path("n.csv").read_bytes().decode())))
    refs = [row["client_ref"] for row in rows]
    assert not [ref for ref in refs if ref.startswith(("=", "+", "-", "@", "\t", "\r"))]
    meant = reconcile.open(nasty_store).table("verdicts").arrow()["client_ref"].to_pylist()
    assert [ref.removeprefix("'") for ref in refs] == [ref or "" for ref in meant]


def test_csv_holds_what_the_store_holds(export: Callable[..., Called], demo_store: Path) -> None:
    """Money is exact, times are ISO 8601 in UTC, lists are JSON, codes keep their zeros."""
    code, told, _ = export(
        "-o", "out", "--tables", "verdicts", "--tables", "changes", "--date", DAY
    )
    assert (code, told.splitlines()) == (
        0, ["out/verdicts.csv: verdicts, 31 rows", "out/changes.csv: changes, 12 rows"]
    )  # fmt: skip
    rows = list(csv.DictReader(io.StringIO(Path("out/verdicts.csv").read_bytes().decode())))
    meant = reconcile.open(demo_store).table("verdicts", DAY, "2026-10-13").arrow().to_pylist()
    assert [list(row) for row in rows] == [VERDICTS.names] * len(meant)
    for row, one in zip(rows, meant, strict=True):
        assert datetime.fromisoformat(row["received_at"]) == one["received_at"]
        assert row["received_at"].endswith("Z")
        assert json.loads(row["reasons"]) == one["reasons"]
        price = one["record_price"]
        assert row["record_price"] == ("" if price is None else format(price, "f"))
        assert row["message_id"] == one["message_id"]


def test_where_and_days_choose_rows(export: Callable[..., Called], demo_store: Path) -> None:
    """The filter and the days are those of every other command."""
    args = ("-o", "m.csv", "--tables", "verdicts", "--where", "verdict = 'missing'")
    code, told, _ = export(*args, "--from", DAY, "--to", "2026-10-14")
    missing = reconcile.open(demo_store).summary(DAY, "2026-10-14")["missing"].sum()
    assert (code, told) == (0, f"m.csv: verdicts, {missing} rows\n")
    assert Path("m.csv").read_text("utf-8").count("\n") == missing + 1
    code, told, _ = export(*args[:-1], "verdict = 'none such'")
    assert (code, told) == (0, "m.csv: verdicts, 0 rows\n")
    assert Path("m.csv").read_text("utf-8").startswith("message_id,product,")


@pytest.mark.parametrize("name", ["few.csv", "few.xlsx"])
def test_chosen_columns_come_as_asked_for(demo_store: Path, tmp_path: Path, name: str) -> None:
    """From Python a selection is written with its own columns, in its own order."""
    columns = ["reasons", "received_at", "verdict"]
    store = reconcile.open(demo_store)
    chosen = store.table("verdicts", where="verdict = 'missing'", columns=columns)
    [written] = write(tmp_path / name, [chosen])
    assert (written.table, written.rows) == ("verdicts", chosen.count())
    if name == "few.csv":
        header, *rows = (tmp_path / name).read_text("utf-8").splitlines()
        assert header == ",".join(columns)
    else:
        rows = sheet_rows(tmp_path / name, "verdicts")
        assert [list(row) for row in rows] == [columns] * len(rows)
        told = sheet_rows(tmp_path / name, "dictionary")
        assert [row["column"] for row in told] == columns
    assert len(rows) == written.rows > 0


MISTAKES = [
    (("-o", "x.csv"), "is one file, and 4 tables"),
    (("-o", "x.xlsx", "--tables", "bogus"), "there is no table bogus"),
    (("-o", "x.xlsx", "--tables", "rejected_lines"), "for its owner only"),
    (("-o", "x.xlsx", "--date", "1999-01-01"), "nothing is published for these days"),
    (("-o", "x.xlsx", "--where", "mising > 1"), "did you mean missing?"),
    (("-o", "x.xlsx", "--where", "missing > 1"), "table reasons has no column missing"),
    (("-o", "no/such/x.xlsx"), "there is no folder no/such"),
    (("-o", "no/such/x", "--tables", "summary"), "there is no folder no/such"),
]


@pytest.mark.parametrize(("args", "says"), MISTAKES)
def test_mistakes_are_one_line_and_leave_nothing(
    export: Callable[..., Called], args: tuple[str, ...], says: str
) -> None:
    """Exit code 2, one line, and no file, not even a hidden one."""
    before = set(Path().iterdir())
    code, told, said = export(*args)
    assert (code, told) == (2, "")
    assert says in said
    assert said.count("\n") == 1
    assert set(Path().iterdir()) == before


def test_more_rows_than_a_sheet_holds_is_one_line(
    export: Callable[..., Called], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The limit is told before anything is written, with what to do."""
    assert excel.MOST_ROWS == 2**20 - 1
    monkeypatch.setattr(excel, "MOST_ROWS", 10)
    code, _, said = export("-o", "x.xlsx")
    assert (code, Path("x.xlsx").exists()) == (2, False)
    assert "table summary has 35 rows, and a sheet of Excel holds 10: ask for fewer days" in said


def test_a_failure_keeps_the_file_that_was_there(
    export: Callable[..., Called], nasty_store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A new file takes its name only when it is whole."""
    Path("n.xlsx").write_text("the old one", "ascii")
    monkeypatch.setattr(excel, "LONGEST", 12)
    code, _, said = export("-o", "n.xlsx", "--tables", "verdicts", store=nasty_store)
    assert code == 2
    assert "letters, and a cell of Excel holds 12" in said
    assert Path("n.xlsx").read_text("ascii") == "the old one"
    assert not list(Path().glob(".n.xlsx*"))


def test_a_name_that_cannot_be_replaced_is_one_line(export: Callable[..., Called]) -> None:
    """A folder by the file's name is an error of the disk: exit 6."""
    Path("x.xlsx").mkdir()
    code, _, said = export("-o", "x.xlsx")
    assert code == 6
    assert said.startswith("reconcile: x.xlsx cannot be written: ")
