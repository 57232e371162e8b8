"""Reports that somebody already has: taken in without asking Vonage, and then judged."""

from __future__ import annotations

import json
import os
import shutil
import zipfile
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from test_refreshing import KEY, message, write_world

from reconcile import importing, job
from reconcile.days import day_window
from reconcile.errors import ContractError, InputError, ReconcileError, UsageError
from reconcile.reports.slices import Source, is_whole
from reconcile.sandbox.archive import write_archive
from reconcile.sandbox.generate import Generated
from reconcile.sandbox.protocol import Query
from reconcile.sandbox.world import World
from reconcile.settings import Settings
from reconcile.store import Ledger, Store
from reconcile.tables import RECORDS, REJECTS
from tests.in_process import called

DAY, NEXT = date(2026, 1, 5), date(2026, 1, 6)
AS_OF = datetime(2026, 1, 20, 2, tzinfo=UTC)
MADE = datetime(2026, 1, 15, 9, tzinfo=UTC)
HEADER = '"account_id","id","message_id","date_received","status"'
Days = tuple[date, date] | None


class Shelf:
    """A store, and files that are taken into it."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings

    def take(self, *files: Path, days: Days = None) -> list[importing.Imported]:
        """Takes files in, and says what they held."""
        with job.opened(self.settings, AS_OF, lambda *_: None) as this:
            told = [importing.take_in(this, file, days) for file in files]
            job.finish(this, "fetch")
        self.manifest = this.manifest
        return told

    @property
    def ledger(self) -> Ledger:
        """The store's."""
        return Store.open(self.settings.store).ledger()

    def rows(self, day: date = DAY, table: Any = RECORDS) -> list[dict[str, Any]]:
        """A day's rows."""
        path = Store(self.settings.store).path(table, day)
        rows: list[dict[str, Any]] = (
            pq.read_table(path, partitioning=None).to_pylist() if path.exists() else []
        )
        return sorted(rows, key=lambda row: str(row.get("message_id", row)))

    @property
    def files(self) -> list[str]:
        """What is left under way."""
        return [path.name for path in (self.settings.store / ".work" / "slices").glob("*")]


@pytest.fixture
def shelf(configure: Any, monkeypatch: pytest.MonkeyPatch) -> Shelf:
    """An empty store of the account of the worlds."""
    return Shelf(configure(account_id=KEY))


