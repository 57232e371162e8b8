"""Explains single messages: what is known of each, what the rules saw, what would change it.

Only the rows of the messages asked for are read, and they are judged by the same core that judges
whole days. What would have to change is asked of that core too: the same message is judged again
with another receipt, another record, or later.
"""

# ruff: noqa: S608 - SQL is put together from names of our own; texts of others are quoted

from __future__ import annotations

import gc
import re
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING, Any

from reconcile import border, engine
from reconcile import vocabulary as words
from reconcile.days import parse_moment
from reconcile.engine import quote
from reconcile.errors import InputError, ReconcileError, UsageError
from reconcile.run import Run, finish
from reconcile.store import Store, parquet_query
from reconcile.tables import ORPHANS, RECEIPTS, RECORDS, VERDICTS, Table

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

    from reconcile.judging import Bench
    from reconcile.refreshing import Messages, Vonage

Row = dict[str, Any]
Key = tuple[str, str, str]

# The columns of `rules.GRID`: what the deciding receipt says.
GRID_COLUMNS = ("none, or not final", "unknown", "same outcome", "other outcome")
CONFIRMED = "Record and deciding receipt tell the same end."
# Of a rule: the columns of the judged message that it looked at, and those of each receipt.
ENDS = ("status", "receipt_status")
LOOKED_AT: dict[str, tuple[str, ...]] = {
    # contradictions
    "recipient_mismatch": ("recipient", "receipts.recipient"),
    "time_travel": ("received_at", "finalized_at", "latency_ms", "receipts.pushed_at"),
    "foreign_network": ("country", "network_code", "receipts.network_code", "receipts.country"),
    "bad_signature": ("receipts.signature",),
    "status_error_contradiction": ("receipt_status", "receipt_error_code"),
    "conflicting_finals": ("receipts.status",),
    # the grid
    "in_flight": (*ENDS, "matures_at", "grace_ends_at", "as_of"),
    "record_open": (*ENDS, "matures_at", "as_of"),
    "carrier_silent": (*ENDS, "matures_at", "fetched_at", "expires_at"),
    "record_never_final": (*ENDS, "matures_at", "fetched_at", "expires_at"),
    "unattributed": (*ENDS, "matures_at", "fetched_at", "expires_at"),
    "record_stale": (*ENDS, "fetched_at", "expires_at"),
    "status_unknown": ENDS,
    "record_unknown": ENDS,
    "lost_webhook": (*ENDS, "finalized_at", "grace_ends_at", "as_of"),
    "status_conflict": ENDS,
    # refinements
    "no_receipt_expected": ("country", "network_code", "capability", "receipt_status"),
    "record_deleted": ENDS,
    "platform_expired": ("elapsed_ms", "validity_ms", "within_ms"),
    "error_unknown": ("receipt_status", "receipt_error_code"),
    "unmapped_status": ENDS,
    "unmapped_error": ("receipt_status", "receipt_error_code"),
    "capture_outage": ("finalized_at", "received_at", "network_code"),
    # context
    "duplicate_receipt": ("receipts", "duplicates"),
    "out_of_order": ("receipts.status", "receipts.pushed_at"),
    "late_capture": ("received_at", "receipt_captured_at", "captured_after_ms"),
    "sender_rewritten": ("sender", "sender_used"),
    "network_differs": ("network_code", "receipt_network_code"),
    "account_differs": ("account_id", "receipt_account_id"),
    "ambiguous_account": ("account_id", "receipts.account_id"),
    "price_differs": ("price", "receipt_price"),
    "charged_not_delivered": ("price", "end"),
    "too_fast": ("latency_ms", "too_fast_ms"),
    "untrusted_network": ("country", "network_code", "capability"),
    "unsent_by_us": ("account_id", "received_at", "client_ref"),
}
# What tells of the deciding receipt, in a judged message: its columns are `receipt_*` there.
_DECIDING = ("status", "error_code", "network_code", "price", "pushed_at", "captured_at",
             "account_id", "product")  # fmt: skip
# What the tables say of a message.
_KEY = ("account_id", "product", "message_id")
_PUBLISHED = (*_KEY, "verdict", "reasons")
# Stands for as_of in the compiled core, of which there is one for all moments.
_SOME_TIME = datetime(2001, 9, 9, 1, 46, 40, 123_000, tzinfo=UTC)
_INSTANT = re.compile(r"make_timestamptz\([^)]*\)", re.IGNORECASE)
_UNSENT = ("unsent_id", "unsent_account", "unsent_product")
_EPOCH = datetime.fromtimestamp(0, UTC)
_MOMENTS = ("matures_at", "grace_ends_at")


@dataclass(frozen=True)
class Given:
    """Which messages: their ids, or the newest of a handset's number or of a client_ref."""

    ids: tuple[str, ...] = ()
    number: str | None = field(default=None, repr=False)
    client_ref: str | None = None
    limit: int = 20


@dataclass(frozen=True)
class Heard:
    """A receipt on a message's time line.

    Attributes:
        row: its columns in `receipts`.
        at: when it was pushed, else captured.
        after_ms: how long after the message was received.
        repeats: source and line of the receipt that it repeats.
        decides: whether the verdict goes by it.
        ignored: why it does not count; empty if it does.
    """

    row: Row
    at: datetime | None
    after_ms: int | None
    repeats: tuple[str, int] | None = None
    decides: bool = False
    ignored: str = ""


