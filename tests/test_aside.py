"""Rows that are cut aside are all there, once, each with its span, as the types they had."""

from __future__ import annotations

import itertools
import os
import signal
import time
from collections import Counter
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from reconcile import aside, engine
from reconcile.aside import Whole
from reconcile.cutting import ALL, Span
from reconcile.errors import DiskError, InputError
from reconcile.tables import RECEIPTS, RECORDS

# Ids of any kind: callers' captures are untrusted, and an id is whatever stands in its place.
IDS = [
    "", "'", "A", "AA", "B' OR '1'='1", "Z", "a", "z" * 300, "é", "日本", "\U0001f600",
    *map(str, range(40)),
]  # fmt: skip
ENDS = ["", "1", "2", "38", "A", "B' OR '1'='1", "B'", "é", "日"]
FEW = ("status", "error_code", "network_code", "source")


def spans(ends: list[str]) -> tuple[Span, ...]:
    """Spans that end there."""
    ordered = sorted(set(ends), key=lambda end: end.encode())
    return tuple(Span(*pair) for pair in zip(ordered, [*ordered[1:], None], strict=True))


def rows(count: int, first: int = 0) -> pa.Table:
    """Receipts, many columns of which are null now and then."""
    at = datetime(2026, 1, 5, tzinfo=UTC)
    found = [
        {
            "message_id": IDS[n * 7 % len(IDS)],
            "account_id": None if n % 3 else "5a4d0b0e",
            "client_ref": None if n % 2 else f"campaign {n}",
            "network_code": f"{n % 5:05}",
            "status": ("delivered", "failed", "a word of its own" if n == 5 else "buffered")[n % 3],
            "error_code": f"{n % 16}",
            "price": None if n % 4 else Decimal(n).scaleb(-8),
            "pushed_at": None if n % 5 == 1 else at + timedelta(microseconds=n),
            "captured_at": at + timedelta(seconds=n),
            "source": f"capture-{first}.jsonl",
            "line": first + n,
        }
        for n in range(count)
    ]
    return pa.Table.from_pylist(found, schema=RECEIPTS.schema)


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    """Three files of different engines' making; one has no row."""
    paths = [tmp_path / f"{n}.parquet" for n in range(3)]
    pq.write_table(rows(3000), paths[0], row_group_size=700)
    pq.write_table(rows(0), paths[1])
    con = engine.bare("1GB", 1, tmp_path)
    con.register("given", rows(2000, 10_000))
    con.execute(f"COPY given TO '{paths[2]}' (FORMAT parquet)")
    return paths


@pytest.mark.parametrize("ends", [[""], ENDS, ["", *IDS]], ids=len)
@pytest.mark.parametrize("memory", ["1GB", "2MB"])
def test_every_row_is_in_its_span(
    tmp_path: Path, files: list[Path], ends: list[str], memory: str
) -> None:
    """No row is lost, twice, or changed, whatever the ids are and however little may be held."""
    con = engine.connect("1GB", 2, tmp_path)
    con.con.execute(f"SET memory_limit = '{memory}'")
    whole, wanted = Whole(RECEIPTS, files, FEW), spans(ends)
    with aside.cut(con, [whole], wanted, tmp_path / "cut") as [theirs]:
        con.con.execute("SET memory_limit = '1GB'")
        found = [con.con.sql(query).to_arrow_table().cast(RECEIPTS.schema) for query in theirs]
        several = len(list((tmp_path / "cut").rglob("0-*.parquet")))
    assert (several > 1) == (memory == "2MB")
    for span, part in zip(wanted, found, strict=True):
        ids = sorted(text.encode() for text in part["message_id"].to_pylist())
        assert not ids or ids[0] >= span.first.encode()
        assert not ids or span.end is None or ids[-1] < span.end.encode()
    expected = pa.concat_tables([rows(3000), rows(2000, 10_000)]).sort_by("line")
    assert pa.concat_tables(found).sort_by("line").equals(expected)
    assert not list((tmp_path / "cut").rglob("*.parquet"))


def test_blank_columns_are_null(tmp_path: Path, files: list[Path]) -> None:
    """Columns that nobody reads are there, in their types, and null; nothing else is."""
    con = engine.connect("1GB", 1, tmp_path)
    blank = ("price", "source", "captured_at")
    with aside.cut(con, [Whole(RECEIPTS, files, FEW, blank)], ALL, tmp_path / "cut") as [[query]]:
        found = con.con.sql(query).to_arrow_table().cast(RECEIPTS.schema)
    expected = pa.concat_tables([rows(3000), rows(2000, 10_000)]).sort_by("line")
    for name in RECEIPTS.names:
        column = found.sort_by("line")[name]
        if name in blank:
            assert column.null_count == len(expected), name
        else:
            assert column.equals(expected[name]), name


