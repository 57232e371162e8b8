"""Raw slices come into the store: each message once, in its newest state, each bad row counted."""

from __future__ import annotations

import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from reconcile.days import Window, day_window, end_of, start_of
from reconcile.reports import raw
from reconcile.reports.keep import Part, days_of, publish
from reconcile.store import Staged, Store
from reconcile.tables import RECORDS, REJECTS

DAY, NEXT = date(2026, 1, 5), date(2026, 1, 6)
BOTH_DAYS = Window(start_of(DAY), end_of(NEXT))
AS_OF = datetime(2026, 1, 8, 2, tzinfo=UTC)
ACCOUNT = "5a4d0b0e"
BASE = {"message_id": "0E000000C889DF7B", "date_received": "2026-01-05T10:00:00+0000",
        "status": "delivered"}  # fmt: skip
UUID = "aaaaaaaa-bbbb-4ccc-8ddd-eeeeeeeeeeee"
# The header of a real report of the product MESSAGES, and a row of it with invented numbers.
MESSAGES = (
    '"account_id","message_id","client_ref","direction","from","to","country","country_name",'
    '"provider","network","network_name","session_type","session_id","date_received",'
    '"date_finalized","latency","status","error_code","currency","estimated_price","total_price",'
    '"id"\n'
    f'"abcd1234","{UUID.upper()}","0123456789abcdef0123456789abcdef/0","outbound","verify",'
    '"972500000000","IL","Israel","sms","42502","Cellcom","","","2026-01-05T16:46:32+00:00",'
    f'"2026-01-05T16:46:38+00:00","6357","delivered","","EUR","0.21982","0.21982","{UUID}"\n'
)
Rows = list[dict[str, Any]]


@dataclass
class Shelf:
    """A store, and slices on their way into it."""

    store: Store
    con: Any
    folder: Path
    slices: int = 0

    def part(self, *rows: dict[str, Any], **fields: Any) -> Part:
        """A part that holds these rows."""
        self.slices += 1
        path = self.folder / f"raw-{self.slices}"
        raw.write_pages([list(rows)], path)
        plain = Part(path, "SMS", ACCOUNT, day_window(DAY), AS_OF, f"slice {self.slices}")
        return replace(plain, **fields)

    def publish(self, *parts: Part, day: date = DAY, as_of: datetime = AS_OF) -> list[int]:
        """Takes parts in and says how many rejects each has."""
        return publish(self.store, self.con, day, parts, as_of, "keep")

    def keep(self, *rows: dict[str, Any], **fields: Any) -> list[int]:
        """Takes one part in."""
        return self.publish(self.part(*rows, **fields))

    def records(self, day: date = DAY) -> Rows:
        """A day's records, by account and id."""
        path = self.store.path(RECORDS, day)
        rows = pq.read_table(path, partitioning=None).to_pylist() if path.exists() else []
        return sorted(rows, key=lambda row: (row["account_id"], row["message_id"], row["product"]))

    def rejects(self, as_of: datetime = AS_OF) -> list[tuple[str, int, str, str]]:
        """The rejects of a run's day: source, line, kind, reason."""
        path = self.store.path(REJECTS, as_of.date())
        rows = pq.read_table(path, partitioning=None).to_pylist() if path.exists() else []
        return [tuple(row.values()) for row in rows]


@pytest.fixture
def shelf(con: Any, tmp_path: Path) -> Shelf:
    """An empty store."""
    return Shelf(Store.open(tmp_path / "store", create=True), con, tmp_path)


def hours(count: float) -> datetime:
    """A moment of the day."""
    return start_of(DAY) + timedelta(hours=count)


def statuses(shelf: Shelf) -> dict[str, str]:
    """Each message's status."""
    return {row["message_id"]: row["status"] for row in shelf.records()}


# The newest state


