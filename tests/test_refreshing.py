"""Asking again by id: what is not final, what contradicts, and receipts without a record."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from reconcile import fetching, job, refreshing
from reconcile.days import iso, parse_moment
from reconcile.reports import keep
from reconcile.reports.slices import Source
from reconcile.sandbox.server import Sandbox
from reconcile.settings import Account, Settings, load
from reconcile.store import Store
from reconcile.tables import ORPHANS, RECORDS, VERDICTS

DAY, NEXT = date(2026, 1, 5), date(2026, 1, 6)
KEY, SECRET = "5a4d0b0e", "invented"
BY_ID = "by id"
# What a message of the world is unless a test says other.
PLAIN = {
    "account_id": KEY, "product": "SMS", "id": "", "direction": "outbound", "to": "447700900001",
    "from": "ACME", "country": "GB", "network": "23410", "status_before": "accepted",
    "status": "delivered", "visible_from": "", "provider": "", "total_price": "0.04",
    "currency": "EUR",
}  # fmt: skip


def message(message_id: str, received: str = "2026-01-05T10:00:00Z", end: str | None = "6s",
            **more: str) -> dict[str, str]:  # fmt: skip
    """A message of the world; `end` is when it is final: seconds later, a moment, or never."""
    moment = parse_moment(received)
    if end and end.endswith("s"):
        end = iso(moment + timedelta(seconds=int(end[:-1])))
    return PLAIN | {"message_id": message_id, "date_received": received,
                    "date_finalized": end or "", "id": f"R{message_id}"} | more  # fmt: skip


def receipt(message_id: str, pushed: str = "2026-01-05T10:00:07Z", status: str = "delivered",
            **more: str) -> dict[str, str]:  # fmt: skip
    """A receipt as a webhook keeps it."""
    return {"msisdn": "447700900001", "to": "ACME", "network-code": "23410",
            "messageId": message_id, "price": "0.04", "status": status, "err-code": "0",
            "api-key": KEY, "message-timestamp": pushed} | more  # fmt: skip


def write_world(
    folder: Path, messages: list[dict[str, str]], accounts: list[dict[str, str]] | None = None
) -> None:
    """A data folder of the sandbox, written by hand."""
    folder.mkdir(parents=True, exist_ok=True)
    listed = accounts or [{"api_key": KEY, "api_secret": SECRET}]
    (folder / "sandbox.json").write_text(json.dumps({"format": 1, "accounts": listed}))
    header = list(PLAIN | {"message_id": "", "date_received": "", "date_finalized": ""})
    lines = [",".join(header), *(",".join(row[name] for name in header) for row in messages)]
    (folder / "world.csv").write_text("\n".join(lines) + "\n")


def write_receipts(folder: Path, *receipts: dict[str, str], name: str = "a") -> None:
    """A capture of receipts, with when each was captured: a second after it was pushed."""
    (folder / "dlr").mkdir(parents=True, exist_ok=True)
    lines = [
        json.dumps({
            "received_at": iso(parse_moment(each["message-timestamp"]) + timedelta(seconds=1)),
            **each,
        })
        for each in receipts
    ]  # fmt: skip
    (folder / "dlr" / f"{name}.ndjson").write_text("\n".join(lines) + "\n")


@dataclass
class World:
    """A world written by hand, its sandbox, and the runs over it."""

    folder: Path
    sandbox: Sandbox
    settings: Settings

    @property
    def store(self) -> Store:
        """What the runs have left."""
        return Store.open(self.settings.store)

    @property
    def by_id(self) -> list[list[str]]:
        """The ids of every question by id."""
        return [each.query["id"].split(",") for each in self.sandbox.requests
                if "id" in each.query]  # fmt: skip

    def run(self, as_of: str, *days: date, **settings: Any) -> job.Run:
        """A whole run, as of a moment, for these days."""
        moment = self.sandbox.now = parse_moment(as_of)
        days = days or (DAY,)
        asked = job.Asked(days[0], days[-1] + timedelta(days=1))
        changed = self.settings.model_copy(update=settings)
        return job.run(changed, asked, moment, lambda *_: None)

    def fetch(self, as_of: str, *days: date, **settings: Any) -> job.Run:
        """A run that only downloads."""
        moment = self.sandbox.now = parse_moment(as_of)
        changed = self.settings.model_copy(update=settings)
        with job.opened(changed, moment, lambda *_: None) as this:
            with fetching.connected(this, changed.credentials()) as vonage:
                fetching.fetch(this, vonage, list(days or (DAY,)))
            job.finish(this, "fetch")
        return this

    def rows(self, table: Any, day: date | str = DAY) -> dict[str, dict[str, Any]]:
        """A day's rows by message id."""
        path = self.store.path(table, day)
        rows = pq.read_table(path, partitioning=None).to_pylist() if path.exists() else []
        return {row["message_id"]: row for row in rows}

    def verdict(self, message_id: str, day: date = DAY) -> tuple[str, list[str]]:
        """A message's verdict, and its reasons."""
        row = self.rows(VERDICTS, day)[message_id]
        return row["verdict"], row["reasons"]


