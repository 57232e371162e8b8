"""Judges one day: brings its rows to the core, checks that all sums close, and publishes.

The core's expressions are compiled once, over views that stand for "the day's records" and so
on; from day to day only what those views read is exchanged.
"""

# ruff: noqa: S608 - SQL is put together from names of our own; texts of others are quoted

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from datetime import date, datetime, timedelta
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa

from reconcile import aside, conversions, cutting
from reconcile import vocabulary as words
from reconcile.aside import Whole
from reconcile.days import DAY, basic_iso, days_between, iso, matures_at, parse_moment
from reconcile.engine import moment, quote, set_moment, sparing, without_collector
from reconcile.enumerating import enumerated
from reconcile.errors import ContractError, InputError, SettingsError, trouble
from reconcile.sendlog import judging as sendlog
from reconcile.settings import Settings
from reconcile.store import (
    UNDATED,
    Compiled,
    Ledger,
    Staged,
    Store,
    compiled,
    parquet_query,
    write_parquet,
)
from reconcile.tables import (
    CAMPAIGNS,
    CHANGES,
    CONCENTRATIONS,
    ERROR_CODES,
    NETWORKS,
    ORPHANS,
    REASONS,
    RECEIPTS,
    RECORDS,
    SUMMARY,
    VERDICTS,
    Table,
)  # fmt: skip
from reconcile.vocabulary import FINAL, UNKNOWN

if TYPE_CHECKING:
    import ibis
    from ibis.backends.duckdb import Backend


# Columns of `records` and `receipts` that hold few different texts, and those of `verdicts` that
# come of them.
RECORDS_WORDS = {
    "product": "product", "account_id": "account_id", "sender": "sender", "country": "country",
    "country_name": "country_name", "network_code": "network_code",
    "network_name": "network_name", "status": "record_status", "error_code": "record_error_code",
    "currency": "currency",
}  # fmt: skip
RECEIPTS_WORDS = {
    "status": "receipt_status", "error_code": "receipt_error_code",
    "network_code": "receipt_network_code",
}  # fmt: skip
VERDICTS_FEW = (*RECORDS_WORDS.values(), *RECEIPTS_WORDS.values(), "verdict")
# All columns of `records` and `receipts` that do.
RECORDS_FEW = (*RECORDS_WORDS, "sender_used")
RECEIPTS_FEW = (*RECEIPTS_WORDS, "account_id", "product", "sender", "source", "signature")


# Columns of `records` that no rule and no table of verdicts reads.
NOT_JUDGED = ("record_id", "asked_at")
# The key, beginning with what tells one from another.
VERDICTS_ORDER = "message_id, account_id, product"
# Settings that are in no expression of the core: whatever they are, it is compiled alike.
_IN_NO_EXPRESSION = {
    "store", "dlr", "dlr_sql", "send_log", "base_url", "accounts", "account_id", "capabilities",
    "conversions", "pii_key_file", "memory_limit", "threads", "temp_directory", "engine", "spark",
}  # fmt: skip
# What was compiled in this process; a moment is no part of it, so all nights share it.
_COMPILED: dict[tuple[str, ...], Compiled] = {}
_SQL: dict[tuple[str, ...], str] = {}


@dataclass(frozen=True)
class Judged:
    """One day's counts; `deaf` says that records ended and not one receipt came."""

    day: date
    counts: dict[str, int]
    closed: bool
    deaf: bool = False


