"""A file of the store whose pages are damaged ends a run with one line that names it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from datetime import UTC, date, datetime
from pathlib import Path

import duckdb
import pyarrow.parquet as pq
import pytest

from reconcile import damage, engine
from reconcile.errors import InputError
from reconcile.store import Store
from reconcile.tables import BY_NAME

DAY = date(2026, 10, 14)
AS_OF = "2026-11-01T02:00:00Z"
Called = tuple[int, str, str]


@pytest.fixture
def store(demo_store: Path, tmp_path: Path, clean_environment: None) -> Store:
    """The demo's store, to be harmed."""
    shutil.copytree(demo_store, tmp_path / "harmed")
    return Store.open(tmp_path / "harmed")


@pytest.mark.parametrize(
    ("table", "column", "mend"),
    [
        ("records", "status", "restore it from a backup"),
        ("receipts", "message_id", "restore it from a backup"),
        ("verdicts", "verdict", "or remove its folder and judge its day again"),
    ],
)
def test_damaged_page(
    store: Store, console: Callable[..., Called], table: str, column: str, mend: str
) -> None:
    """Its footer is sound, and a page of one column is not: exit 6, and nothing is published."""
    path = store.path(BY_NAME[table], DAY)
    _harm(path, column)
    before = _files(store)
    code, out, err = console("judge", "--store", store.name, "--date", str(DAY), "--as-of", AS_OF)
    assert (code, out, err.count("\n")) == (6, "", 1)
    assert f"{table}/day={DAY}/{path.name} is damaged" in err
    assert mend in err
    assert _files(store) == before


def test_damaged_receipts_stop_an_ingest(
    store: Store, console: Callable[..., Called], tmp_path: Path
) -> None:
    """New receipts of a damaged day are told, and wait for the next run."""
    path = store.path(BY_NAME["receipts"], DAY)
    sound = path.read_bytes()
    capture = tmp_path / "more.ndjson"
    said = {"messageId": "0A00000000000001", "status": "delivered",
            "message-timestamp": f"{DAY} 10:00:00"}  # fmt: skip
    capture.write_text(json.dumps(said) + "\n", "ascii")
    _harm(path, "message_id")
    code, _, err = console("ingest", "--store", store.name, "--as-of", AS_OF, str(capture))
    assert (code, err.count("\n")) == (6, 1)
    assert f"receipts/day={DAY}/{path.name} is damaged" in err
    path.write_bytes(sound)
    rows = pq.ParquetFile(path).metadata.num_rows
    code, _, _ = console("ingest", "--store", store.name, "--as-of", AS_OF, str(capture))
    assert (code, pq.ParquetFile(path).metadata.num_rows) == (0, rows + 1)


@pytest.mark.parametrize("harmed", [True, False])
@pytest.mark.parametrize(
    "kind", [duckdb.OutOfMemoryException, duckdb.IOException, duckdb.BinderException]
)
def test_other_troubles_stay_what_they_are(
    store: Store, tmp_path: Path, kind: type[duckdb.Error], harmed: bool
) -> None:
    """Memory and disks have lines of their own, and a mistake of ours in a sound store is one."""
    if harmed:
        _harm(store.path(BY_NAME["records"], DAY), "status")
    con = engine.connect("1GB", 1, tmp_path / "spill")
    blamed = harmed and kind is duckdb.BinderException
    with (
        pytest.raises(InputError if blamed else kind),
        damage.named(store, con, datetime(2026, 11, 1, tzinfo=UTC)),
    ):
        raise kind("no more")


def _harm(path: Path, column: str) -> None:
    """Turns the bits of a column's first pages around."""
    group = pq.read_metadata(path).row_group(0)
    chunks = {group.column(n).path_in_schema: group.column(n) for n in range(group.num_columns)}
    chunk = chunks[column]
    start = chunk.dictionary_page_offset or chunk.data_page_offset
    content = bytearray(path.read_bytes())
    for place in range(start, start + chunk.total_compressed_size):
        content[place] ^= 0xFF
    path.write_bytes(content)


def _files(store: Store) -> dict[str, bytes]:
    return {str(p.relative_to(store.root)): p.read_bytes()
            for p in store.root.rglob("*") if p.is_file() and ".work" not in p.parts}  # fmt: skip