def test_finalised_last_stays(shelf: Shelf) -> None:
    """Of rows of one slice with one id the one that was finalised last stays."""
    ends = ["2026-01-05T11:00:00Z", "2026-01-05T12:00:00Z", ""]
    assert shelf.keep(*(BASE | {"date_finalized": end} for end in ends)) == [0]
    assert [row["finalized_at"] for row in shelf.records()] == [hours(12)]


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
@pytest.mark.parametrize("at_once", [True, False])
def test_fetched_last_stays(shelf: Shelf, order: tuple[int, int], at_once: bool) -> None:
    """What was fetched last stays, whatever came first, together or one after the other."""
    old = shelf.part(BASE | {"status": "accepted", "date_finalized": "2026-01-05T12:00:00Z"},
                     fetched_at=AS_OF - timedelta(hours=1))  # fmt: skip
    new = shelf.part(BASE | {"message_id": "0e000000c889df7b "})
    parts = [(old, new)[n] for n in order]
    for group in [parts] if at_once else [[part] for part in parts]:
        shelf.publish(*group)
    assert statuses(shelf) == {"0E000000C889DF7B": "delivered"}


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
@pytest.mark.parametrize("at_once", [True, False])
def test_sms_wins(shelf: Shelf, order: tuple[int, int], at_once: bool) -> None:
    """A message that both products show counts once, as SMS, even if that is the older state."""
    sms = shelf.part(BASE | {"message_id": UUID.upper()}, fetched_at=AS_OF - timedelta(hours=1))
    messages = shelf.part(BASE | {"message_id": UUID, "status": "read"}, product="MESSAGES")
    parts = [(sms, messages)[n] for n in order]
    for group in [parts] if at_once else [[part] for part in parts]:
        shelf.publish(*group)
    assert [(row["product"], row["status"]) for row in shelf.records()] == [("SMS", "delivered")]


def test_accounts_are_apart(shelf: Shelf) -> None:
    """Equal ids of two accounts are two messages; a named account counts more than the slice's."""
    shelf.keep(BASE, BASE | {"account_id": "11111111", "status": "failed"})
    shelf.keep(BASE | {"status": "expired"}, account_id="22222222")
    found = [(row["account_id"], row["status"]) for row in shelf.records()]
    assert found == [("11111111", "failed"), ("22222222", "expired"), (ACCOUNT, "delivered")]


def test_the_rest_of_the_day_stays(shelf: Shelf) -> None:
    """What is stored stays beside what comes."""
    shelf.keep(*(BASE | {"message_id": f"{n:02}"} for n in range(0, 40, 2)))
    shelf.keep(*(BASE | {"message_id": f"{n:02}"} for n in range(39, 0, -3)))
    ids = [row["message_id"] for row in shelf.records()]
    assert ids == sorted({f"{n:02}" for n in (*range(0, 40, 2), *range(39, 0, -3))})


def test_a_day_of_several_files(shelf: Shelf) -> None:
    """Records that lie in several files are merged like those of one: all stay, none stays old."""
    shelf.keep(*(BASE | {"message_id": f"M{n}", "status": "accepted"} for n in range(6)))
    [file] = shelf.store.files(RECORDS, DAY)
    rows = pq.read_table(file, partitioning=None)
    folder = shelf.store.staging / "several"
    folder.mkdir(parents=True)
    for number in range(3):
        pq.write_table(rows[2 * number : 2 * number + 2], folder / f"{number}.parquet")
    shelf.store.publish([Staged(RECORDS.name, str(DAY), folder, 6)])
    assert len(shelf.store.files(RECORDS, DAY)) == 3
    newer = [BASE | {"message_id": f"M{n}"} for n in (0, 3, 6)]
    shelf.keep(*newer, fetched_at=AS_OF + timedelta(days=1))
    assert [(row["message_id"], row["status"]) for row in shelf.records()] == [
        (f"M{n}", "delivered" if n in (0, 3, 6) else "accepted") for n in range(7)
    ]