@dataclass
class Bench:
    """What judging works with; the views it prepares live as long as it is open."""

    store: Store
    con: Backend
    ledger: Ledger
    settings: Settings
    as_of: datetime
    accounts: frozenset[str]
    log_is_whole: bool = True
    _laid: set[str] = field(default_factory=set)
    _tables: dict[str, ibis.Table] = field(default_factory=dict)

    def __enter__(self) -> Bench:
        import duckdb

        set_moment(self.con, self.as_of)
        self.lay("converted_ids", conversions.query(self.con, self.settings.conversions))
        if self.settings.campaign:
            try:
                self.con.con.execute("SELECT regexp_extract('', $1)", [self.settings.campaign])
            except duckdb.Error:
                raise SettingsError(
                    "setting campaign: the engine cannot read this regular expression: use RE2's "
                    "syntax, without looking ahead or behind"
                ) from None
        return self

    def __exit__(self, *_: object) -> None:
        """Its views go with the engine."""

    @cached_property
    def now(self) -> ibis.Value:
        """as_of as an expression, which is the same for all of them."""
        return moment()

    @property
    def horizon(self) -> timedelta:
        """How long after a message its receipts may still come."""
        return self.settings.longest_validity + self.settings.grace

    def lay(self, name: str, query: str) -> None:
        """Lets the view `name` read this query from now on.

        Raises:
            InputError: a file of the store that it reads is damaged, or lacks a column.
        """
        import duckdb

        try:
            self.con.con.execute(f"CREATE OR REPLACE VIEW {name} AS {query}")
        except duckdb.Error as error:
            raise InputError(
                f"the store cannot be read: {trouble(error)}; restore the file from a backup"
            ) from None

    def read(self, name: str, table: Table, files: list[Path]) -> None:
        """Lets the view `name` read these files of a table from now on.

        Raises:
            InputError: one of them is damaged, or lacks a column.
        """
        self.lay(name, parquet_query(table, files))

    def put(self, name: str, rows: pa.Table) -> None:
        """Lets `name` be these few rows from now on."""
        self.con.con.register(f"{name}_given", rows)
        self.con.con.execute(f"CREATE OR REPLACE TABLE {name} AS FROM {name}_given")
        self.con.con.unregister(f"{name}_given")

    def table(self, name: str) -> ibis.Table:
        """A view that was laid, as an expression; the engine is asked for its columns once."""
        if name not in self._tables:
            self._tables[name] = self.con.table(name)
        return self._tables[name]

    def ask(self, query: str) -> dict[str, int]:
        """The one row of a query, its numbers as integers, null as 0."""
        cursor = self.con.con.execute(query)
        row = cursor.fetchone() or ()
        return {c[0]: int(v or 0) for c, v in zip(cursor.description, row, strict=True)}

    def write(self, key: str, table: Table, day: str, build: Callable[[], ibis.Table]) -> Staged:
        """Stages a partition from the expression `key`, as `view` makes it, in this process."""
        view = self.view(key, table, build)
        return self.store.write_view(self.con, view, table, day, self.as_of)

    # What follows is work with messages, of which there are many: another engine may do it.

    def make(self, key: str, table: Table, day: str, build: Callable[[], ibis.Table]) -> Staged:
        """Stages a partition from the expression `key`."""
        return self.write(key, table, day, build)

    def make_verdicts(self, key: str, day: date, build: Callable[[], ibis.Table]) -> Staged:
        """Stages a day's verdicts in their order, from `records_of_day` and `receipts_in_reach`."""
        return _write_judged(self, self.view(key, VERDICTS, build), day)

    def make_again(self, key: str, staged: Staged, build: Callable[[], ibis.Table]) -> Staged:
        """Stages a day's verdicts anew, from `verdicts_of_day`, which are those staged before."""
        return _write_again(self, self.view(key, VERDICTS, build), staged)

    def fetch(self, key: str, build: Callable[[], ibis.Table]) -> pa.Table:
        """The rows of the expression `key`, which are few."""
        found: pa.Table = self.con.con.execute(self.sql(key, build)).fetch_arrow_table()
        return found

    def tell(self, key: str, build: Callable[[], ibis.Table]) -> dict[str, int]:
        """The one row of the expression `key`, its numbers as integers, null as 0."""
        [row] = self.fetch(key, build).to_pylist()
        return {name: int(value or 0) for name, value in row.items()}

    def view(self, key: str, table: Table, build: Callable[[], ibis.Table]) -> str:
        """The view of the expression `key`, which is built and compiled once a process."""
        view = f"made_{key}"
        if view not in self._laid:
            known = (view, *self._alike)
            if known in _COMPILED:
                _COMPILED[known].lay(self.con)
            else:
                with without_collector():
                    _COMPILED[known] = compiled(self.con, view, build(), table)
            self._laid.add(view)
        return view

    def sql(self, key: str, build: Callable[[], ibis.Table]) -> str:
        """SQL of the expression `key`, which is built and compiled once a process."""
        known = (key, *self._alike)
        if known not in _SQL:
            with without_collector():
                _SQL[known] = str(self.con.compile(build()))
        return _SQL[known]

    @cached_property
    def _alike(self) -> tuple[str, ...]:
        """What expressions are made of besides views: two with the same of it are the same."""
        known = self.settings.capability_table()
        mine = self.settings.model_dump_json(exclude=_IN_NO_EXPRESSION)
        return mine, repr(known), *sorted(self.accounts)