@pytest.fixture(scope="session")
def archive(world: Generated, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The file of a report of the tiny world's two days."""
    folder = tmp_path_factory.mktemp("archive")
    return report_of(world.folder, folder / "SMS_report.zip")


def report_of(data: Path, target: Path, product: str = "SMS", days: int = 2) -> Path:
    """The file of a report of a data folder, as the sandbox would make it."""
    scratch = target.with_name(f"scratch-{target.stem}")
    scratch.mkdir()
    window = day_window(DAY)
    query = Query(account_id=KEY, product=product, direction="outbound", show_concatenated=True,
                  start=window.start, end=window.start + timedelta(days=days))  # fmt: skip
    served = World(data, scratch)
    write_archive(served, query, MADE, target, f"report_{product}.csv", lambda: False)
    served.close()
    shutil.rmtree(scratch)
    return target


def bare(archive: Path, target: Path) -> Path:
    """The CSV of an archive by itself."""
    with zipfile.ZipFile(archive) as zipped:
        target.write_bytes(zipped.read(zipped.namelist()[0]))
    os.utime(target, (MADE.timestamp(), MADE.timestamp()))
    return target


def table(folder: Path, *rows: str, header: str = HEADER) -> Path:
    """A CSV written by hand."""
    file = folder / "by hand.csv"
    file.write_text("\n".join([header, *rows]) + "\n")
    return file


# A report


def test_a_report(shelf: Shelf, archive: Path) -> None:
    """A ZIP brings every record of its days, costs nothing, and makes these days whole."""
    [told] = shelf.take(archive)
    assert (told.product, told.first, told.last, told.rejects) == ("SMS", DAY, NEXT, 0)
    assert told.records == {KEY: 2000}
    assert [len(shelf.rows(day)) for day in (DAY, NEXT)] == [1000, 1000]
    assert {row["fetched_at"] for row in shelf.rows()} == {MADE}
    assert all(is_whole(shelf.ledger, Source(KEY), day) for day in (DAY, NEXT))
    assert [(e["via"], e["billed"], e["records"]) for e in shelf.ledger.downloads] == [
        ("import", 0, 1000)] * 2  # fmt: skip
    assert (shelf.ledger.billed, shelf.files) == (0, [])
    [entry] = shelf.manifest["imports"]
    assert (entry["file"], entry["first"], entry["last"]) == (archive.name, str(DAY), str(NEXT))
    assert entry["request_id"].startswith("file:")


def test_a_bare_csv(shelf: Shelf, archive: Path, configure: Any, tmp_path: Path) -> None:
    """The CSV of a report by itself, whatever its name, brings the same records.

    When it was made it does not say: no sooner than the last moment it names.
    """
    shelf.take(archive)
    other = Shelf(configure(account_id=KEY, store=tmp_path / "other"))
    other.take(bare(archive, tmp_path / "export"))
    for day in (DAY, NEXT):
        rows = other.rows(day)
        moments = {row.pop("fetched_at") for row in rows}
        assert rows == [{k: v for k, v in row.items() if k != "fetched_at"}
                        for row in shelf.rows(day)]  # fmt: skip
        assert max(row["received_at"] for row in rows) <= max(moments) <= MADE


@pytest.mark.slow
def test_twice_is_once(shelf: Shelf, archive: Path) -> None:
    """A file that is taken in again changes nothing."""
    shelf.take(archive)
    before = shelf.rows(), shelf.rows(NEXT), shelf.ledger
    shelf.take(archive, archive)
    assert (shelf.rows(), shelf.rows(NEXT), shelf.ledger) == before


def test_days_that_are_named(shelf: Shelf, archive: Path) -> None:
    """Days that are named are whole even without a record; what lies outside of them is not."""
    end = NEXT + timedelta(days=2)
    [told] = shelf.take(archive, days=(NEXT, end))
    assert (told.first, told.last, told.records) == (NEXT, end - timedelta(days=1), {KEY: 1000})
    assert shelf.rows() == []
    whole = [is_whole(shelf.ledger, Source(KEY), NEXT + timedelta(days=n)) for n in (-1, 0, 1, 2)]
    assert whole == [False, True, True, False]
    assert told.rejects == 1000


def test_a_day_that_was_not_over(shelf: Shelf, tmp_path: Path) -> None:
    """A day that had not settled when the file was made is not whole: it is a hole, exit 3."""
    rows = [f'"{KEY}","","0A","2026-01-05T10:00:00Z","delivered"',
            f'"{KEY}","","0B","2026-01-06T10:00:00Z","delivered"']  # fmt: skip
    file = table(tmp_path, *rows)
    noon = datetime(2026, 1, 6, 12, tzinfo=UTC).timestamp()
    os.utime(file, (noon, noon))
    [told] = shelf.take(file)
    assert (told.first, told.last, told.whole, len(shelf.rows(NEXT))) == (DAY, NEXT, 1, 1)
    assert [is_whole(shelf.ledger, Source(KEY), day) for day in (DAY, NEXT)] == [True, False]
    assert [hole["day"] for hole in shelf.manifest["incomplete"]] == [str(NEXT)]
    assert shelf.manifest["exit_code"] == 3


def test_a_record_of_long_ago(shelf: Shelf, tmp_path: Path) -> None:
    """One stray date does not make thousands of days whole."""
    rows = [f'"{KEY}","","0A","1999-01-05T10:00:00Z","delivered"',
            f'"{KEY}","","0B","2026-01-06T10:00:00Z","delivered"']  # fmt: skip
    file = table(tmp_path, *rows)
    with pytest.raises(InputError, match="from 1999-01-05 to 2026-01-06, longer than Vonage holds"):
        shelf.take(file)
    [told] = shelf.take(file, days=(NEXT, NEXT + timedelta(days=1)))
    assert (told.whole, told.rejects, told.records) == (1, 1, {KEY: 1})


def test_a_row_without_a_time(shelf: Shelf, tmp_path: Path) -> None:
    """It is a reject; the days are those of the others, and so are the counts."""
    good = f'"{KEY}","r","0A","2026-01-05T10:00:00Z","delivered"'
    [told] = shelf.take(table(tmp_path, good, f'"{KEY}","q","0B","soon","delivered"'))
    assert (told.first, told.last, told.records, told.rejects) == (DAY, DAY, {KEY: 1}, 1)
    assert [row["message_id"] for row in shelf.rows()] == ["0A"]


def test_what_is_older_does_not_win(shelf: Shelf, archive: Path, tmp_path: Path) -> None:
    """A file that was made earlier changes no record that is newer in the store."""
    shelf.take(archive)
    before = shelf.rows()
    row = before[0]
    old = table(tmp_path, f'"{KEY}","","{row["message_id"]}","2026-01-05T00:00:01Z","accepted"')
    os.utime(old, (MADE.timestamp() - 3600, MADE.timestamp() - 3600))
    shelf.take(old)
    assert shelf.rows() == before


def test_a_copied_file(shelf: Shelf, tmp_path: Path) -> None:
    """When a bare file was copied says nothing of when it was made; its rows do."""
    file = table(tmp_path, f'"{KEY}","","0A","2026-01-05T00:00:01Z","accepted"')
    os.utime(file, (AS_OF.timestamp(), AS_OF.timestamp()))
    shelf.take(file)
    [row] = shelf.rows()
    assert row["fetched_at"] == row["received_at"] < AS_OF


def test_a_report_of_messages(shelf: Shelf, tmp_path: Path) -> None:
    """An export of the product MESSAGES is known by its channels; others than sms are rejects."""
    ids = [f"aaaaaaaa-bbbb-4ccc-8ddd-00000000000{n}" for n in range(3)]
    rows = [message(name, product="MESSAGES", id=name, provider=channel)
            for name, channel in zip(ids, ("sms", "sms", "whatsapp"), strict=True)]  # fmt: skip
    write_world(tmp_path / "w", rows)
    [told] = shelf.take(report_of(tmp_path / "w", tmp_path / "a.zip", "MESSAGES"))
    assert (told.product, told.records, told.rejects) == ("MESSAGES", {KEY: 2}, 1)
    assert {row["product"] for row in shelf.rows()} == {"MESSAGES"}
    assert is_whole(shelf.ledger, Source(KEY, "MESSAGES"), DAY)
    assert not is_whole(shelf.ledger, Source(KEY), DAY)
    [reject] = shelf.rows(AS_OF.date(), REJECTS)
    assert (reject["kind"], reject["source"]) == ("other_channel", "import:a.zip")


def test_several_accounts(shelf: Shelf, tmp_path: Path) -> None:
    """Records belong to the account that they name; each account's day is whole."""
    rows = (f'"{name}","","0{n}","2026-01-05T00:00:0{n}Z","delivered"'
            for n, name in enumerate((KEY, KEY, "11112222")))  # fmt: skip
    [told] = shelf.take(table(tmp_path, *rows))
    assert told.records == {KEY: 2, "11112222": 1}
    assert all(is_whole(shelf.ledger, Source(name), DAY) for name in (KEY, "11112222"))


def test_subaccounts_in_one_report(configure: Any, tmp_path: Path) -> None:
    """With include_subaccounts a file stands for all of them, as a report does."""
    shelf = Shelf(configure(accounts=[{"api_key": KEY, "include_subaccounts": True}]))
    rows = (f'"{name}","","0{n}","2026-01-05T00:00:0{n}Z","delivered"'
            for n, name in enumerate((KEY, "11112222")))  # fmt: skip
    shelf.take(table(tmp_path, *rows))
    [entry] = shelf.ledger.downloads
    assert (entry["account_id"], entry["subaccounts"], entry["records"]) == (KEY, True, 2)
    assert is_whole(shelf.ledger, Source(KEY, subaccounts=True), DAY)


@pytest.mark.parametrize("date_time", [(1980, 0, 0, 0, 0, 0), (1980, 1, 1, 0, 0, 0)])
def test_a_zip_without_a_time(shelf: Shelf, tmp_path: Path, date_time: Any) -> None:
    """A ZIP whose members tell no real time is taken in all the same."""
    file = tmp_path / "a.zip"
    member = zipfile.ZipInfo("a.csv", (1980, 1, 1, 0, 0, 0))
    member.date_time = date_time
    with zipfile.ZipFile(file, "w") as zipped:
        zipped.writestr(member, f'{HEADER}\n"{KEY}","","0A","2026-01-05T00:00:01Z","accepted"\n')
    assert shelf.take(file)[0].records == {KEY: 1}


# What is none


def refused(shelf: Shelf, file: Path, days: Days = None) -> ReconcileError:
    """Why a file is not taken in; nothing is left of it."""
    with pytest.raises(ReconcileError) as caught:
        shelf.take(file, days=days)
    assert shelf.ledger == Ledger()
    assert shelf.files == []
    assert str(caught.value).count("\n") == 0
    return caught.value


def test_a_directory(shelf: Shelf, tmp_path: Path) -> None:
    """A folder is none."""
    (tmp_path / "folder").mkdir()
    error = refused(shelf, tmp_path / "folder")
    assert isinstance(error, InputError)
    assert "folder cannot be read" in str(error)


def test_a_missing_file(shelf: Shelf, tmp_path: Path) -> None:
    """A file that is not there is named."""
    error = refused(shelf, tmp_path / "nowhere.zip")
    assert isinstance(error, InputError)
    assert "nowhere.zip cannot be read: No such file" in str(error)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"<!DOCTYPE html><title>Sign in</title>", "it is an HTML page"),
        (b'{"records": []}', "it is JSON"),
        (b"", "it is empty"),
        (b"a;b\n1;2\n", "splits it, where a comma should"),
        (b"PK\x03\x04 and no more", "is damaged"),
        (b"\x1f\x8b and no more", "is damaged"),
    ],
)
def test_what_is_no_report(shelf: Shelf, tmp_path: Path, content: bytes, words: str) -> None:
    """What is no report is refused in words, with exit code 6, and leaves nothing behind."""
    file = tmp_path / "a.zip"
    file.write_bytes(content)
    error = refused(shelf, file)
    assert words in str(error)
    assert "a.zip" in str(error)
    assert error.exit_code == 6