@dataclass(frozen=True)
class Held:
    """A rule that held, or the cell of the grid.

    Attributes:
        name: the reason that it gives; empty for a cell that gives none.
        kind: contradiction, grid, refinement or context.
        verdict: the verdict that it makes; None for context.
        sentence: what it says.
        counts: whether the verdict comes from it, or, for context, is told with it.
        values: what it looked at.
        receipts: what it looked at in each receipt, with its source and line.
    """

    name: str
    kind: str
    verdict: str | None
    sentence: str
    counts: bool
    values: Row = field(default_factory=dict)
    receipts: list[Row] = field(default_factory=list)


@dataclass(frozen=True)
class Change:
    """Something that would change the verdict, and what it would be."""

    what: str
    verdict: str
    reasons: list[str]


@dataclass(frozen=True)
class Published:
    """What the tables say of a message, and as of when."""

    as_of: datetime
    verdict: str
    reasons: list[str]


@dataclass(frozen=True)
class Explained:
    """A message with a record.

    Attributes:
        record: its row of `records`, as it is now.
        currency: of its price: the record's, else that of the settings.
        as_of: the moment that it was judged at.
        judged: it as the core judged it; None where it was received after as_of.
        cell: row and column of the grid.
        rules: the rules that held.
        changes: what would change the verdict.
        published: what the tables say; None while its day was not judged.
    """

    record: Row
    currency: str | None
    as_of: datetime
    receipts: list[Heard]
    judged: Row | None
    cell: tuple[str, str] | None
    rules: list[Held]
    changes: list[Change]
    published: Published | None

    @property
    def message_id(self) -> str:
        return str(self.record["message_id"])


@dataclass(frozen=True)
class Alone:
    """Receipts without a record.

    Attributes:
        kind: as `orphans` has it; None while no run has judged them.
        sentence: what that means.
        resembles: ids of the records that they resemble (`near_match`).
    """

    message_id: str
    kind: str | None
    sentence: str
    receipts: list[Heard]
    resembles: list[str]


@dataclass(frozen=True)
class Explanation:
    """What there is to say of all messages that were asked for.

    Attributes:
        told: in the order in which they were asked for.
        unknown: ids of which the store has nothing.
        are_more: whether a recipient or client_ref has more than the limit.
    """

    told: list[Explained | Alone]
    unknown: list[str]
    are_more: bool = False


@dataclass(frozen=True)
class Refreshed:
    """What came of asking Vonage by id.

    Attributes:
        ids: the messages that were asked for.
        reopened: judged days that are open again, since their records tell something new.
        billed: how many records came.
        failure: why not all were told; None if all were.
    """

    ids: list[str]
    reopened: list[str]
    billed: int
    failure: ReconcileError | None


def explain(this: Run, given: Given, as_of: datetime | None) -> Explanation:
    """Explains messages from what the store holds.

    Args:
        this: the store, which is only read.
        given: which messages.
        as_of: the moment to judge at; None: that of each day's last judging, so that what was
            published is explained (where a day has none, this run's).

    Raises:
        UsageError: there is no store, or what was given can be no message.
        InputError: a number or a client_ref has no message.
    """
    Store.open(this.store.root)  # says so where there is none
    asked, core = _asked(this, given), Core(this)
    # The engine finds the rows while Python compiles the core.
    with ThreadPoolExecutor(1) as aside:
        gathering = aside.submit(_gather, this, engine.beside(this.con), asked)
        core.compile()
        found = gathering.result()
    if not found.ids:
        raise InputError(
            f"no message of this {asked.column} is in the store: see `reconcile status`"
        )
    told: dict[str, list[Explained | Alone]] = {}
    for at, messages in found.by_moment(this, as_of).items():
        for each in _explain_all(this, core, found, messages, at):
            told.setdefault(each.message_id, []).append(each)
    for message_id in found.ids:
        if message_id not in told and (alone := _alone(this, found, message_id)):
            told[message_id] = [alone]
    return Explanation(
        [each for message_id in found.ids for each in told.get(message_id, [])],
        [message_id for message_id in found.ids if message_id not in told],
        found.are_more,
    )


def not_here(message_id: str, *, asked: bool) -> str:
    """That an id is unknown, as one line; `asked`: whether Vonage was asked for it."""
    more = "and Vonage told of none" if asked else "--refresh asks Vonage for it"
    return f"message {message_id}: neither a record nor a receipt of it is in the store; {more}"


@dataclass(frozen=True)
class _Asked:
    """Which messages, in the store's own words: a recipient is hidden as it is there."""

    ids: tuple[str, ...]
    column: str = ""
    value: str = field(default="", repr=False)
    limit: int = 20


def _asked(this: Run, given: Given) -> _Asked:
    """What was given, as both borders make it."""
    if given.ids:
        names = [_border(this, border.message_id, each) for each in given.ids]
        if None in names:
            raise UsageError("a message id is blank: name one, as 0A0000001234ABCD")
        return _Asked(tuple(dict.fromkeys(map(str, names))))
    if given.number is not None:
        border.set_key(this.con, this.settings)
        value = _border(
            this, lambda clean: border.recipient(clean, this.settings.pii), given.number
        )
        problem = "no number came: pipe its digits in, country code first"
    else:
        value = _border(this, str, given.client_ref or "")
        problem = "the client_ref is blank: give the one that was sent along"
    if not value:
        raise UsageError(problem)
    column = "client_ref" if given.number is None else "recipient"
    return _Asked((), column, value, given.limit)