def test_rows_of_a_query_are_put_aside(tmp_path: Path, files: list[Path]) -> None:
    """What a query finds lies in one file as long as it is needed, and can be cut in turn."""
    con = engine.connect("1GB", 1, tmp_path)
    query = f"SELECT * FROM ({Whole(RECEIPTS, files, FEW).query}) WHERE line % 2 = 1"
    with aside.put(con, query, tmp_path / "deep" / "half.parquet") as path:
        half = Whole(RECEIPTS, [path], FEW)
        with aside.cut(con, [half], spans(ENDS), tmp_path / "cut") as [theirs]:
            lines = [
                n for q in theirs for (n,) in con.con.sql(f"SELECT line FROM ({q})").fetchall()
            ]
    assert sorted(lines) == [*range(1, 3000, 2), *range(10_001, 12_000, 2)]
    assert not path.exists()


@pytest.mark.parametrize("broken", ["a page", "the end", "lacks a column", "a column of text"])
def test_file_that_is_broken_is_said(tmp_path: Path, files: list[Path], broken: str) -> None:
    """A file that cannot be read ends in one line that says which table and what to do."""
    data = bytearray(files[0].read_bytes())
    if broken == "a page":
        data[200:2000] = bytes(1800)
    elif broken == "the end":
        del data[-100:]
    files[0].write_bytes(data)
    if broken == "lacks a column":
        pq.write_table(rows(10).drop_columns(["line"]), files[0])
    elif broken == "a column of text":
        pq.write_table(rows(10).set_column(14, "line", pa.array(["ten"] * 10)), files[0])
    con, whole = engine.connect("1GB", 1, tmp_path), Whole(RECEIPTS, files, FEW)
    with (
        pytest.raises(InputError, match=r"table receipts cannot be read: .*restore") as caught,
        aside.cut(con, [whole], spans(ENDS), tmp_path / "cut"),
    ):
        pass
    assert "\n" not in str(caught.value)
    assert not list((tmp_path / "cut").rglob("*.parquet"))


@pytest.mark.parametrize("ends", ["a signal", "another table"])
def test_cutting_stops(
    tmp_path: Path, files: list[Path], ends: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A signal, or a table that cannot be cut, is not kept waiting for what is under way."""
    written: Counter[str] = Counter()
    write, quick = aside._Parts.write, True

    def slowly(parts: Any) -> None:
        written["quick" if quick else "slow"] += 1
        if ends == "a signal" and written["slow"] == 1:
            os.kill(os.getpid(), signal.SIGUSR1)
        time.sleep(0 if quick else 0.05)
        write(parts)

    def end(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(aside._Parts, "write", slowly)
    before = signal.signal(signal.SIGUSR1, end)
    con, wholes = engine.connect("1GB", 1, tmp_path), [Whole(RECEIPTS, files, FEW)]
    con.con.execute("SET memory_limit = '200KB'")
    with aside.cut(con, wholes, spans(ENDS), tmp_path / "cut"):
        quick = False  # that was all of it, undisturbed
    if ends == "another table":
        wholes.append(Whole(RECORDS, [tmp_path / "none.parquet"], FEW[:3]))
    try:
        with (
            pytest.raises(KeyboardInterrupt if ends == "a signal" else InputError),
            aside.cut(con, wholes, spans(ENDS), tmp_path / "cut"),
        ):
            pass
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert written["quick"] > 20
    assert written["slow"] < written["quick"] / 2
    assert not list((tmp_path / "cut").rglob("*.parquet"))


def test_disk_that_refuses_is_said(tmp_path: Path, files: list[Path]) -> None:
    """A place where nothing can be written is named, and it is not the table that is blamed."""
    (tmp_path / "cut").write_text("a file, no folder", "utf-8")
    con, whole = engine.connect("1GB", 1, tmp_path), Whole(RECEIPTS, files, FEW)
    with (
        pytest.raises(DiskError, match=f"{tmp_path / 'cut'}.* cannot be written"),
        aside.cut(con, [whole], ALL, tmp_path / "cut"),
    ):
        pass


def test_files_are_as_few_as_memory_allows(tmp_path: Path, files: list[Path]) -> None:
    """With twice the memory there are about half as many files."""
    counts: Counter[str] = Counter()
    for memory in ("1MB", "2MB", "4MB", "8MB"):
        con = engine.connect("1GB", 1, tmp_path)
        con.con.execute(f"SET memory_limit = '{memory}'")
        with aside.cut(con, [Whole(RECEIPTS, files, FEW)], spans(ENDS), tmp_path / "cut"):
            counts[memory] = len(list((tmp_path / "cut").rglob("*.parquet")))
    assert all(a > b for a, b in itertools.pairwise(counts.values()))