@contextmanager
def world_of(
    configure: Any, folder: Path, messages: list[dict[str, str]], *receipts: dict[str, str],
    accounts: list[dict[str, str]] | None = None, faults: dict[str, int | float] | None = None,
    **settings: Any,
) -> Iterator[World]:  # fmt: skip
    """A world with messages and receipts, and settings for runs over it."""
    write_world(folder, messages, accounts)
    write_receipts(folder, *receipts)
    with Sandbox(folder, pending_seconds=0, seconds_per_million=0, faults=faults) as sandbox:
        quick = {"base_url": sandbox.base_url, "dlr": [str(folder / "dlr" / "*")], "via": "async"}
        yield World(folder, sandbox, configure(**quick | settings))


@pytest.fixture
def make(
    configure: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[..., World]]:
    """Worlds of one account, whose secret is in the environment."""
    monkeypatch.setenv("VONAGE_API_KEY", KEY)
    monkeypatch.setenv("VONAGE_API_SECRET", SECRET)
    with ExitStack() as stack:
        yield lambda *rows, **more: stack.enter_context(
            world_of(configure, tmp_path / "w", *rows, **more)
        )


# What is not final


def test_until_it_is_final(make: Any) -> None:
    """A message that is not final is asked for again each night until it is, and then no more."""
    world = make([message("0A"), message("0B", end="2026-01-06T20:00:00Z")])
    world.fetch("2026-01-06T02:00:00Z")
    assert world.by_id == []
    world.fetch("2026-01-06T12:00:00Z")
    assert world.rows(RECORDS)["0B"]["status"] == "accepted"
    world.fetch("2026-01-07T02:00:00Z")
    found = world.rows(RECORDS)["0B"]
    assert (found["status"], found["finalized_at"]) == (
        "delivered", datetime(2026, 1, 6, 20, tzinfo=UTC))  # fmt: skip
    world.fetch("2026-01-08T02:00:00Z")
    assert world.by_id == [["0B"], ["0B"]]
    assert world.rows(RECORDS)["0A"]["asked_at"] is None
    assert [entry["asked"] for entry in world.store.ledger().refreshes] == [1, 1]
    assert world.store.ledger().billed == world.sandbox.billed_records == 4


def test_until_it_is_mature(make: Any) -> None:
    """A message that never becomes final is asked for last once it is mature: 72 h and a day."""
    world = make([message("0A", end=None)])
    for as_of in ("2026-01-06T02", "2026-01-09T09", "2026-01-09T11", "2026-01-10T02"):
        world.fetch(f"{as_of}:00:00Z")
    assert world.by_id == [["0A"]] * 2
    assert world.rows(RECORDS)["0A"]["asked_at"] == parse_moment("2026-01-09T11:00:00Z")


def test_asked_at(make: Any) -> None:
    """A record tells when it was asked for by its id, and that it is as it was then."""
    world = make([message("0A", end="2026-01-07T00:00:00Z")])
    world.fetch("2026-01-06T02:00:00Z")
    world.fetch("2026-01-08T02:00:00Z")
    found, moment = world.rows(RECORDS)["0A"], datetime(2026, 1, 8, 2, tzinfo=UTC)
    assert (found["fetched_at"], found["asked_at"], found["status"]) == (
        moment, moment, "delivered")  # fmt: skip


