"""A day judged by spans of message ids is the day judged at once, to the last row and reason."""

from __future__ import annotations

import itertools
import shutil
from collections import Counter
from collections.abc import Callable
from datetime import timedelta
from functools import cache
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from judged_traffic import taken_in

from reconcile import cutting, engine, judging
from reconcile.errors import InputError
from reconcile.judge import outages
from reconcile.sandbox.generate import START, Generated
from reconcile.settings import Settings
from reconcile.store import Store
from reconcile.tables import BY_NAME, CHANGES, METADATA_KEY, ORPHANS, RECORDS, SUMMARY, VERDICTS

MESSAGES = 4000
DAYS = [START, START + timedelta(days=1)]


@pytest.fixture(scope="module")
def taken(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Generated]:
    """Two days with every fault in them, downloaded and ingested, not judged."""
    folder = tmp_path_factory.mktemp("cutting")
    return folder, taken_in(folder, messages=MESSAGES, days=2, seed=20260105)


@pytest.fixture(scope="module")
def whole(
    taken: tuple[Path, Generated], tmp_path_factory: pytest.TempPathFactory
) -> Callable[[int], Store]:
    """The store of one account or of two, judged at once: made once."""

    @cache
    def made(accounts: int) -> Store:
        root = tmp_path_factory.mktemp("whole") / "store"
        with pytest.MonkeyPatch.context() as patch:
            return judged(taken, root, patch, spans=False, accounts=accounts)

    return made


def judged(
    taken: tuple[Path, Generated], root: Path, monkeypatch: pytest.MonkeyPatch, *, spans: bool,
    accounts: int = 1, crowded: bool = False,
) -> Store:  # fmt: skip
    """A copy of the store, judged: at once, or in spans however few messages there are; `crowded`:
    as if receipts of many other days were in reach."""
    folder, made = taken
    shutil.copytree(folder / "store", root)
    store, settings = Store.open(root), Settings(store=root, currency="EUR", memory_limit="1GB")
    con = engine.connect("1GB", 2, root / ".work" / "spill")
    if accounts > 1:
        _share(store, con, made)
    if spans:
        monkeypatch.setattr(cutting, "BYTES_AT_ONCE", 1 << 30)
        monkeypatch.setattr(cutting, "BYTES_IN_A_SPAN", (1 << 30) // (MESSAGES // 18))
        used: Counter[int] = Counter()
        kept = cutting.spans_of
        monkeypatch.setattr(cutting, "spans_of", lambda *a: _told(kept(*a), used))
    if crowded:
        monkeypatch.setattr(cutting, "CROWDED", 0)
    ours = frozenset({"5a4d0b0e", "other"})
    with store.lock():
        bench = judging.Bench(store, con, store.ledger(), settings, made.mature_at, ours)
        with bench:
            for day in DAYS:
                judging.judge_day(bench, day, covered=True)
    if spans:
        assert used
        assert min(used) > 5
    monkeypatch.undo()
    con.disconnect()
    assert not [path for path in (store.work / "aside").rglob("*") if path.is_file()]
    return store


def _told(spans: Any, used: Counter[int]) -> Any:
    used[len(spans)] += 1
    return spans


def _share(store: Store, con: Any, made: Generated) -> None:
    """Every tenth record is there for a second account as well: ids are shared."""
    for day in DAYS:
        own = store.query(RECORDS, [day])
        kept = ", ".join(name for name in RECORDS.names if name != "account_id")
        rows = (
            f"{own} UNION ALL BY NAME SELECT {kept}, 'other' AS account_id FROM ({own}) "
            "WHERE hash(message_id) % 10 = 0"
        )
        store.publish([store.write(con, rows, RECORDS, day, made.mature_at)])


def tables(store: Store) -> dict[str, pa.Table]:
    """All that is published, by table and partition."""
    return {
        f"{name} {day}": pa.concat_tables(map(read, store.files(BY_NAME[name], day)))
        for name in ("verdicts", "orphans", "summary", "reasons", "error_codes", "networks")
        for day in store.days(BY_NAME[name])
    }


def read(path: Path) -> pa.Table:
    """The rows of one file."""
    return pq.read_table(path, partitioning=None)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("accounts", "spans", "crowded"),
    [(1, True, False), (2, True, False), (1, False, True), (2, True, True)],
)
def test_spans_are_the_whole(
    taken: tuple[Path, Generated], whole: Callable[[int], Store], tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch, accounts: int, spans: bool, crowded: bool,
) -> None:  # fmt: skip
    """Every table is the same, in the same order and types, also where accounts share ids, and
    where the receipts of the day's messages are put aside first."""
    parts = judged(taken, tmp_path / "parts", monkeypatch, spans=spans, accounts=accounts,
                   crowded=crowded)  # fmt: skip
    expected, found = tables(whole(accounts)), tables(parts)
    assert list(found) == list(expected)
    assert (
        sum(len(rows) for name, rows in found.items() if name.startswith("verdicts")) > MESSAGES - 1
    )
    for name, rows in expected.items():
        assert found[name].equals(rows), name