def judge_day(bench: Bench, day: date, *, covered: bool, recorded: bool = False) -> Judged:
    """Gives every message of a day its verdict and publishes the day's tables.

    A day whose records ended while not one receipt came stays as it was published before: it is a
    day without captures, not a day of losses.

    Args:
        bench: what to work with.
        day: the UTC day.
        covered: whether all days to which its receipts can belong were downloaded.
        recorded: whether it and the days beside it were: only then can a message that the send log
            has be unrecorded.

    Raises:
        ContractError: a sum that must close is open.
    """
    verdicts = _judge_messages(bench, day)
    counts = _counts(bench)
    if counts["final"] and not counts["receipts"]:
        return Judged(day, counts, closed=False, deaf=True)
    verdicts = _mask_outages(bench, verdicts, counts)
    closed = _is_closed(bench, day, counts)
    orphans = judge_orphans(bench, day, covered=covered, closed=closed)
    parts = [verdicts, orphans, *_count(bench, day)]
    bench.read("error_codes_of_day", ERROR_CODES, parts[-1].files)
    parts += _judge_networks(bench, day)
    parts.append(_summarise(bench, day))
    counts |= _check(bench, day, counts, {part.table: part for part in parts})
    unrecorded = sendlog.judge_unrecorded(bench, day, covered=recorded)
    counts |= sendlog.counts(bench, unrecorded)
    # Changes come first: once the verdicts are replaced, nobody can tell what they were.
    parts += [unrecorded] if unrecorded else []
    bench.store.publish([*_changes(bench, day), *parts])
    bench.ledger.judged[str(day)] = {
        "as_of": iso(bench.as_of), "closed": closed, "first": _first_judged(bench, day),
        "covered": covered, "recorded": recorded, "logged": is_logged(bench, day),
        "slices": slices_of(bench.ledger, day),
    }  # fmt: skip
    bench.store.save(bench.ledger)
    return Judged(day, counts, closed)


def is_held(bench: Bench, table: Table, changed: Iterable[str]) -> bool:
    """Whether the undated rows of `orphans` or `unrecorded` only need to be held against what is
    new: no undated ones came since, by the same rules, and no earlier moment is asked for."""
    told = bench.store.about(table, UNDATED)
    if UNDATED in changed or told is None:
        return False
    return bool(told["rules_version"] == words.RULES_VERSION and told["as_of"] <= iso(bench.as_of))


def is_logged(bench: Bench, day: date) -> bool:
    """Whether a send log speaks of a day, and is whole."""
    return bench.log_is_whole and sendlog.has_log(bench, day)


def slices_of(ledger: Ledger, day: date) -> int:
    """Of how many slices a day's records are; more than before: some of them are new."""
    return len(ledger.of_day(day))