def test_twenty_a_call(make: Any) -> None:
    """Up to 20 messages go into one question; the first of them goes alone."""
    world = make([message(f"{n:02}", end=None) for n in range(45)])
    world.fetch("2026-01-06T02:00:00Z")
    world.fetch("2026-01-06T12:00:00Z")
    assert sorted(map(len, world.by_id)) == [5, 20, 20]
    assert sorted(name for ids in world.by_id for name in ids) == sorted(
        f"{n:02}" for n in range(45)
    )
    assert world.by_id[0] == [f"{n:02}" for n in range(20)]


def test_the_limit(make: Any) -> None:
    """At most `refresh_limit` are asked for a run; the manifest tells how many are left out."""
    world = make([message(f"{n:02}", end=None) for n in range(45)])
    world.fetch("2026-01-06T02:00:00Z")
    this = world.fetch("2026-01-06T12:00:00Z", refresh_limit=25)
    [entry] = this.manifest["refreshes"]
    assert (entry["asked"], entry["billed"], entry["left_out"]) == (25, 25, 20)
    this = world.fetch("2026-01-06T12:30:00Z", refresh_limit=0)
    assert this.manifest["refreshes"][0]["left_out"] == 45
    assert len(world.by_id) == 2


def test_a_budget_of_questions(make: Any) -> None:
    """A question that could exceed the budget is not asked; what came is kept, the rest named."""
    world = make([message(f"{n:02}", end=None) for n in range(45)])
    world.fetch("2026-01-06T02:00:00Z")
    this = world.fetch("2026-01-06T12:00:00Z", max_billed_records=44)
    [entry] = this.manifest["refreshes"]
    assert (entry["asked"], entry["left_out"]) == (40, 5)
    [hole] = this.holes
    assert (hole["day"], hole["account_id"], this.exit_code) == ("*", KEY, 3)
    assert "asking by id ended: max_billed_records is 44" in hole["reason"]
    fresh = [row for row in world.rows(RECORDS).values() if row["asked_at"]]
    assert len(fresh) == 40


# Ids that Vonage does not take


@pytest.mark.slow
def test_refused_by_id(make: Any) -> None:
    """Where Vonage refuses to tell by id it is asked once, said once, and the day comes anyway."""
    rows = [message("0A", end="2026-01-07T00:00:00Z"), message("0C", status="failed"),
            message("0D", "2026-01-06T10:00:00Z")]  # fmt: skip
    world = make(rows, receipt("0C"), receipt("0D", "2026-01-06T10:00:07Z"),
                 faults={"ids_refused": 99})  # fmt: skip
    world.fetch("2026-01-06T02:00:00Z")
    before = world.rows(RECORDS)
    this = world.run("2026-01-08T02:00:00Z", DAY, NEXT)
    assert [(hole["day"], hole["account_id"]) for hole in this.holes] == [("*", KEY)]
    assert this.holes[0]["reason"].startswith("Vonage refuses to tell by id: Vonage answered 403")
    assert this.exit_code == 3
    assert len(world.by_id) == 1
    assert world.rows(RECORDS) == before
    assert str(NEXT) in {entry["start"][:10] for entry in world.store.ledger().downloads}
    assert [day["day"] for day in this.manifest["judged"]] == [str(DAY), str(NEXT)]


@pytest.mark.parametrize("messages", [1, 30])
def test_by_record_id(make: Any, messages: int) -> None:
    """Where Vonage knows only its own ids those are asked with, once that is found out."""
    world = make([message(f"{n:02}", end="2026-01-07T00:00:00Z") for n in range(messages)],
                 faults={"ids_by_record_id_only": 99})  # fmt: skip
    world.fetch("2026-01-06T02:00:00Z")
    world.fetch("2026-01-08T02:00:00Z")
    found = world.rows(RECORDS).values()
    assert {row["status"] for row in found} == {"delivered"}
    first, *rest = world.by_id
    assert {name[0] for name in first} <= set("012")
    assert all(name.startswith("R") for ids in rest for name in ids)
    assert sum(map(len, rest)) == messages
    assert world.store.ledger().billed == world.sandbox.billed_records == 2 * messages


