"""The benchmarks' traffic is the generator's, as the job's own readers take it in."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import duckdb
import pytest

from reconcile import importing, job, judging
from reconcile.days import day_window
from reconcile.sandbox.archive import write_archive
from reconcile.sandbox.faults import FAULTS, counts
from reconcile.sandbox.generate import ACCOUNT, START, generate, mature_at
from reconcile.sandbox.protocol import Query
from reconcile.sandbox.world import World
from reconcile.settings import Settings
from reconcile.store import Store
from reconcile.tables import ORPHANS, RECEIPTS, RECORDS, SUMMARY, VERDICTS
from tests.benchmarks.traffic import SEED, prepare

MESSAGES, CHUNK = 6_000, 2_000
AS_OF = mature_at(START, 1)


def made(folder: Path, chunk: int, other_days: int = 0) -> Store:
    folder.mkdir()
    prepare(folder, MESSAGES, chunk, other_days=other_days)
    return Store.open(folder / "store")


@pytest.fixture(scope="module")
def in_three(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """The benchmarks' store, made of three chunks."""
    return made(tmp_path_factory.mktemp("traffic") / "three", CHUNK)


@pytest.fixture(scope="module")
def read(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """The same traffic as a report's archive and captures, taken in by the job."""
    folder = tmp_path_factory.mktemp("traffic") / "read"
    folder.mkdir()
    (folder / "pii.key").write_text("a key for numbers that do not exist\n", "ascii")
    generate(folder / "traffic", messages=MESSAGES, days=1, seed=SEED, chunk=CHUNK)
    world = World(folder / "traffic", folder)
    window = day_window(START)
    query = Query(
        ACCOUNT.api_key, "SMS", "outbound", window.start, window.end, show_concatenated=True
    )
    write_archive(world, query, AS_OF, folder / "report.zip", "report.csv", lambda: False)
    world.close()
    settings = Settings(store=folder / "store", pii_key_file=folder / "pii.key", threads=1)
    with job.opened(settings, AS_OF, lambda *_: None) as this:
        importing.take_in(this, folder / "report.zip")
        assert job.ingest(this, [str(folder / "traffic" / "dlr")])
    return this.store


def differences(left: Store, right: Store, table: Any, replace: str = "*") -> list[Any]:
    """Rows of either side that the other has not, as often."""
    sides = [f"SELECT {replace} FROM ({s.query(table, s.days(table))})" for s in (left, right)]
    con = duckdb.connect()
    return [
        row
        for one, other in (sides, sides[::-1])
        for row in con.sql(f"SELECT r::VARCHAR FROM ({one} EXCEPT ALL {other}) AS r").fetchmany(3)
    ]


@pytest.mark.slow
def test_records_are_those_that_the_job_makes_of_the_report(in_three: Store, read: Store) -> None:
    """Row for row, in one partition."""
    assert in_three.days(RECORDS) == read.days(RECORDS) == [str(START)]
    assert differences(in_three, read, RECORDS) == []


def test_receipts_are_those_that_the_job_makes_of_the_captures(
    in_three: Store, read: Store
) -> None:
    """Row for row, lines included; captures by the names of their files."""
    own_name = "* REPLACE (parse_filename(source) AS source)"
    assert in_three.days(RECEIPTS) == read.days(RECEIPTS)
    assert differences(in_three, read, RECEIPTS, own_name) == []


def test_the_ledger_is_that_of_an_ingest(in_three: Store, read: Store) -> None:
    """As far as judging reads it: when each partition's receipts were captured."""
    assert in_three.ledger().receipt_days == read.ledger().receipt_days
    assert in_three.ledger().changed == read.ledger().changed


@pytest.mark.slow
def test_three_chunks_are_judged_as_one(in_three: Store, tmp_path: Path, con: Any) -> None:
    """All sums close, and each verdict is given as often as the faults' labels say."""
    due = Counter(confirmed=MESSAGES)
    for fault in FAULTS:
        if fault.verdict:
            due.update({fault.verdict: counts(MESSAGES)[fault.name]})
            due["confirmed"] -= counts(MESSAGES)[fault.name]
    for store in (in_three, made(tmp_path / "one", MESSAGES)):
        ours = frozenset({ACCOUNT.api_key})
        settings = Settings(store=store.root)
        with judging.Bench(store, con, store.ledger(), settings, AS_OF, ours) as bench:
            judged = judging.judge_day(bench, START, covered=True)
        assert {name: judged.counts[name] for name in due} == due
        assert judged.closed


def test_what_is_made_does_not_depend_on_threads(in_three: Store, tmp_path: Path) -> None:
    """Chunks that are made side by side are the same chunks, in the same order."""
    prepare(tmp_path, MESSAGES, CHUNK, threads=2)
    for table in (RECORDS, RECEIPTS):
        for day in in_three.days(table):
            paths = (in_three.path(table, day), Store.open(tmp_path / "store").path(table, day))
            assert len({path.read_bytes() for path in paths}) == 1


@pytest.mark.slow
def test_other_days_are_of_other_messages(in_three: Store, tmp_path: Path, con: Any) -> None:
    """Records before the day and receipts after it come on top, and change nothing of the day."""
    crowded = made(tmp_path / "crowded", CHUNK, other_days=2)
    before, after = (rows(store, RECEIPTS) for store in (in_three, crowded))
    first, *later = sorted(before)
    assert [after[day] - before[day] for day in later[:2]] == [before[first]] * 2
    assert list(rows(crowded, RECORDS).values()) == [MESSAGES] * 3
    stores = (in_three, crowded)
    for store in stores:
        ours, settings = frozenset({ACCOUNT.api_key}), Settings(store=store.root)
        with judging.Bench(store, con, store.ledger(), settings, AS_OF, ours) as bench:
            judging.judge_day(bench, START, covered=True)
    for table in (VERDICTS, ORPHANS, SUMMARY):
        assert differences(*stores, table) == []


def rows(store: Store, table: Any) -> dict[str, int]:
    """How many rows each partition has."""
    told = {day: f"SELECT count(*) FROM ({store.query(table, [day])})" for day in store.days(table)}
    return {day: (duckdb.sql(query).fetchone() or (0,))[0] for day, query in told.items()}
