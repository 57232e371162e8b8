"""A store as it is begun, and its partitions of one file or of several."""

from __future__ import annotations

import itertools
import json
import os
import shutil
from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import reconcile
from reconcile.errors import StoreVersionError, UsageError
from reconcile.store import MARKER, Staged, Store
from reconcile.tables import REASONS, RECEIPTS, RECORDS, TABLES, VERDICTS, Table
from tests.in_process import called

AS_OF = datetime(2026, 10, 20, 12, tzinfo=UTC)


@pytest.mark.parametrize("torn", ["", "{", '{"format": 1'])
def test_killed_while_it_was_begun(torn: str, tmp_path: Path) -> None:
    """What a killed run left of its first file keeps nobody out."""
    store = tmp_path / "store"
    store.mkdir()
    (store / f".{MARKER}.new").write_text(torn, "ascii")
    (store / ".work").mkdir()
    assert Store.open(store, create=True).root == store
    assert [path.name for path in store.glob("*.json")] == [MARKER]
    assert not (store / f".{MARKER}.new").exists()


def test_a_folder_of_others_is_left_alone(tmp_path: Path) -> None:
    """Beside files that are none of ours no store is begun."""
    (tmp_path / "holidays.jpg").touch()
    with pytest.raises(UsageError, match="not empty and no store"):
        Store.open(tmp_path, create=True)
    assert [path.name for path in tmp_path.iterdir()] == ["holidays.jpg"]


def test_a_ledger_of_tomorrow(tmp_path: Path) -> None:
    """A ledger with what a later version adds is refused by name, before anything is lost of it."""
    store = Store.open(tmp_path / "store", create=True)
    store.save(store.ledger())
    path = store.root / "ledger.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"insured": []}))
    with pytest.raises(StoreVersionError, match="insured"):
        store.ledger()


def staged(store: Store, name: str, *parts: pa.Table) -> Staged:
    """A partition of `reasons` of several files, as an engine of many machines leaves it."""
    folder = store.staging / name
    folder.mkdir(parents=True)
    for number, rows in enumerate(parts):
        pq.write_table(rows, folder / f"part-{number:05}.parquet")
    return Staged(REASONS.name, "2026-10-01", folder, sum(len(rows) for rows in parts))


def a_reason(name: str) -> pa.Table:
    """One row of `reasons`; all that is not named is blank."""
    return pa.Table.from_pylist([{"reason": name}], schema=REASONS.schema)


def reasons_of(store: Store) -> list[str]:
    return [
        pq.read_table(file, partitioning=None)["reason"][0].as_py()
        for file in store.files(REASONS, "2026-10-01")
    ]


def test_a_partition_is_replaced_as_a_whole(tmp_path: Path) -> None:
    """By one file, by fewer or by more: nothing of what it was before is read, or left."""
    store = Store.open(tmp_path / "store", create=True)
    for names in (["a", "b", "c"], ["d", "e"], ["f"], ["g", "h"]):
        parts = [a_reason(name) for name in names]
        several = staged(store, "parts", *parts)
        if len(parts) == 1:
            one = store.staging / "one.parquet"
            (several.path / "part-00000.parquet").rename(one)
            several.path.rmdir()
            several = Staged(REASONS.name, "2026-10-01", one, 1)
        store.publish([several])
        assert reasons_of(store) == names
        assert store.days(REASONS) == ["2026-10-01"]
        left = list((store.root / REASONS.name).rglob("*.parquet"))
        assert sorted(left) == sorted(store.files(REASONS, "2026-10-01"))


def test_what_a_killed_run_left_is_no_part(tmp_path: Path) -> None:
    """Files that were put there and never named are not read, and go with the next publication."""
    store = Store.open(tmp_path / "store", create=True)
    store.publish([staged(store, "first", a_reason("a"), a_reason("b"))])
    stray = store.path(REASONS, "2026-10-01").parent / "stray" / "part-00000.parquet"
    stray.parent.mkdir()
    pq.write_table(a_reason("z"), stray)
    assert reasons_of(store) == ["a", "b"]
    store.publish([staged(store, "second", a_reason("c"))])
    assert reasons_of(store) == ["c"]
    assert not stray.exists()


def in_pieces(store: Store, table: Table, day: str) -> None:
    """Publishes a partition anew, as three files."""
    [file] = store.files(table, day)
    rows = pq.read_table(file, partitioning=None)
    folder = store.staging / f"{table.name}-{day}"
    folder.mkdir(parents=True)
    ends = [0, len(rows) // 3, len(rows) // 2, len(rows)]
    for number, (start, end) in enumerate(itertools.pairwise(ends)):
        pq.write_table(rows[start:end], folder / f"part-{number:05}.parquet")
    store.publish([Staged(table.name, day, folder, len(rows))])


@pytest.mark.slow
def test_whoever_reads_takes_both(demo_store: Path, tmp_path: Path) -> None:
    """What is shown, explained and judged is the same whether a partition is one file or three."""
    whole, parted = tmp_path / "whole", tmp_path / "parted"
    for folder in (whole, parted):
        shutil.copytree(demo_store.parent, folder)
    store = Store.open(parted / "store")
    for table in TABLES:
        for day in store.days(table):
            in_pieces(store, table, day)
    verdicts = reconcile.open(whole / "store").table("verdicts").arrow()
    ids = verdicts["message_id"].to_pylist()[:3]
    day = str(verdicts["received_at"][0].as_py().date())
    commands = [
        ["show", "--by", "campaign"], ["show", "--by", "network"], ["explain", *ids],
        ["show", "--table", "receipts"], ["judge", "--date", day, "--as-of", "2027-01-01"],
        ["show", "--table", "verdicts", "--limit", "100000", "--format", "csv"],
    ]  # fmt: skip
    for command in commands:
        told = [told_by(command, folder) for folder in (whole, parted)]
        assert told[0] == told[1], command
    assert len(Store.open(parted / "store").files(VERDICTS, day)) == 1  # judged again
    assert len(Store.open(parted / "store").files(RECORDS, day)) == 3
    assert any(len(store.files(RECEIPTS, part)) == 3 for part in store.days(RECEIPTS))


def told_by(command: list[str], folder: Path) -> tuple[int, str, str]:
    """Exit code, stdout and stderr of a command on the store in a folder."""
    return called([*command, "--store", "store"], os.environ, folder)