def _border(this: Run, as_sql: Callable[[str], str], raw: str) -> str | None:
    """A text as it becomes at both borders; None if nothing is left of it."""
    clean = f"SELECT {border.text('raw')} AS clean FROM (SELECT $raw AS raw)"
    query = f"SELECT {as_sql('clean')} FROM ({clean})"
    row = this.con.con.execute(query, {"raw": raw}).fetchone()
    return str(row[0]) if row and row[0] else None


# --- the core, compiled once for all moments --------------------------------------------------


@dataclass(frozen=True)
class _Case:
    """Records of one id and their receipts, to be judged by themselves, under a name of its own.

    Attributes:
        unsent: account and product of the records that the send log should know and does not.
    """

    name: str
    records: list[Row]
    receipts: list[Row]
    unsent: frozenset[tuple[str, str]] = frozenset()


class Core:
    """The core over a few rows: its SQL, with as_of as a blank to be filled in.

    Ibis takes most of a second to compile it; the engine needs some milliseconds for the SQL.
    """

    def __init__(self, this: Run) -> None:
        self._con, self._settings = this.con, this.settings
        self._sql = ""

    def compile(self) -> None:
        """Compiles the core, once."""
        con = self._con.con
        with _without_collector():
            for table in (RECORDS, RECEIPTS):
                con.execute(f"CREATE TABLE explained_{table.name} AS {parquet_query(table, [])}")
            kinds = ", ".join(f"{name} VARCHAR" for name in _UNSENT)
            con.execute(f"CREATE TABLE explained_unsent ({kinds})")
            # A view registers the small tables that an expression brings along.
            self._con.create_view("explained", self.judged(_SOME_TIME))
        query = "SELECT sql FROM duckdb_views() WHERE view_name = 'explained'"
        [sql] = con.execute(query).fetchone() or ("",)
        self._sql = str(sql).partition(" AS ")[2].strip().rstrip(";")

    def sql(self, as_of: datetime) -> str:
        """The core at a moment: as_of stands in it as an instant and in milliseconds."""
        ms = round(as_of.timestamp() * 1000)
        timed = _INSTANT.sub(f"make_timestamptz({ms}000)", self._sql)
        return timed.replace(str(round(_SOME_TIME.timestamp() * 1000)), str(ms))

    def judge(self, cases: Iterable[_Case], as_of: datetime) -> dict[Key, Row]:
        """Judges cases, each by itself: (name, account, product) → the judged message."""
        import pyarrow as pa

        cases, con = list(cases), self._con.con
        for table in (RECORDS, RECEIPTS):
            rows = [
                row | {"message_id": case.name}
                for case in cases
                for row in (case.records if table is RECORDS else case.receipts)
            ]
            if table is RECEIPTS:  # a line is one receipt, and these are in several cases
                rows = [row | {"line": n} for n, row in enumerate(rows)]
            given = pa.Table.from_pylist(
                [{name: row[name] for name in table.names} for row in rows], schema=table.schema
            )
            con.execute(f"DELETE FROM explained_{table.name}")
            con.register("explained_given", given)
            con.execute(f"INSERT INTO explained_{table.name} FROM explained_given")
            con.unregister("explained_given")
        con.execute("DELETE FROM explained_unsent")
        for case in cases:
            for account_id, product in case.unsent:
                unsent = [case.name, account_id, product]
                con.execute("INSERT INTO explained_unsent VALUES ($1, $2, $3)", unsent)
        found = con.execute(self.sql(as_of)).to_arrow_table().to_pylist()
        return {(row["message_id"], row["account_id"], row["product"]): row for row in found}

    def judged(self, as_of: datetime) -> Any:
        """The core's expression at a moment."""
        from reconcile.judge import pair, rules

        s, table = self._settings, self._con.table
        # Several owners: where only one has an id, that changes nothing.
        pairs = pair.pair(table("explained_records"), table("explained_receipts"),
                          pair.Scope(as_of, several_owners=True))  # fmt: skip
        key = list(zip(("message_id", "account_id", "product"), _UNSENT, strict=True))
        pairs = pairs.left_join(table("explained_unsent"), key)
        told = pairs.mutate(unsent_by_us=pairs[_UNSENT[0]].notnull()).drop(*_UNSENT)
        known = s.capability_table()
        return rules.judge(told, rules.Limits(as_of, s.validity, s.grace, s.too_fast, known))