@pytest.mark.slow
def test_files_say_what_they_are(
    taken: tuple[Path, Generated], whole: Callable[[int], Store], tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """A day that was cut has a file a span, each with the same dictionary of data, and its ids
    follow on those of the file before; who reads their folder has them all."""
    parts = judged(taken, tmp_path / "parts", monkeypatch, spans=True)
    [one] = map(pq.ParquetFile, whole(1).files(VERDICTS, START))
    several = [pq.ParquetFile(path) for path in parts.files(VERDICTS, START)]
    assert len(several) > 5
    for file in several:
        assert (
            file.metadata.metadata[METADATA_KEY.encode()]
            == one.metadata.metadata[METADATA_KEY.encode()]
        )
        assert file.schema_arrow.equals(one.schema_arrow)
    at = VERDICTS.names.index("message_id")
    ids = [file.metadata.row_group(0).column(at).statistics for file in several]
    assert all(a.max < b.min for a, b in itertools.pairwise(ids))
    folder = parts.path(VERDICTS, START).parent
    assert pq.read_table(folder, partitioning=None).equals(tables(whole(1))[f"verdicts {START}"])


@pytest.mark.slow
def test_outages_are_masked_in_spans(
    taken: tuple[Path, Generated], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where our capture was down, a day that is cut says so for the same messages."""
    monkeypatch.setattr(outages, "LEAST_MESSAGES", 1)
    monkeypatch.setattr(outages, "LEAST_SHARE", 0.01)
    monkeypatch.setattr(outages, "LEAST_NETWORKS", 1)
    monkeypatch.setattr(judging, "_COMPILED", {})
    monkeypatch.setattr(judging, "_SQL", {})
    with monkeypatch.context() as only:
        whole = judged(taken, tmp_path / "whole", only, spans=False)
    with monkeypatch.context() as only:
        parts = judged(taken, tmp_path / "parts", only, spans=True)
    rows = [tables(store)[f"verdicts {START}"] for store in (whole, parts)]
    assert rows[0].equals(rows[1])
    masked = [why for why in rows[0]["reasons"].to_pylist() if "capture_outage" in why]
    assert masked


@pytest.mark.parametrize("ids", [[], ["A"], ["A"] * 50, ["A", "B"] * 50, list("ABCDEFGH")], ids=len)
def test_spans_hold_every_id_once(
    tmp_path: Path, ids: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Spans follow one another without a gap, whatever the ids are, and none is cut in two."""
    monkeypatch.setattr(cutting, "BYTES_AT_ONCE", 1 << 40)
    monkeypatch.setattr(cutting, "BYTES_IN_A_SPAN", 1 << 28)
    con = engine.connect("1GB", 1, tmp_path)
    con.con.execute("CREATE TABLE r (message_id VARCHAR)")
    con.con.execute("INSERT INTO r SELECT unnest(?::VARCHAR[])", [ids])
    spans = cutting.spans_of(con, "SELECT * FROM r")
    counted = [con.con.execute(f"SELECT count(*) FROM ({span.of('SELECT * FROM r')})").fetchone()[0]
               for span in spans]  # fmt: skip
    assert sum(counted) == len(ids)
    ends = [(span.first, span.end) for span in spans]
    assert (ends[0][0], ends[-1][1]) == ("", None)
    assert all(a[1] == b[0] for a, b in itertools.pairwise(ends))


def test_default_memory_judges_small_days_at_once(tmp_path: Path) -> None:
    """A million messages within 1 GB are one span, twenty million are not."""
    con = engine.connect("1GB", 1, tmp_path)
    rows = "SELECT range::VARCHAR AS message_id FROM range({})"
    assert cutting.spans_of(con, rows.format(1_000_000)) == cutting.ALL
    assert len(cutting.spans_of(con, rows.format(20_000_000))) > 10


def test_memory_is_told_in_bytes(tmp_path: Path) -> None:
    """The engine's limit is read back as it was set, to a percent or so."""
    for text, size in (("512MB", 512e6), ("2GB", 2e9), ("1GiB", 2**30), ("1.5TB", 1.5e12)):
        assert engine.memory_of(engine.connect(text, 1, tmp_path)) == pytest.approx(size, rel=0.05)


@pytest.mark.slow
def test_memory_that_is_too_little_is_said(taken: tuple[Path, Generated], tmp_path: Path) -> None:
    """An engine that has no room for a span ends with one line, and the store is as it was."""
    folder, made = taken
    root = tmp_path / "small"
    shutil.copytree(folder / "store", root)
    store = Store.open(root)
    con = engine.connect("12MB", 1, root / ".work" / "spill")
    settings = Settings(store=root, currency="EUR")
    bench = judging.Bench(store, con, store.ledger(), settings, made.mature_at, frozenset())
    with store.lock(), bench, pytest.raises(InputError, match="raise memory_limit"):
        judging.judge_day(bench, START, covered=True)
    assert not store.days(VERDICTS)
    assert not store.days(SUMMARY)
    assert not store.days(ORPHANS)
    assert not store.days(CHANGES)


@pytest.mark.slow
@pytest.mark.parametrize("broken", ["truncated", "lacks a column"])
def test_store_that_is_broken_is_said(
    taken: tuple[Path, Generated], tmp_path: Path, broken: str
) -> None:
    """A file of the store that is damaged ends judging with one line that names it."""
    folder, made = taken
    root = tmp_path / "broken"
    shutil.copytree(folder / "store", root)
    store = Store.open(root)
    path = store.path(RECORDS, START)
    if broken == "truncated":
        path.write_bytes(path.read_bytes()[:1000])
    else:
        pq.write_table(pq.ParquetFile(path).read().drop_columns(["validity_ms"]), path)
    con = engine.connect("1GB", 1, root / ".work" / "spill")
    bench = judging.Bench(store, con, store.ledger(), Settings(store=root), made.mature_at,
                          frozenset())  # fmt: skip
    with store.lock(), bench, pytest.raises(InputError, match="restore the file") as caught:
        judging.judge_day(bench, START, covered=True)
    assert "\n" not in str(caught.value)