def test_unknown_ids(make: Any) -> None:
    """Where Vonage finds none of them, by either id, nothing changes and nothing is paid."""
    world = make([message("0A", end=None)], faults={"ids_missing": 99})
    world.fetch("2026-01-06T02:00:00Z")
    before = world.rows(RECORDS)
    this = world.fetch("2026-01-06T12:00:00Z")
    assert world.by_id == [["0A"], ["R0A"]]
    assert (world.rows(RECORDS), world.sandbox.billed_records, this.exit_code) == (before, 1, 0)


def test_answers_without_ids(make: Any) -> None:
    """Answers by id that cannot be joined are a hole, not the end of the run."""
    world = make([message("0A", end=None)])
    world.fetch("2026-01-06T02:00:00Z")
    world.sandbox.faults = {"column_missing": 99}
    this = world.fetch("2026-01-07T02:00:00Z")
    assert this.exit_code == 3
    assert "asking by id ended: Vonage's records lack message_id" in this.holes[0]["reason"]
    assert world.rows(RECORDS)["0A"]["asked_at"] is None


# Contradictions


@pytest.mark.slow
def test_contradictions(make: Any) -> None:
    """A contradiction is asked for once, and not again until a newer receipt has come."""
    rows = [message("0A", status="failed"), message("0B", end=None), message("0C")]
    world = make(rows, receipt("0A"), receipt("0B"), receipt("0C"))
    # All is mature, so that nothing is asked for because it is not final.
    world.run("2026-01-12T02:00:00Z")
    assert [(world.verdict(name)[0], world.verdict(name)[1][0]) for name in ("0A", "0B")] == [
        ("suspect", "status_conflict"), ("suspect", "record_never_final")]  # fmt: skip
    assert world.by_id == [["0A", "0B"]]
    assert [row["asked_at"] for _, row in sorted(world.rows(RECORDS).items())] == [
        *[datetime(2026, 1, 12, 2, tzinfo=UTC)] * 2, None]  # fmt: skip
    world.run("2026-01-13T02:00:00Z")
    assert world.by_id == [["0A", "0B"]]
    write_receipts(world.folder, receipt("0A", "2026-01-13T05:00:00Z"), name="b")
    world.run("2026-01-14T02:00:00Z")
    assert world.by_id == [["0A", "0B"], ["0A"]]
    assert world.store.ledger().billed == world.sandbox.billed_records == 6


@pytest.mark.slow
def test_a_contradiction_that_ends(make: Any) -> None:
    """An answer that ends a contradiction is judged in the same run."""
    row = message("0A", end="2026-01-11T00:00:00Z", status_before="failed")
    world = make([row], receipt("0A", "2026-01-11T00:00:01Z"))
    world.fetch("2026-01-06T05:00:00Z")
    this = world.run("2026-01-12T02:00:00Z")
    assert world.by_id == [["0A"]]
    assert (world.verdict("0A")[0], this.exit_code) == ("confirmed", 0)
    assert "judge again" in this.manifest["seconds"]


# Receipts without a record


@dataclass
class Found:
    """What two nights have left of orphans and records."""

    orphans: list[set[str]]
    by_id: list[list[list[str]]]
    world: World
    manifest: dict[str, Any]


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Found]:
    """Two nights, between which three records appear whose receipts came before."""
    shown = "2026-01-07T14:00:00Z"
    rows = [
        message("01", "2026-01-04T10:00:00Z"), message("0A"),
        message("0B", "2026-01-06T10:00:00Z"),
        message("0C", visible_from=shown), message("0D", visible_from=shown),
        message("0E", "2026-01-05T23:59:00Z", "120s", visible_from=shown),
    ]  # fmt: skip
    nameless = {k: v for k, v in receipt("0D").items() if k != "api-key"}
    receipts = [
        receipt("01", "2026-01-04T10:00:07Z"), receipt("0A"),
        receipt("0B", "2026-01-06T10:00:07Z"), receipt("0C"), nameless,
        receipt("0E", "2026-01-06T00:01:01Z"), receipt("0F"),
    ]  # fmt: skip
    folder = tmp_path_factory.mktemp("late")
    (folder / "key").write_text("a key for tests only, 32 letters")

    def configure(**flags: Any) -> Settings:
        return load(store=folder / "store", pii_key_file=folder / "key", threads=2, **flags)

    # Short spans, for which the day before is enough to say that no record is there.
    short = {"validity": "1h", "longest_validity": "1h", "grace": "1h"}
    with (
        pytest.MonkeyPatch.context() as patch,
        world_of(configure, folder / "w", rows, *receipts, **short) as world,
    ):
        patch.chdir(folder)
        patch.setenv("VONAGE_API_KEY", KEY)
        patch.setenv("VONAGE_API_SECRET", SECRET)
        orphans, by_id = [], []
        for as_of in ("2026-01-07T02:00:00Z", "2026-01-08T02:00:00Z"):
            this = world.run(as_of, DAY - timedelta(days=1), NEXT)
            orphans.append({*world.rows(ORPHANS), *world.rows(ORPHANS, NEXT)})
            by_id.append(world.by_id[sum(map(len, by_id)) :])
        yield Found(orphans, by_id, world, this.manifest)