def receipt_days(bench: Bench, day: date) -> list[str]:
    """Partitions of `receipts` in which those of a day can be, by either of their times."""
    near = days_between(day - DAY, day + _whole_days(bench.horizon) + DAY)
    first, last = str(near[0]), str(near[-1])
    captured = [
        part
        for part, span in bench.ledger.receipt_days.items()
        if span and span[0] <= last and span[1] >= first
    ]
    named = {*map(str, near), *captured, UNDATED}
    return sorted(part for part in named if bench.store.has(RECEIPTS, part))


def look_back(bench: Bench, day: date) -> list[date]:
    """The days in which the record of a receipt of this day can be, by either of its times."""
    span = [day, *map(date.fromisoformat, bench.ledger.receipt_days.get(str(day), []))]
    return days_between(min(span) - _whole_days(bench.horizon), max(span) + 2 * DAY)


def covering_days(bench: Bench, day: date) -> list[date]:
    """The days without which nobody can say that a receipt of this day belongs to no record."""
    return days_between(day - _whole_days(bench.horizon), day + DAY)


def judge_orphans(
    bench: Bench, day: date | None, *, covered: bool, closed: bool = False,
    fresh: Iterable[date] | None = None,
) -> Staged:  # fmt: skip
    """Stages the receipts of a day (None: the undated ones) that join no record.

    Args:
        bench: what to work with.
        day: the UTC day.
        covered: whether all days to which its receipts can belong were downloaded.
        closed: whether the day is.
        fresh: of the undated, the days whose records they were not held against so far (None: no
            day's): what joined a record of another day joins it still.
    """
    from reconcile.judge import orphans as core
    from reconcile.judge.pair import Scope

    part, scope = str(day) if day else UNDATED, Scope(bench.now, several_owners=False)
    bench.read("heard", RECEIPTS, bench.store.files(RECEIPTS, part))
    days: Iterable[date | str] | None = fresh
    if day:
        days = look_back(bench, day)
    elif fresh is not None:
        heard, lone = (bench.store.query(table, [UNDATED]) for table in (RECEIPTS, ORPHANS))
        bench.lay("heard", f"SELECT * FROM ({heard}) SEMI JOIN ({lone}) USING (source, line)")
    days = bench.store.days(RECORDS) if days is None else days
    bench.read("look_back", RECORDS, bench.store.files(RECORDS, *days))
    date_sql = f"DATE '{day}'" if day else "NULL::DATE"
    bench.lay(
        "the_day", f"SELECT {date_sql} AS date, {closed} AS is_closed, {covered} AS is_covered"
    )

    def alone() -> ibis.Table:
        heard, records = bench.table("heard"), bench.table("look_back")
        return core.unjoined(heard, records, scope)

    def build() -> ibis.Table:
        table = bench.table
        lone = table("unjoined").select(RECEIPTS.names)
        rows = core.orphans(lone, table("look_back"), table("the_day"), bench.accounts, scope)
        return rows.order_by(list(ORPHANS.key))

    # Few receipts are orphans: found once, they are looked at closely by themselves.
    with sparing(bench.con):
        found = bench.make("unjoined", RECEIPTS, part, alone)
    bench.read("unjoined", RECEIPTS, found.files)
    if not found.rows:
        bench.read("look_back", RECORDS, [])
    staged = bench.make("orphans", ORPHANS, part, build)
    bench.read("lone", ORPHANS, staged.files)
    return staged


def _judge_messages(bench: Bench, day: date) -> Staged:
    table = bench.table
    bench.read("records_of_day", RECORDS, bench.store.files(RECORDS, day))
    bench.read("receipts_in_reach", RECEIPTS,
               bench.store.files(RECEIPTS, *receipt_days(bench, day)))  # fmt: skip
    owners = bench.tell("owners", lambda: (
        table("records_of_day").select("account_id", "product").distinct()
        .agg(n=lambda owners: owners.count())
    ))  # fmt: skip
    several = owners["n"] > 1
    logged = is_logged(bench, day)
    if logged:
        sendlog.lay(bench, day)
    staged = bench.make_verdicts(
        f"verdicts_{several}_{logged}", day,
        lambda: _verdicts(bench, several_owners=several, logged=logged),
    )  # fmt: skip
    bench.read("verdicts_of_day", VERDICTS, staged.files)
    return staged