@contextmanager
def _without_collector() -> Iterator[None]:
    """Without looking for garbage: compiling makes much and leaves little."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


# --- what the store has -----------------------------------------------------------------------


@dataclass
class _Found:
    """The rows of the messages asked for; each row's `part` is the partition that holds it."""

    ids: list[str]
    are_more: bool = False
    records: dict[str, list[Row]] = field(default_factory=dict)
    verdicts: dict[str, list[Row]] = field(default_factory=dict)
    receipts: dict[str, list[Row]] = field(default_factory=dict)
    orphans: dict[str, list[Row]] = field(default_factory=dict)

    def by_moment(self, this: Run, as_of: datetime | None) -> dict[datetime, list[tuple[str, str]]]:
        """The messages with a record, each as its id and day, by the moment to judge them at."""
        found: dict[datetime, list[tuple[str, str]]] = {}
        for message_id, rows in self.records.items():
            for day in sorted({row["part"] for row in rows}):
                at = as_of or _judged_at(this, day) or this.as_of
                found.setdefault(at, []).append((message_id, day))
        return found


def _judged_at(this: Run, day: str) -> datetime | None:
    """The as_of with which a day was judged last."""
    entry = this.ledger.judged.get(day)
    return parse_moment(entry["as_of"]) if entry else None


def _gather(this: Run, con: DuckDBPyConnection, asked: _Asked) -> _Found:
    """All rows of the messages asked for.

    `verdicts` are sorted by id, so they tell at once of which day a message is; all of `records`
    are looked through only for ids that are not there.
    """
    found, store = _Found(list(asked.ids)), this.store
    if not asked.ids:
        days = _search(this, con, asked, found)
    else:
        found.verdicts = _by_id(this, con, VERDICTS, store.days(VERDICTS), found.ids, _PUBLISHED)
        days = {row["part"] for rows in found.verdicts.values() for row in rows}
        others = [each for each in found.ids if each not in found.verdicts]
        found.records = _by_id(this, con, RECORDS, store.days(RECORDS), others)
    known = [each for each in found.ids if each not in found.records]
    found.records |= _by_id(this, con, RECORDS, days, known)
    days = {row["part"] for rows in found.records.values() for row in rows}
    if not asked.ids:
        found.verdicts = _by_id(this, con, VERDICTS, days, found.ids, _PUBLISHED)
    parts = {part for day in days for part in _reach(this, day)}
    found.receipts = _by_id(this, con, RECEIPTS, parts, list(found.records))
    lone = [each for each in found.ids if each not in found.records]
    found.orphans = _by_id(this, con, ORPHANS, store.days(ORPHANS), lone)
    unheard = [each for each in lone if each not in found.orphans]
    found.receipts |= _by_id(this, con, RECEIPTS, store.days(RECEIPTS), unheard)
    return found


def _search(this: Run, con: DuckDBPyConnection, asked: _Asked, found: _Found) -> set[str]:
    """Finds the ids of a recipient's or a reference's messages, newest first, and their days."""
    value, of_orphans = quote(asked.value), "coalesce(pushed_at, captured_at)"
    queries = [
        f"SELECT message_id, {day} AS day, epoch_us({at}) AS moment FROM ({query}) "
        f"WHERE {asked.column} = {value}"
        for table, day, at in ((RECORDS, "part", "received_at"), (ORPHANS, "NULL", of_orphans))
        if (query := _parts(this, table, this.store.days(table), table.names))
    ]
    if not queries:
        return set()
    rows = con.execute(
        "SELECT message_id, list(DISTINCT day), max(moment) AS moment "
        f"FROM ({' UNION ALL '.join(queries)}) GROUP BY message_id "
        f"ORDER BY moment DESC NULLS LAST, message_id LIMIT {asked.limit + 1}"
    ).fetchall()
    found.are_more = len(rows) > asked.limit
    rows = rows[: asked.limit]
    found.ids = [row[0] for row in rows]
    return {day for row in rows for day in row[1] if day}


def _by_id(
    this: Run, con: DuckDBPyConnection, table: Table, parts: Iterable[str], ids: list[str],
    columns: Iterable[str] = (),
) -> dict[str, list[Row]]:  # fmt: skip
    """The rows of these ids in these partitions, by id; all columns, or only these.

    Of several ids it is found first in which partition each is: a filter of several values prunes
    little, and would have every column read.
    """
    where: dict[str, list[str]] = {}
    if len(ids) == 1:
        where = dict.fromkeys(parts, ids)
    elif ids and (query := _parts(this, table, parts, ("message_id",))):
        names = ", ".join(map(quote, ids))
        rows = con.execute(f"SELECT DISTINCT * FROM ({query} WHERE message_id IN ({names}))")
        for message_id, part in rows.fetchall():
            where.setdefault(part, []).append(message_id)
    together: dict[tuple[str, ...], list[str]] = {}
    for part, some in where.items():
        together.setdefault(tuple(some), []).append(part)
    queries = [
        f"{query} WHERE message_id IN ({', '.join(map(quote, some))})"
        for some, theirs in together.items()
        if (query := _parts(this, table, theirs, columns or table.names))
    ]
    found: dict[str, list[Row]] = {}
    if queries:
        for row in con.execute(" UNION ALL ".join(queries)).to_arrow_table().to_pylist():
            found.setdefault(row["message_id"], []).append(row)
    return found


def _parts(this: Run, table: Table, parts: Iterable[str], columns: Iterable[str]) -> str:
    """SQL of the rows of partitions, each with its `part`; empty if there is none."""
    paths = [this.store.path(table, part) for part in sorted(parts)]
    files = ", ".join(quote(str(path)) for path in paths if path.exists())
    names = ", ".join(f'"{name}"' for name in columns)
    part = "regexp_extract(filename, 'day=([^/]+)/[^/]+$', 1)"
    return files and (
        f"SELECT {names}, {part} AS part "
        f"FROM read_parquet([{files}], filename = true, hive_partitioning = false)"
    )