def test_a_report_that_lacks_ids(shelf: Shelf, tmp_path: Path) -> None:
    """A report without ids breaks the contract, and the file is named."""
    file = tmp_path / "a.zip"
    with zipfile.ZipFile(file, "w") as zipped:
        zipped.writestr("a.csv", '"status","date_received"\n"x","2026-01-05T00:00:01Z"\n')
    error = refused(shelf, file)
    assert isinstance(error, ContractError)
    assert "a.zip: " in str(error)


def test_an_empty_report(shelf: Shelf, tmp_path: Path) -> None:
    """A report without a record does not say which days it holds: they have to be named."""
    file = table(tmp_path)
    assert "name its days with --from and --to" in str(refused(shelf, file))
    [told] = shelf.take(file, days=(DAY, NEXT))
    assert (told.records, told.first, told.last) == ({}, DAY, DAY)
    assert is_whole(shelf.ledger, Source(KEY), DAY)
    assert shelf.rows() == []


def test_whose_records(configure: Any, tmp_path: Path) -> None:
    """A file that names no account needs one from the settings."""
    shelf = Shelf(configure())
    file = table(tmp_path, '"0A","2026-01-05T00:00:01Z","x"',
                 header="message_id,date_received,status")  # fmt: skip
    error = refused(shelf, file)
    assert isinstance(error, UsageError)
    assert "name --account-id" in str(error)
    shelf.settings = configure(account_id="11112222")
    assert shelf.take(file)[0].records == {"11112222": 1}


