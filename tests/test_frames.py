"""The Python API on the demo's store: types, days, filters, holes, and clear refusals."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from datetime import date
from decimal import Decimal
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import reconcile
from reconcile.errors import InputError, ReconcileError, UsageError
from reconcile.frames import Frames
from reconcile.store import Store
from reconcile.tables import SUMMARY, TABLES, VERDICTS

DAY = "2026-10-12"
METHODS = [table.name for table in TABLES if table.written and not table.private]


@pytest.fixture
def store(demo_store: Path) -> Frames:
    return reconcile.open(demo_store)


@pytest.mark.parametrize("name", METHODS)
def test_each_table_has_its_method(store: Frames, name: str) -> None:
    """Every table is a frame in the contract's columns; one of no day has the same types."""
    frame, nothing = getattr(store, name)(), getattr(store, name)("1999-01-01", "1999-01-02")
    table = next(table for table in TABLES if table.name == name)
    assert list(frame.columns) == list(nothing.columns) == table.names
    assert len(nothing) == 0
    assert frame.dtypes.to_dict() == nothing.dtypes.to_dict()
    assert getattr(Frames, name).__doc__


def test_types_are_those_people_work_with(store: Frames) -> None:
    """Ids are text, money is Decimal, times are UTC and aware, counts are whole."""
    frame = store.summary()
    assert frame["messages"].dtype == "int64"
    assert frame["latency_p50_ms"].dtype == "Int64"
    assert frame["is_closed"].dtype == "bool"
    assert frame["date"].dt.tz is None
    assert str(frame["as_of"].dt.tz) == "UTC"
    assert {type(money) for money in frame["spend"]} == {Decimal}
    assert "NA" in set(frame["country"])


def test_a_frame_is_what_the_files_hold(store: Frames, demo_store: Path) -> None:
    """All rows of a day, sorted by the key, whatever form they are asked in."""
    path = Store.open(demo_store).path(VERDICTS, DAY)
    rows = pq.ParquetFile(path).read().select(VERDICTS.names).sort_by(
        [(name, "ascending") for name in VERDICTS.key]
    )  # fmt: skip
    chosen = store.table("verdicts", DAY, "2026-10-13")
    assert chosen.arrow().to_pylist() == rows.to_pylist()
    assert chosen.arrow().schema == VERDICTS.schema
    assert chosen.count() == len(rows) == len(chosen.pandas())
    relation = store.table("verdicts", DAY, "2026-10-13").relation()
    assert relation.aggregate("count(*)").fetchall() == [(len(rows),)]
    assert relation.columns == VERDICTS.names


def test_start_is_included_and_end_is_not(store: Frames) -> None:
    """Days may be given as texts or dates, each end by itself."""
    days = store.days()
    assert days == sorted(days)
    assert date(2026, 10, 12) in days
    assert set(store.summary(DAY, "2026-10-13")["date"]) == {pd.Timestamp(DAY)}
    assert store.summary(start=date(2026, 10, 12))["date"].min() == pd.Timestamp(DAY)
    assert store.summary(end=date(2026, 10, 13))["date"].max() == pd.Timestamp(DAY)
    assert len(store.summary(days[0], days[-1])) < len(store.summary())


def test_changes_are_asked_by_the_day_of_their_messages(store: Frames) -> None:
    """`changes` has a file a judging, and is asked by day as all others are."""
    everything = store.changes()
    of_day = store.changes(DAY, "2026-10-13")
    assert 0 < len(of_day) < len(everything)
    assert set(of_day["date"]) == {pd.Timestamp(DAY)}


def test_undated_receipts_come_with_all_days_only(demo_store: Path, tmp_path: Path) -> None:
    """A receipt without any time belongs to no day, and is lost in none."""
    root, dated = tmp_path / "store", reconcile.open(demo_store).receipts()
    source = next(demo_store.glob("receipts/day=*/*.parquet"))
    for place in (source.parent.name, "day=undated"):
        target = root / "receipts" / place / source.name
        target.parent.mkdir(parents=True)
        target.write_bytes(source.read_bytes())
    (root / "store.json").write_bytes((demo_store / "store.json").read_bytes())
    store, one = reconcile.open(root), len(pq.ParquetFile(source).read())
    assert 0 < one < len(dated)
    assert len(store.receipts()) == 2 * one
    assert len(store.receipts(start="1999-01-01")) == one
    assert len(store.days("receipts")) == 1