def _write_judged(bench: Bench, view: str, day: date) -> Staged:
    """Stages a view of verdicts: at once, or span by span where memory is short."""
    con, store = bench.con, bench.store
    own = Whole(RECORDS, store.files(RECORDS, day), RECORDS_FEW, NOT_JUDGED)
    heard = Whole(RECEIPTS, store.files(RECEIPTS, *receipt_days(bench, day)), RECEIPTS_FEW)
    records, receipts = own.query, heard.query
    path, folder = store.place(VERDICTS, day), aside.aside(store, bench.settings.temp_directory)
    spans, crowded = cutting.spans_of(con, records), cutting.is_crowded(con, receipts, records)
    with ExitStack() as kept, ExitStack() as joined:
        if crowded or spans != cutting.ALL:
            cutting.refuse_without_room(con, [records, *([] if crowded else [receipts])], folder)
        if crowded:
            theirs = cutting.joining(receipts, records)
            mine = joined.enter_context(aside.put(con, theirs, folder / "receipts.parquet"))
            heard = replace(heard, files=[mine])
        few = _words(records, heard.query, bench.settings.currency or UNKNOWN)
        types = kept.enter_context(enumerated(con, view, few))
        ordered = kept.enter_context(types.in_order(con, view, VERDICTS_ORDER))
        if spans != cutting.ALL:
            each = kept.enter_context(aside.cut(con, [own, heard], spans, folder))
            joined.close()
            pairs = list(zip(*each, strict=True))
        else:
            pairs = [(records, heard.query)]
        staged = _write_verdicts(bench, ordered, day, path, [
            {"records_of_day": types.numbered(mine, RECORDS_WORDS),
             "receipts_in_reach": types.numbered(theirs, RECEIPTS_WORDS)}
            for mine, theirs in pairs
        ])  # fmt: skip
    bench.lay("records_of_day", records)
    bench.lay("receipts_in_reach", receipts)
    return staged


def _write_verdicts(
    bench: Bench, view: str, day: date | str, path: Path, spans: list[dict[str, str]]
) -> Staged:
    """Writes a view of verdicts, in order: to one file, or a file a span after the other.

    Args:
        path: where the one file is to be; several are in a folder beside it.
        spans: what each lets the views read that `view` is of.
    """
    several, rows = path.with_suffix(""), 0
    files = [several / f"part-{n:05d}.parquet" for n in range(len(spans))]
    for file, queries in zip([path] if len(spans) == 1 else files, spans, strict=True):
        _lay(bench, queries)
        rows += write_parquet(bench.con, view, VERDICTS, file, bench.as_of)
    return Staged(VERDICTS.name, str(day), path if len(spans) == 1 else several, rows)


def _lay(bench: Bench, queries: dict[str, str]) -> None:
    for name, query in queries.items():
        bench.lay(name, query)


def _mask_outages(bench: Bench, staged: Staged, counts: dict[str, int]) -> Staged:
    """Lets webhooks that were lost while our own capture was down say so."""
    from reconcile.judge import outages as core

    table, found = bench.table, pa.table({"bin": pa.array([], pa.int64())})
    if counts["missing"] >= core.LEAST_MESSAGES * core.LEAST_SHARE:
        found = bench.fetch("outages", lambda: core.outages(
            table("verdicts_of_day"), bench.now, bench.settings.grace))  # fmt: skip
    bench.put("outages", found)
    if not found.num_rows:
        return staged
    masked = bench.make_again(
        "masked", staged, lambda: core.masked(table("verdicts_of_day"), table("outages"))
    )
    bench.read("verdicts_of_day", VERDICTS, masked.files)
    return masked