def test_written_once(shelf: Shelf, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many parts: each partition is published once."""
    seen: list[list[str]] = []
    put = shelf.store.publish
    monkeypatch.setattr(shelf.store, "publish", lambda parts: seen.append(
        [part.table for part in parts]) or put(parts))  # fmt: skip
    bad = shelf.publish(shelf.part(BASE), shelf.part({"status": "x"}), shelf.part(BASE, BASE))
    assert (bad, seen) == ([0, 1, 0], [["records", "rejects"]])


def test_nothing_to_publish(shelf: Shelf) -> None:
    """Without parts nothing happens."""
    assert (shelf.publish(), shelf.records()) == ([], [])


# The product MESSAGES


def test_a_report_of_messages(shelf: Shelf, tmp_path: Path) -> None:
    """The columns of the product MESSAGES are read as those of SMS are."""
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("report_MESSAGES_abcd1234_20260106.csv", MESSAGES)
    taken = raw.write_archive(tmp_path / "a.zip", tmp_path / "raw")
    assert (taken.rows, taken.new_columns) == (1, [])
    part = Part(taken.path, "MESSAGES", ACCOUNT, day_window(DAY), AS_OF, "a")
    assert shelf.publish(part) == [0]
    [row] = shelf.records()
    assert row["message_id"] == row["record_id"] == UUID
    assert (row["product"], row["account_id"]) == ("MESSAGES", "abcd1234")
    assert (row["recipient"], row["sender"]) == ("972500000000", "verify")
    assert (row["price"], row["currency"]) == (Decimal("0.21982"), "EUR")
    assert (row["latency_ms"], row["error_code"], row["concatenated"]) == (6357, None, None)


@pytest.mark.parametrize("status", ["submitted", "delivered", "read", "rejected", "undeliverable"])
def test_statuses_of_messages(shelf: Shelf, status: str) -> None:
    """The statuses of the Messages API are kept."""
    shelf.keep(BASE | {"status": status}, product="MESSAGES")
    assert list(statuses(shelf).values()) == [status]


def test_estimated_price(shelf: Shelf) -> None:
    """Where no other price is told, the estimated one counts."""
    guess = BASE | {"estimated_price": "0.5"}
    shelf.keep(guess | {"total_price": ""}, guess | {"message_id": "1", "total_price": "0.4"})
    assert [row["price"] for row in shelf.records()] == [Decimal("0.5"), Decimal("0.4")]


def test_other_channels(shelf: Shelf) -> None:
    """What went by another channel is a reject that names it; blank and any case of sms are not."""
    channels = ["sms", "SMS", "", None, "whatsapp", "rcs"]
    rows = [BASE | {"message_id": f"0{n}", "provider": c} for n, c in enumerate(channels)]
    assert shelf.keep(*rows, product="MESSAGES", source="a") == [2]
    assert list(statuses(shelf)) == ["00", "01", "02", "03"]
    assert shelf.rejects() == [
        ("a", 5, "other_channel", "it went by whatsapp, and only sms is reconciled"),
        ("a", 6, "other_channel", "it went by rcs, and only sms is reconciled"),
    ]


# Rejects


def test_rejects_of_a_source_are_replaced(shelf: Shelf) -> None:
    """A source that comes again has its new rejects, or none; others stay."""
    shelf.keep({"status": "x"}, source="a")
    shelf.publish(shelf.part(BASE, {}, {}, source="b"), shelf.part({}, source="c"))
    assert [(row[0], row[1]) for row in shelf.rejects()] == [("a", 1), ("b", 2), ("b", 3), ("c", 1)]
    assert shelf.publish(shelf.part({}, BASE, source="b"), shelf.part(BASE, source="c")) == [1, 0]
    assert [(row[0], row[1]) for row in shelf.rejects()] == [("a", 1), ("b", 1)]


def test_part_of_what_was_asked(shelf: Shelf) -> None:
    """A row of the span that is not of the window is no record of it, and no reject."""
    rows = [BASE | {"message_id": f"0{n}", "date_received": f"2026-01-0{n}T10:00:00Z"}
            for n in (4, 5, 6, 7)]  # fmt: skip
    part = shelf.part(*rows, window=Window(hours(9), hours(10)), asked=BOTH_DAYS)
    assert (shelf.publish(part), shelf.records()) == ([2], [])
    part = replace(part, window=Window(hours(10), hours(11)))
    assert (shelf.publish(part), list(statuses(shelf))) == ([2], ["05"])


@pytest.mark.parametrize("wide", [True, False])
def test_several_days(shelf: Shelf, wide: bool) -> None:
    """A slice of several days gives each what is of it, and tells its rejects once."""
    rows = [BASE | {"message_id": f"0{n}", "date_received": f"2026-01-0{n}T10:00:00Z"}
            for n in (4, 5, 6, 7)]  # fmt: skip
    part = shelf.part(*rows, {"message_id": "01"}, window=BOTH_DAYS, source="a")
    assert days_of(shelf.con, part.raw) == [date(2026, 1, n) for n in (4, 5, 6, 7)]
    bad = [
        shelf.publish(
            part if wide else replace(part, window=day_window(day), asked=BOTH_DAYS), day=day
        )
        for day in (DAY, NEXT)
    ]
    assert bad == [[3], [0]]
    assert [row["message_id"] for day in (DAY, NEXT) for row in shelf.records(day)] == ["05", "06"]
    assert [(row[1], row[3]) for row in shelf.rejects()] == [
        (1, "its date_received lies outside of the days asked for"),
        (4, "its date_received lies outside of the days asked for"),
        (5, "its date_received is no time"),
    ]


def test_two_windows_of_one_slice(shelf: Shelf) -> None:
    """A slice that comes as two parts of a day tells its rejects once."""
    part = shelf.part(BASE, {}, asked=day_window(DAY), window=Window(hours(0), hours(9)))
    other = replace(part, window=Window(hours(9), hours(24)))
    assert shelf.publish(part, other) == [1, 0]
    assert (len(shelf.records()), len(shelf.rejects())) == (1, 1)


def test_days_of_nothing(shelf: Shelf) -> None:
    """A slice without a time has no days."""
    assert days_of(shelf.con, shelf.part({}, {"date_received": "soon"}).raw) == []


def test_a_slice_of_an_older_version(shelf: Shelf, tmp_path: Path) -> None:
    """A slice that an older version wrote, without today's columns, is still read."""
    part = shelf.part(BASE)
    table = pq.read_table(part.raw)
    pq.write_table(table.drop_columns(["provider", "estimated_price", "country"]), part.raw)
    assert (shelf.publish(part), shelf.records()[0]["country"]) == ([0], "unknown")


# Whatever the rows are

IDS = st.sampled_from(["0A", "0a", "0B", "12", UUID, UUID.upper(), "", "REDACTED", " 0a "])
ANY_ROW = st.fixed_dictionaries(
    {
        "message_id": IDS,
        "date_received": st.sampled_from(
            ["2026-01-05T10:00:00Z", "2026-01-05T23:59:59.999Z", "2026-01-06T00:00:00Z", "", "no"]
        ),
        "date_finalized": st.sampled_from(["", "2026-01-05T11:00:00Z", "2026-01-05T12:00:00Z"]),
        "status": st.sampled_from(["delivered", "failed", "accepted", ""]),
        "account_id": st.sampled_from(["", ACCOUNT, "11111111"]),
        "provider": st.sampled_from(["", "sms", "mms"]),
        "total_price": st.sampled_from(["", "0.1", "0.2"]),
    }
)
ANY_SLICE = st.tuples(st.sampled_from(["SMS", "MESSAGES"]), st.integers(0, 2),
                      st.lists(ANY_ROW, max_size=8))  # fmt: skip
ANY_SLICES = st.lists(ANY_SLICE, min_size=1, max_size=4)
Slices = Sequence[tuple[str, int, Rows]]


@pytest.fixture
def shelves(con: Any, tmp_path: Path) -> Callable[[], Shelf]:
    """As many empty stores as are asked for."""
    made: list[Shelf] = []

    def build() -> Shelf:
        folder = tmp_path / str(len(made))
        made.append(Shelf(Store.open(folder / "store", create=True), con, folder))
        return made[-1]

    return build


def parts_of(shelf: Shelf, slices: Slices) -> list[Part]:
    return [
        shelf.part(*rows, product=product, fetched_at=AS_OF - timedelta(hours=age))
        for product, age, rows in slices
    ]


def is_good(row: dict[str, str]) -> bool:
    return (row["message_id"] not in ("", "REDACTED") and row["provider"] != "mms"
            and row["date_received"].startswith("2026-01-05"))  # fmt: skip


PROPERTY = settings(max_examples=12, deadline=None,
                    suppress_health_check=[HealthCheck.function_scoped_fixture])  # fmt: skip


@pytest.mark.slow
@PROPERTY
@given(slices=ANY_SLICES)
def test_nothing_is_lost(shelves: Callable[[], Shelf], slices: Slices) -> None:
    """Rows in = records + rejects + repeated ids; and each id is there once an account."""
    shelf = shelves()
    bad = shelf.publish(*parts_of(shelf, slices))
    assert bad == [sum(not is_good(row) for row in rows) for _, _, rows in slices]
    assert len(shelf.rejects()) == sum(bad)
    wanted = {
        (row["account_id"] or ACCOUNT, row["message_id"].strip().upper())
        for _, _, rows in slices
        for row in rows
        if is_good(row)
    }
    found = [(row["account_id"], row["message_id"].upper()) for row in shelf.records()]
    assert sorted(found) == sorted(wanted)


@pytest.mark.slow
@PROPERTY
@given(slices=ANY_SLICES, data=st.data())
def test_order_does_not_matter(
    shelves: Callable[[], Shelf], slices: Slices, data: st.DataObject
) -> None:
    """The same rows make the same records, in whatever order, at once or one after the other."""
    shelf, other = shelves(), shelves()
    shelf.publish(*parts_of(shelf, slices))
    mixed = [
        (product, age, data.draw(st.permutations(rows)))
        for product, age, rows in data.draw(st.permutations(slices))
    ]
    for part in parts_of(other, mixed):
        other.publish(part)
    assert other.records() == shelf.records()


@pytest.mark.slow
@PROPERTY
@given(slices=ANY_SLICES)
def test_twice_is_once(shelves: Callable[[], Shelf], slices: Slices) -> None:
    """What comes a second time changes nothing."""
    shelf = shelves()
    parts = parts_of(shelf, slices)
    shelf.publish(*parts)
    before = shelf.records(), shelf.rejects()
    shelf.publish(*parts)
    assert (shelf.records(), shelf.rejects()) == before


def test_raw_slices_are_text(shelf: Shelf) -> None:
    """All that is known of a row is in its slice, as text."""
    schema = pq.read_schema(shelf.part(BASE).raw)
    assert {schema.field(name).type for name in raw.KNOWN} == {pa.string()}