def _unsent(this: Run, day: str, records: list[Row], as_of: datetime) -> frozenset[tuple[str, str]]:
    """Account and product of the records that the day's send log should know and does not."""
    import pyarrow as pa

    from reconcile.judge.pair import Scope
    from reconcile.judge.sendlog import with_unsent
    from reconcile.sendlog import judging as sendlog

    bench, of = _bench(this), date.fromisoformat(day)
    if not sendlog.has_log(bench, of):
        return frozenset()
    sendlog.lay(bench, of)
    names = [*_KEY, "received_at"]
    rows = pa.Table.from_pylist(records, schema=RECORDS.schema).select(names)
    con, table = this.con.con, this.con.table
    con.register("explained_asked", rows)
    con.execute("CREATE OR REPLACE TABLE explained_sent AS FROM explained_asked")
    con.unregister("explained_asked")
    told = with_unsent(table("explained_sent"), table("sent_of_day"), table("sent_around"),
                       Scope(as_of, several_owners=True))  # fmt: skip
    lacking = told.filter(told.unsent_by_us).select("account_id", "product")
    return frozenset(con.execute(str(this.con.compile(lacking))).fetchall())


def _bench(this: Run) -> Bench:
    from reconcile.judging import Bench

    ours: frozenset[str] = frozenset()
    return Bench(this.store, this.con, this.ledger, this.settings, this.as_of, ours)


def _reach(this: Run, day: str) -> list[str]:
    """The partitions of `receipts` that are looked at when a day is judged."""
    from reconcile import judging

    return judging.receipt_days(_bench(this), date.fromisoformat(day))


# --- messages with a record -------------------------------------------------------------------


def _explain_all(
    this: Run, core: Core, found: _Found, messages: list[tuple[str, str]], as_of: datetime
) -> list[Explained]:
    """Explains messages at one moment: they, and what might have been, are judged at once."""
    cases: dict[tuple[str, str], _Case] = {}
    others: dict[tuple[str, str, Key], list[tuple[str, _Case]]] = {}
    for message_id, day in messages:
        records = [row for row in found.records[message_id] if row["part"] == day]
        reach = set(_reach(this, day))
        receipts = [row for row in found.receipts.get(message_id, []) if row["part"] in reach]
        case = cases[message_id, day] = _Case(
            f"{message_id} {day}", records, receipts, _unsent(this, day, records, as_of)
        )
        for record in records:
            others[message_id, day, _key(record)] = list(_might_be(case, record, as_of))
    might = [each for many in others.values() for _, each in many]
    judged = core.judge([*cases.values(), *might], as_of)
    _mask_outages(this, found, judged, cases, as_of)
    told = []
    for (message_id, day), case in cases.items():
        for record in sorted(case.records, key=_key):
            row = judged.get((case.name, record["account_id"], record["product"]))
            ways = [
                (what, judged[other.name, record["account_id"], record["product"]])
                for what, other in others[message_id, day, _key(record)]
                if row
            ]
            facts = _facts(this, row, as_of) if row else {}
            later = _later(core, case, record, facts, as_of) if row else []
            told.append(_explained(this, found, case, record, row, facts, [*later, *ways], as_of))
    return told


def _explained(
    this: Run, found: _Found, case: _Case, record: Row, row: Row | None, facts: Row,
    ways: list[tuple[str, Row]], as_of: datetime,
) -> Explained:  # fmt: skip
    heard = _time_line(case, record, row, as_of)
    return Explained(
        record={name: record[name] for name in RECORDS.names},
        currency=record["currency"] or this.settings.currency,
        as_of=as_of,
        receipts=heard,
        judged=row,
        cell=_cell(row) if row else None,
        rules=_held(row, facts, heard) if row else [],
        changes=_changes(row, ways) if row else [],
        published=_published(this, found, record),
    )


def _published(this: Run, found: _Found, record: Row) -> Published | None:
    at = _judged_at(this, record["part"])
    for row in found.verdicts.get(record["message_id"], []):
        if at and _key(row) == _key(record) and row["part"] == record["part"]:
            return Published(at, row["verdict"], row["reasons"])
    return None


def _key(row: Row) -> Key:
    return row["account_id"], row["product"], row["message_id"]