@pytest.mark.slow
def test_records_that_appear_late(found: Found) -> None:
    """A record that appears after its day was downloaded is found by its receipt, and joins it."""
    assert "0C" in found.orphans[0]
    assert "0C" not in found.orphans[1]
    assert found.world.verdict("0C") == ("confirmed", [])


@pytest.mark.slow
def test_late_records_of_another_day(found: Found) -> None:
    """Its day is that of the record, though its receipt was an orphan of the next one."""
    assert "0E" in found.orphans[0]
    assert "0E" not in found.orphans[1]
    assert found.world.verdict("0E") == ("confirmed", [])


@pytest.mark.slow
def test_receipts_without_an_account(found: Found) -> None:
    """A receipt that names no account is asked for as any of ours."""
    assert found.world.verdict("0D") == ("confirmed", [])


@pytest.mark.slow
def test_receipts_of_nobody(found: Found) -> None:
    """A receipt for what is no message of ours is asked for and costs nothing."""
    assert found.by_id == [[["0C", "0D", "0E", "0F"]]] * 2
    assert found.orphans[1] == {"0F"}
    assert found.world.sandbox.billed_records == found.world.store.ledger().billed == 6
    assert found.manifest["exit_code"] == 0


# Crashes


def test_answers_are_not_paid_for_twice(make: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run that was stopped behind its answers takes them in when it is started again."""
    world = make([message(f"{n:02}", end="2026-01-07T00:00:00Z") for n in range(30)])
    world.fetch("2026-01-06T02:00:00Z")

    def crash(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(keep, "publish", crash)
        with pytest.raises(KeyboardInterrupt):
            world.fetch("2026-01-08T02:00:00Z")
    assert world.sandbox.billed_records == 60
    world.fetch("2026-01-08T03:00:00Z")
    found = world.rows(RECORDS).values()
    assert {(row["status"], row["asked_at"].hour) for row in found} == {("delivered", 2)}
    assert world.sandbox.billed_records == world.store.ledger().billed == 60
    assert list((world.store.work / "slices").iterdir()) == []


def test_a_stop_behind_the_store(make: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run that was stopped between the store and the ledger enters what it was billed."""
    world = make([message("0A", end="2026-01-07T00:00:00Z")])
    world.fetch("2026-01-06T02:00:00Z")

    def crash(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(refreshing, "enter", crash)
        with pytest.raises(KeyboardInterrupt):
            world.fetch("2026-01-08T02:00:00Z")
    world.fetch("2026-01-08T03:00:00Z")
    assert world.sandbox.billed_records == world.store.ledger().billed == 2
    assert len(world.store.ledger().refreshes) == 1


def test_whom_to_ask(make: Any) -> None:
    """A source that nobody downloads is asked of the primary that downloads its subaccounts."""
    world = make([message("0A")])
    moment = world.sandbox.now = parse_moment("2026-01-06T02:00:00Z")
    accounts = [Account(KEY, KEY, SECRET)]
    with (
        job.opened(world.settings, moment, lambda *_: None) as this,
        fetching.connected(this, accounts) as vonage,
    ):
        assert vonage.client_of(KEY) is vonage.sources[Source(KEY)]
        assert vonage.client_of("sub00001") is None