# The command


@pytest.fixture
def command(tmp_path: Path, shelf: Shelf) -> Callable[..., tuple[int, str, str]]:
    """The command without credentials: exit code, stdout, stderr."""
    plain = {k: v for k, v in os.environ.items() if not k.startswith(("RECONCILE", "VONAGE"))}
    plain["XDG_CONFIG_HOME"] = str(tmp_path / "config")

    def call(*words: str) -> tuple[int, str, str]:
        return called([*words, "--store", str(shelf.settings.store)], plain, tmp_path)

    return call


@pytest.mark.slow
def test_offline(
    command: Callable[..., tuple[int, str, str]], shelf: Shelf, archive: Path, world: Generated
) -> None:
    """What was taken in is judged without credentials, and the verdicts are the truth."""
    code, out, err = command("fetch", "--archive", str(archive), "--account-id", KEY)
    assert (code, err) == (0, "")
    assert f"SMS records: 2,000 of account {KEY}; 0 rejects" in out
    assert command("ingest", str(world.folder / "dlr" / "*"))[0] == 0
    code, _, err = command("judge", "--as-of", AS_OF.isoformat())
    assert (code, err) == (0, "")
    folders = [shelf.settings.store / "verdicts" / f"day={day}" for day in (DAY, NEXT)]
    rows = [row for folder in folders for row in pq.read_table(folder).to_pylist()]
    found = {row["message_id"]: row["verdict"] for row in rows}
    truth = pq.read_table(world.folder / "truth.parquet").to_pylist()
    assert found == {row["message_id"]: row["verdict"] for row in truth}
    [manifest] = [m for m in map(json.loads, (p.read_text() for p in (
        shelf.settings.store / "runs").glob("*.json"))) if m["command"] == "fetch"]  # fmt: skip
    assert manifest["imports"][0]["records"] == {KEY: 2000}


@pytest.mark.slow
def test_files_need_archive(command: Callable[..., tuple[int, str, str]], archive: Path) -> None:
    """Files without --archive, and --archive without files, are a mistake."""
    for words in ((str(archive),), ("--archive",), ("--archive", "--plan", str(archive))):
        assert command("fetch", *words)[0] == 2