def _write_again(bench: Bench, view: str, staged: Staged) -> Staged:
    """Stages a view of the verdicts that are staged in their place."""
    verdicts, again = parquet_query(VERDICTS, staged.files), staged.path.with_name("masked.parquet")
    spans = cutting.spans_of(bench.con, verdicts)
    own = [{"verdicts_of_day": span.of(verdicts)} for span in spans]
    few = {name: f"SELECT DISTINCT {name} AS word FROM ({verdicts})" for name in VERDICTS_FEW}
    few["verdict"] = _listed(words.VERDICTS)
    with (
        enumerated(bench.con, view, few) as types,
        types.in_order(bench.con, view, VERDICTS_ORDER) as ordered,
    ):
        masked = _write_verdicts(bench, ordered, staged.day, again, own)
    staged.drop()
    return masked


def _verdicts(bench: Bench, *, several_owners: bool, logged: bool) -> ibis.Table:
    from ibis import _

    from reconcile.judge import pair, rules
    from reconcile.judge.sendlog import with_unsent

    s = bench.settings
    records, receipts = bench.table("records_of_day"), bench.table("receipts_in_reach")
    scope = pair.Scope(bench.now, several_owners)
    pairs = pair.pair(records, receipts, scope)
    if logged:
        sent = bench.table("sent_of_day"), bench.table("sent_around")
        pairs = with_unsent(pairs, *sent, scope)
    known = s.capability_table()
    judged = rules.judge(pairs, rules.Limits(bench.now, s.validity, s.grace, s.too_fast, known))
    named = {
        "record_status": _.status,
        "record_error_code": _.error_code,
        "record_price": _.price,
        "currency": _.currency.fill_null(s.currency or UNKNOWN),
        "pushed_at": _.receipt_pushed_at,
        "captured_at": _.receipt_captured_at,
    }
    return judged.select(**{name: named.get(name, _[name]) for name in VERDICTS.names})


def _words(records: str, receipts: str, currency: str) -> dict[str, str]:
    """SQL of all words that columns of the day's verdicts can hold, where they are few.

    Args:
        records, receipts: SQL of what is judged.
        currency: of records that name none.
    """
    found = {
        column: f"SELECT DISTINCT {own} AS word FROM ({rows})"
        for rows, columns in ((records, RECORDS_WORDS), (receipts, RECEIPTS_WORDS))
        for own, column in columns.items()
    }
    found["currency"] += f" UNION ALL {_listed([currency])}"
    return found | {"verdict": _listed(words.VERDICTS)}


def _listed(each: Iterable[str]) -> str:
    return f"SELECT word FROM (VALUES {', '.join(f'({quote(w)})' for w in each)}) AS t(word)"


def _first_judged(bench: Bench, day: date) -> str:
    """The as_of with which a day was judged first."""
    told = bench.ledger.judged.get(str(day), {})
    return str(told.get("first", told.get("as_of", iso(bench.as_of))))


def _changes(bench: Bench, day: date) -> list[Staged]:
    """Stages this as_of's changes with those of a day, whose verdicts are staged."""
    from reconcile.judge import changes as core

    now = iso(bench.as_of)
    part = basic_iso(bench.as_of)
    before = bench.store.about(VERDICTS, day)
    if before is None or _first_judged(bench, day) == now:
        if bench.store.has(CHANGES, part):
            return []
        none = parquet_query(CHANGES, [])
        return [bench.store.write(bench.con, none, CHANGES, part, bench.as_of)]
    again = before["as_of"] == now  # judged twice by one run, or by one that was stopped
    is_back = parse_moment(before["as_of"]) > bench.as_of
    is_other = before["rules_version"] != words.RULES_VERSION
    bench.read("verdicts_before", VERDICTS, bench.store.files(VERDICTS, day))
    bench.read("changes_so_far", CHANGES, bench.store.files(CHANGES, part))
    bench.lay("changes_of_day",
              f"SELECT * FROM changes_so_far WHERE {again} AND date = DATE '{day}'")  # fmt: skip
    bench.lay("judging", f"SELECT DATE '{day}' AS date, {is_back} AS is_back, "
                         f"{is_other} AS is_other")  # fmt: skip
    table = bench.table

    def build() -> ibis.Table:
        day_of = table("judging")
        own = core.changes(table("verdicts_before"), table("verdicts_of_day"), day_of,
                           table("changes_of_day"))  # fmt: skip
        others = table("changes_so_far").anti_join(day_of, "date")
        return own.union(others).order_by(list(CHANGES.key))

    return [bench.make("changes", CHANGES, part, build)]