def _facts(this: Run, row: Row, as_of: datetime) -> Row:
    """A judged message's columns, and what the core derives from them without keeping it."""
    from reconcile.judge import rules

    received, ended = row["received_at"], row["finalized_at"]
    validity = timedelta(milliseconds=row["validity"])
    begun = ended or received
    elapsed = (row["latency_ms"], _ms(ended, received), _ms(row["receipt_pushed_at"], received))
    return row | {
        "as_of": as_of,
        "validity_ms": row["validity"],
        "elapsed_ms": next((each for each in elapsed if each is not None), None),
        "within_ms": min(rules.DEADLINE_MS, row["validity"] // 10),
        "expires_at": received + validity,
        "matures_at": received + validity + this.settings.grace,
        "grace_ends_at": begun + this.settings.grace,
        "captured_after_ms": _ms(row["receipt_captured_at"], received),
        "too_fast_ms": round(this.settings.too_fast.total_seconds() * 1000),
    }


def _ms(later: datetime | None, earlier: datetime | None) -> int | None:
    if later is None or earlier is None:
        return None
    return (later - earlier) // timedelta(milliseconds=1)


def _mask_outages(
    this: Run, found: _Found, judged: dict[Key, Row], cases: dict[tuple[str, str], _Case],
    as_of: datetime,
) -> None:  # fmt: skip
    """Lets webhooks that were lost in an outage of ours say so, as the judging of a day does.

    An outage is seen in all messages of its minutes, so the published verdicts are asked.
    """
    from reconcile.judge import outages, rules

    for (_, day), case in cases.items():
        for record in case.records:
            row = judged.get((case.name, record["account_id"], record["product"]))
            if not row or row["reasons"][:1] != [outages.REPLACES]:
                continue
            published = _published(this, found, record)
            if published and published.as_of == as_of:
                ours = published.reasons[:1] == [rules.OUTAGE.name]
            else:
                since = _ms(row["finalized_at"] or row["received_at"], _EPOCH) or 0
                ours = since // outages.BIN_MS in _outages(this, day, as_of)
            if ours:
                row["reasons"] = [rules.OUTAGE.name, *row["reasons"][1:]]


def _outages(this: Run, day: str, as_of: datetime) -> set[int]:
    from reconcile.judge import outages

    view = "explained_neighbours"
    this.con.con.execute(f"CREATE OR REPLACE VIEW {view} AS {this.store.query(VERDICTS, [day])}")
    bins = outages.outages(this.con.table(view), as_of, this.settings.grace)
    return {row[0] for row in this.con.con.execute(str(this.con.compile(bins))).fetchall()}


# --- the time line ----------------------------------------------------------------------------


def _time_line(case: _Case, record: Row, judged: Row | None, as_of: datetime) -> list[Heard]:
    """The receipts of a message in order of time, those without any first."""
    from reconcile.judge.pair import EVENT

    rows = sorted(case.receipts, key=_moment)
    first: dict[tuple[Any, ...], tuple[str, int]] = {}
    for row in sorted(rows, key=_came):
        first.setdefault(tuple(row[name] for name in EVENT), (row["source"], row["line"]))
    ignored = [_ignored(case, record, row, as_of) for row in rows]
    decides = None if judged is None else _deciding(rows, ignored, judged)
    heard = []
    for at, row in enumerate(rows):
        place = (row["source"], row["line"])
        origin = first[tuple(row[name] for name in EVENT)]
        moment = row["pushed_at"] or row["captured_at"]
        heard.append(
            Heard(
                {name: row[name] for name in RECEIPTS.names}, moment,
                _ms(moment, record.get("received_at")), origin if origin != place else None,
                at == decides, ignored[at],
            )
        )  # fmt: skip
    return heard


def _moment(row: Row) -> tuple[Any, ...]:
    at = row["pushed_at"] or row["captured_at"]
    return at is not None, at or 0, *_came(row)


def _came(row: Row) -> tuple[Any, ...]:
    at = row["captured_at"]
    return at is None, at or 0, row["source"], row["line"]


def _ignored(case: _Case, record: Row, row: Row, as_of: datetime) -> str:
    """Why a receipt does not count for a record; empty if it does."""
    heard_at = row["captured_at"] or row["pushed_at"]
    if heard_at is not None and heard_at > as_of:
        return "it came after as_of"
    owners = sorted({each["account_id"] for each in case.records})
    owner = row["account_id"] if row["account_id"] in owners else (owners or [None])[0]
    if record and record["account_id"] != owner:
        return f"it belongs to the record of account {owner}"
    mine = sorted(each["product"] for each in case.records if each["account_id"] == owner)
    if record and "SMS" in mine and record["product"] != "SMS":
        return "it belongs to the record of product SMS"
    return ""


def _deciding(rows: list[Row], ignored: list[str], judged: Row) -> int | None:
    """The number of the deciding receipt: that of the judged message's columns."""
    alike = [
        at
        for at, row in enumerate(rows)
        if not ignored[at] and all(row[name] == judged[f"receipt_{name}"] for name in _DECIDING)
    ]
    return min(alike, key=lambda at: (rows[at]["signature"] == "invalid", at), default=None)


# --- which rules held -------------------------------------------------------------------------


def _cell(row: Row) -> tuple[str, str]:
    """The cell of the grid, as row and column."""
    from reconcile.judge.rules import GRID

    return GRID[row["cell"] // 4][0], GRID_COLUMNS[row["cell"] % 4]


def _held(row: Row, facts: Row, heard: list[Heard]) -> list[Held]:
    """The rules that held in the order in which they are asked, and the cell of the grid."""
    from reconcile.judge import rules

    reasons = set(row["reasons"])
    contradicted = any(rule.name in reasons for rule in rules.CONTRADICTIONS)
    kinds = ((rules.CONTRADICTIONS, "contradiction"), (rules.REFINEMENTS, "refinement"),
             (rules.CONTEXT, "context"))  # fmt: skip
    held = {rule.name for n, rule in enumerate(rules.RULES) if row["held"] >> n & 1} | reasons
    found = [
        Held(rule.name, kind, rule.verdict, rule.sentence, rule.name in reasons,
             *_seen(rule.name, facts, heard))
        for some, kind in kinds for rule in some if rule.name in held
    ]  # fmt: skip
    named = {rule.name for rule in rules.RULES} | set(rules.GRID_SENTENCES)
    # What is found in a day as a whole stands in no list of rules, and refines the grid.
    found += [
        Held(rule.name, "refinement", rule.verdict, rule.sentence, True,
             *_seen(rule.name, facts, heard))
        for rule in vars(rules).values()
        if isinstance(rule, rules.Rule) and rule.name in reasons - named
    ]  # fmt: skip
    refined = any(each.kind == "refinement" and each.counts for each in found)
    reason = row["cell_reason"]
    cell = Held(
        reason or "", "grid", row["cell_verdict"],
        rules.GRID_SENTENCES.get(reason, "") if reason else CONFIRMED,
        not contradicted and not refined, *_seen(reason or "", facts, heard),
    )  # fmt: skip
    order = {"contradiction": 0, "grid": 1, "refinement": 2, "context": 3}
    return sorted([*found, cell], key=lambda each: order[each.kind])


def _seen(name: str, facts: Row, heard: list[Heard]) -> tuple[Row, list[Row]]:
    """What a rule looked at, in the message and in each receipt; nothing of unknown rules."""
    columns = LOOKED_AT.get(name, () if name else ENDS)
    values = {name: facts.get(name) for name in columns if "." not in name}
    inner = [name.partition(".")[2] for name in columns if "." in name]
    receipts = [
        {"source": each.row["source"], "line": each.row["line"]}
        | {name: _of_receipt(each.row, name) for name in inner}
        for each in heard
        if inner and not each.ignored
    ]
    return values, receipts


def _of_receipt(row: Row, name: str) -> Any:
    if name == "country":
        return dict(words.mcc_table()).get((row["network_code"] or "")[:3])
    return row.get(name)


# --- what would change the verdict ------------------------------------------------------------


def _might_be(case: _Case, record: Row, as_of: datetime) -> Iterator[tuple[str, _Case]]:
    """The same message as it might be: in words, and as a case to be judged."""
    if record["received_at"] > as_of:
        return
    begun, mine = _ended(case, record, as_of), [
        row for row in case.receipts if not _ignored(case, record, row, as_of)
    ]  # fmt: skip
    ways: list[tuple[str, Row, list[Row]]] = []
    again = record | {"fetched_at": as_of, "asked_at": as_of}
    ways.append(("if Vonage, asked for it by id now, still told no other", again, mine))
    for status in ("delivered", "failed", words.UNKNOWN):
        ways.append(
            (
                f"if one receipt without fault said {status}",
                record,
                [_receipt(record, status, begun)],
            )
        )
    if mine:
        ways.append(("if no receipt had come", record, []))
    for status in ("delivered", "failed", words.UNKNOWN):
        ended = _record(record, status, begun)
        ways.append((f"if Vonage's record said {status}", ended, mine))
    ways.append(("if Vonage's record were not final", _record(record, "accepted", None), mine))
    if len(mine) > 1:
        for row in mine:
            rest = [each for each in mine if each is not row]
            ways.append((f"without the receipt in {row['source']}, line {row['line']}",
                         record, rest))  # fmt: skip
    ways.append(
        (
            "if Vonage's record and one receipt without fault both said delivered",
            _record(record, "delivered", begun),
            [_receipt(record, "delivered", begun)],
        )
    )
    for n, (what, changed, receipts) in enumerate(ways):
        name = f"{case.name} {record['account_id']} {record['product']} {n}"
        yield what, _Case(name, [changed], receipts)


def _ended(case: _Case, record: Row, as_of: datetime) -> datetime:
    """When a message ended, or may have ended, by as_of."""
    pushed = [row["pushed_at"] for row in case.receipts if row["pushed_at"]]
    received: datetime = record["received_at"]
    times = [record["finalized_at"], *sorted(pushed), received + timedelta(seconds=10)]
    fit = [each for each in times if each and received <= each <= as_of]
    return fit[0] if fit else received


def _receipt(record: Row, status: str, at: datetime) -> Row:
    """A receipt that agrees with a record in all but perhaps the end."""
    code = {"delivered": "0", "failed": "8"}.get(status)
    return dict.fromkeys(RECEIPTS.names) | {
        name: record[name]
        for name in ("account_id", "product", "client_ref", "sender", "recipient", "network_code",
                     "price")
    } | {"status": status, "error_code": code, "pushed_at": at, "captured_at": at, "source": "",
         "line": 0, "signature": "unsigned"}  # fmt: skip


def _record(record: Row, status: str, ended: datetime | None) -> Row:
    """The record with another end."""
    return record | {
        "status": status,
        "finalized_at": ended,
        "latency_ms": _ms(ended, record["received_at"]),
    }


def _later(
    core: Core, case: _Case, record: Row, facts: Row, as_of: datetime
) -> list[tuple[str, Row]]:
    """The same message judged when it is mature and when its grace is over, with nothing new."""
    from reconcile.days import iso

    key = (case.name, record["account_id"], record["product"])
    moments = sorted({facts[name] for name in _MOMENTS if facts[name] > as_of})
    return [
        (f"if nothing new comes by {iso(moment)}", core.judge([case], moment)[key])
        for moment in moments
    ]


def _changes(row: Row, ways: list[tuple[str, Row]]) -> list[Change]:
    """What would change the verdict or its reasons, each answer once."""
    from reconcile.judge.rules import CONTEXT_NAMES

    def answer(of: Row) -> tuple[str, ...]:
        return of["verdict"], *(name for name in of["reasons"] if name not in CONTEXT_NAMES)

    told = {answer(row)}
    found = []
    for what, other in ways:
        if (new := answer(other)) not in told:
            told.add(new)
            found.append(Change(what, new[0], list(new[1:])))
    return found


# --- receipts without a record ----------------------------------------------------------------


def _alone(this: Run, found: _Found, message_id: str) -> Alone | None:
    from reconcile.judge.orphans import KINDS

    orphans, receipts = found.orphans.get(message_id, []), found.receipts.get(message_id, [])
    if not orphans and not receipts:
        return None
    kind = orphans[0]["kind"] if orphans else None
    sentence = KINDS.get(kind, "") if kind else "No run has judged these receipts yet."
    heard = _time_line(
        _Case("", [], orphans or receipts), {}, None, datetime.max.replace(tzinfo=UTC)
    )
    resembles = _resembling(this, orphans) if kind == "near_match" else []
    return Alone(message_id, kind, sentence, heard, resembles)


def _resembling(this: Run, orphans: list[Row]) -> list[str]:
    """The ids of the records that these receipts resemble: alike but for leading zeros."""
    row = orphans[0]
    at = row["pushed_at"] or row["captured_at"]
    if at is None:
        return []
    days = [(at + timedelta(days=n)).date() for n in range(-3, 4)]
    bare = quote(row["message_id"].lstrip("0"))
    rows = this.con.con.execute(
        f"SELECT DISTINCT message_id FROM ({this.store.query(RECORDS, days)}) "
        f"WHERE ltrim(message_id, '0') = {bare} AND recipient = {quote(row['recipient'] or '')} "
        "ORDER BY message_id"
    ).fetchall()
    return [str(each[0]) for each in rows]


# --- asking Vonage ----------------------------------------------------------------------------


def refresh(this: Run, given: Given) -> Refreshed:
    """Asks Vonage for the newest state of messages by id, and takes the answers in.

    A day whose records tell something new is open again, so that the next run judges it.
    """
    from reconcile import fetching, refreshing
    from reconcile.reports import keep

    refreshing.take_in_what_was_left(this)
    asked, stopped = _asked(this, given), this.store.unfinished()
    before = _gather(this, this.con.con, asked)
    with fetching.connected(this, this.settings.credentials()) as vonage:
        answers = refreshing.ask(this, vonage, _wanted(this, before, vonage))
    for of, parts in refreshing.parts_of(this, answers).items():
        keep.publish(this.store, this.con, of, parts, this.as_of, this.settings.pii)
    after = _gather(this, this.con.con, _Asked(tuple(before.ids)))
    reopened = [day for day in _days_with_news(before, after) if day in this.ledger.judged]
    for day in reopened:
        this.ledger.judged[day]["closed"] = False
    refreshing.enter(this, answers)
    finish(this, "explain")
    if stopped:
        this.store.begin(stopped)  # a run that was stopped still hands down its days
    return Refreshed(before.ids, reopened, sum(each.billed for each in answers),
                     next((each.failure for each in answers if each.failure), None))  # fmt: skip


def _wanted(this: Run, found: _Found, vonage: Vonage) -> Messages:
    """Whom to ask for what: a record's account; of an id without a record, whoever may have it."""
    from reconcile.reports.refresh import Wanted
    from reconcile.reports.slices import Source

    ours = {Source(source.account_id, source.product) for source in vonage.sources}
    together = {source.product for source in vonage.sources if source.subaccounts}
    ours |= {Source(name, product) for name in this.ledger.accounts for product in together}
    wanted: Messages = {}
    for message_id in found.ids:
        known = found.records.get(message_id, [])
        heard = [*found.orphans.get(message_id, []), *found.receipts.get(message_id, [])]
        named = {row["account_id"] for row in heard if row["account_id"]}
        asked = {(Source(row["account_id"], row["product"]), row["record_id"]) for row in known}
        asked = asked or {(each, None) for each in ours if each.account_id in named} or {
            (each, None) for each in ours
        }  # fmt: skip
        for source, record_id in sorted(asked, key=lambda each: each[0].name):
            wanted.setdefault(source, []).append(Wanted(message_id, record_id))
    return wanted


def _days_with_news(before: _Found, after: _Found) -> list[str]:
    """The days of records that are other than before, and of orphans that have a record now."""
    asking = ("fetched_at", "asked_at")

    def told(found: _Found) -> dict[tuple[str, Key], Row]:
        return {
            (row["part"], _key(row)): {n: row[n] for n in row if n not in asking}
            for rows in found.records.values() for row in rows
        }  # fmt: skip

    old, new = told(before), told(after)
    days = {place[0] for place in {*old, *new} if old.get(place) != new.get(place)}
    homeless = [row for name in after.records for row in before.orphans.get(name, [])]
    return sorted(days | {row["part"] for row in homeless})