def test_columns_and_where(store: Frames) -> None:
    """Columns come in the order asked for; the filter may name others."""
    frame = store.verdicts(where="verdict = 'missing'", columns=["reasons", "message_id"])
    assert list(frame.columns) == ["reasons", "message_id"]
    assert len(frame) == store.summary()["missing"].sum() > 0
    lost = store.verdicts(where="list_contains(reasons, 'lost_webhook')")
    assert 0 < len(lost) < len(frame)


@pytest.mark.parametrize(
    ("ask", "says"),
    [
        (lambda s: s.table("bogus"), "there is no table bogus"),
        (lambda s: s.days("bogus"), "there is no table bogus"),
        (lambda s: s.summary(columns=["missin"]), "has no column missin"),
        (lambda s: s.summary(columns=[]), "has no column"),
        (lambda s: s.summary("12.10.2026"), "is no day"),
        (lambda s: s.summary("2026-10-13", DAY), "is not after"),
        (lambda s: s.summary(where="mising > 1"), "did you mean missing?"),
        (lambda s: s.verdicts(where="exists(from read_text('/etc/passwd'))"), "no subqueries"),
        (lambda s: s.verdicts(where="client_ref::int = 3"), "does not fit"),
        (lambda s: s.verdicts(where="receipts * 9223372036854775807 > 1"), "does not fit"),
        (lambda s: s.explain(), "name the message ids"),
        (lambda s: s.explain("NOBODY"), "NOBODY"),
    ],
)
def test_what_cannot_be_meant_is_one_line(
    store: Frames, ask: Callable[[Frames], object], says: str, clean_environment: None
) -> None:
    """Each mistake is a ReconcileError of one line that names it."""
    with pytest.raises(ReconcileError) as refused:
        ask(store)
    assert says in str(refused.value)
    assert "\n" not in str(refused.value)


def test_no_store_is_one_line(tmp_path: Path) -> None:
    """A folder that is none says how one is made."""
    with pytest.raises(UsageError, match=r"no store at .*reconcile run"):
        reconcile.open(tmp_path / "nowhere")


def test_an_empty_store_gives_empty_frames(tmp_path: Path) -> None:
    """Before the first night each table is there, without rows."""
    Store.open(tmp_path / "store", create=True)
    store = reconcile.open(str(tmp_path / "store"))
    assert store.days() == []
    assert list(store.summary().columns) == SUMMARY.names
    assert len(store.summary(where="missing > 0")) == 0
    assert store.table("changes", DAY).arrow().schema == store.table("changes").schema


def test_a_damaged_file_is_one_line(demo_store: Path, tmp_path: Path) -> None:
    """A file that is no parquet names its table."""
    Store.open(tmp_path / "store", create=True)
    path = tmp_path / "store" / "summary" / f"day={DAY}" / "summary.parquet"
    path.parent.mkdir(parents=True)
    path.write_text("no parquet", "ascii")
    with pytest.raises(InputError, match="table summary cannot be read"):
        reconcile.open(tmp_path / "store").summary()


@pytest.mark.slow
def test_explain_says_what_the_command_says(
    store: Frames, demo_store: Path, console: Callable[..., tuple[int, str, str]],
    clean_environment: None,
) -> None:  # fmt: skip
    """`explain` returns the JSON of `reconcile explain`, as Python."""
    [message_id] = store.verdicts(where="verdict = 'missing'")["message_id"].head(1)
    code, told, _ = console("explain", message_id, "--store", str(demo_store), "--format", "json")
    assert code == 0
    assert store.explain(message_id) == json.loads(told)


def test_importing_the_package_is_cheap() -> None:
    """`import reconcile` loads neither pandas nor the engine."""
    code = (
        "import reconcile, sys; print({'pandas', 'duckdb', 'pyarrow', 'ibis'} & set(sys.modules))"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ended.stdout.strip() == "set()"


def test_selected_columns_have_their_schema(store: Frames) -> None:
    """The schema of a selection is known before anything is read."""
    chosen = store.table("summary", columns=["date", "spend"])
    assert chosen.schema == pa.schema([("date", pa.date32()), ("spend", pa.decimal128(18, 8))])
    assert repr(store).startswith("reconcile.open(")