def _summarise(bench: Bench, day: date) -> Staged:
    from reconcile import summarise

    table = bench.table
    currency = bench.settings.currency or UNKNOWN
    return bench.make("summary", SUMMARY, str(day), lambda: summarise.summary(
        table("verdicts_of_day"), table("lone"), table("the_day"), table("network_verdicts"),
        bench.now, currency))  # fmt: skip


def _count(bench: Bench, day: date) -> list[Staged]:
    from reconcile import summarise
    from reconcile.judge.rules import CONTEXT_NAMES

    table, part = bench.table, str(day)
    pattern = bench.settings.campaign
    by_campaign = [
        bench.make("campaigns", CAMPAIGNS, part, lambda: summarise.campaigns(
            table("verdicts_of_day"), table("the_day"), pattern))
    ] if pattern else []  # fmt: skip
    return [
        *by_campaign,
        bench.make("reasons", REASONS, part, lambda: summarise.reasons(
            table("verdicts_of_day"), table("the_day"), CONTEXT_NAMES)),
        bench.make("error_codes", ERROR_CODES, part, lambda: summarise.error_codes(
            table("verdicts_of_day"), table("the_day"))),
    ]  # fmt: skip


def judge_networks(bench: Bench, day: date) -> list[Staged]:
    """Judges the networks of a day again that is published: what it is held against has changed."""
    bench.read("verdicts_of_day", VERDICTS, bench.store.files(VERDICTS, day))
    staged = _judge_networks(bench, day, again=True)
    told = bench.store.about(SUMMARY, day) or {}
    names = ", ".join(
        f"n.{c} AS {c}" if c == "network_verdict" else f"s.{c}" for c in SUMMARY.names
    )
    rows = f"""
        SELECT {names} FROM ({bench.store.query(SUMMARY, [day])}) AS s
        LEFT JOIN network_verdicts AS n USING (country, network_code)
        ORDER BY account_id, country, network_code, currency
    """
    as_of = parse_moment(told["as_of"]) if told else bench.as_of
    return [*staged, bench.store.write(bench.con, rows, SUMMARY, str(day), as_of)]


def _judge_networks(bench: Bench, day: date, *, again: bool = False) -> list[Staged]:
    """Stages what is thought of the networks of a day, and where a rise concentrates."""
    from reconcile import networking
    from reconcile.judge.samples import samples

    s, con = bench.settings, bench.con
    today = None
    if not again:
        looked_at = networking.features_of(bench.table)
        features = {name: bench.fetch(name, build) for name, build in looked_at.items()}
        today = networking.of_day(con, day, features)
    seen = networking.window(bench.store, con, day, today, s.capability_table())
    before = networking.alarms_before(bench.store, con, day)
    rows = networking.judge(seen, before, s.currency or UNKNOWN, s.false_discoveries)
    odd = networking.odd_ones(rows)
    if odd.num_rows:
        bench.put("odd_networks", odd)
        table = bench.table
        found = bench.fetch(
            "samples", lambda: samples(table("verdicts_of_day"), table("odd_networks"))
        )
        rows = networking.with_samples(rows, found)
    told = networking.worst(rows)
    bench.put("network_verdicts", told)
    con.con.register("network_rows", networking.as_table(rows))
    staged = [bench.write("networks", NETWORKS, str(day), lambda: bench.table("network_rows"))]
    return [*staged, _concentrate(bench, day, networking.risen(rows))]


def _concentrate(bench: Bench, day: date, risen: list[str]) -> Staged:
    from reconcile.judge import concentration as core

    found: list[dict[str, object]] = []
    if risen:
        frame = bench.fetch(
            "slices", lambda: core.slices(bench.table("verdicts_of_day"), bench.settings.campaign)
        ).to_pandas()
        for verdict in risen:
            found += [{"date": day, **row} for row in core.concentrations(frame, verdict)]
    rows = pa.Table.from_pylist(found, schema=CONCENTRATIONS.schema)
    bench.con.con.register("concentration_rows", rows)
    return bench.write("concentrations", CONCENTRATIONS, str(day),
                       lambda: bench.table("concentration_rows"))  # fmt: skip


def _counts(bench: Bench) -> dict[str, int]:
    """What the checks and the manifest need of a day's verdicts, in one pass."""
    from ibis import _

    return bench.tell("verdict_counts", lambda: bench.table("verdicts_of_day").agg(
        messages=_.count(),
        **{name: _.count(where=_.verdict == name) for name in words.VERDICTS},
        receipts=_.receipts.sum(),
        duplicates=_.duplicates.sum(),
        final=_.count(where=_.record_status.isin(FINAL)),
    ))  # fmt: skip


def _is_closed(bench: Bench, day: date, counts: dict[str, int]) -> bool:
    """Whether all messages of a day are mature and nothing of it is pending."""
    longest = bench.tell("longest", lambda: bench.table("records_of_day").agg(
        ms=lambda records: records.validity_ms.max()))["ms"]  # fmt: skip
    validity = max(timedelta(milliseconds=longest), bench.settings.validity)
    return not counts["pending"] and bench.as_of >= matures_at(day, validity, bench.settings.grace)


def _check(
    bench: Bench, day: date, counts: dict[str, int], parts: dict[str, Staged]
) -> dict[str, int]:
    """Holds a day's tables against each other; nothing is published where a sum is open."""
    bench.read("summary_of_day", SUMMARY, parts["summary"].files)
    bench.read("reasons_of_day", REASONS, parts["reasons"].files)
    names = ("messages", *words.VERDICTS)
    sums = ", ".join(
        f"sum({name}) AS {name}" for name in (*names, "receipts", "orphans", "uncovered")
    )
    told = bench.ask(f"SELECT {sums}, sum(duplicate_receipts) AS duplicates FROM summary_of_day")
    first = bench.ask("SELECT sum(messages_first) AS n FROM reasons_of_day")["n"]
    known = bench.tell("known", lambda: bench.table("records_of_day").agg(
        n=lambda records: records.count(where=records.received_at <= bench.now)))["n"]  # fmt: skip
    lone = told["orphans"] + told["uncovered"]
    for name, found, wanted in (
        ("records judged", counts["messages"], known),
        ("verdicts", sum(counts[n] for n in words.VERDICTS), counts["messages"]),
        *((f"summary.{n}", told[n], counts[n]) for n in names),
        ("summary.orphans and uncovered", lone, parts["orphans"].rows),
        ("summary.receipts", told["receipts"], counts["receipts"] + lone),
        ("summary.duplicate_receipts", told["duplicates"], counts["duplicates"]),
        ("reasons.messages_first", first, counts["messages"]),
    ):
        if found != wanted:
            raise ContractError(f"{day}: {name} add up to {found}, not {wanted}: nothing published")
    return {"orphans": told["orphans"], "uncovered": told["uncovered"]}


def _whole_days(span: timedelta) -> timedelta:
    return DAY * math.ceil(span / DAY)
