"""The published tables as frames in Python: what `reconcile.open` returns.

    import reconcile

    store = reconcile.open("store")
    store.summary(start="2026-01-01", end="2026-02-01")            # a pandas frame
    store.verdicts(where="verdict = 'missing' AND country = 'DE'")
    store.table("verdicts", columns=["message_id", "reasons"]).arrow()

It only reads, so it may be used while a run is under way.
"""

# ruff: noqa: S608 - names are of the contract, texts of others are quoted or checked (where.py)

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import UTC, date, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from reconcile import engine
from reconcile.days import parse_day, parse_moment
from reconcile.errors import InputError, UsageError
from reconcile.selection import Selection, day_of, rows_query
from reconcile.store import Store
from reconcile.tables import (
    BY_NAME,
    CAMPAIGNS,
    CHANGES,
    CONCENTRATIONS,
    ERROR_CODES,
    NETWORKS,
    ORPHANS,
    REASONS,
    RECEIPTS,
    RECORDS,
    REJECTS,
    SENT,
    SUMMARY,
    UNRECORDED,
    VERDICTS,
    Table,
)
from reconcile.where import checked

if TYPE_CHECKING:
    import pandas as pd

Day = date | str | None


class Frames:
    """A store opened to be read: each table as a method that returns a pandas frame.

    All these methods take the same arguments:

    Args:
        start: the first UTC day, as a date or `2026-01-31`; None: the first that there is.
        end: the first UTC day not asked for; None: up to the last.
        where: a filter in SQL over the table's columns, such as `country = 'DE'`; it is checked,
            so it may come from somebody else (`reconcile.where`).
        columns: names of the columns wanted, in order; None: all.

    Days without a partition add no rows, so what is not published is an empty frame with the
    table's columns and types. Receipts without any time belong to no day: they come only where
    neither `start` nor `end` is given. `changes` is asked by the day of its messages.

    Raises:
        UsageError: there is no store, no such table or column, or a filter that cannot be used.
        InputError: a file of the store cannot be read.
    """

    def __init__(
        self, store: Path | str, *, memory_limit: str | None = None, threads: int | None = None
    ) -> None:
        self._store = Store.open(store)
        memory = memory_limit or engine.half_of_memory()
        self._engine = engine.connect(memory, threads, engine.own_folder(self._store.work))

    def __repr__(self) -> str:
        return f"reconcile.open({self._store.name!r})"

    def days(self, table: str = "summary") -> list[date]:
        """The UTC days that a table has, in order (of `changes`: on which days it was judged).

        Example:
            >>> store.days()[-1]
            datetime.date(2026, 1, 31)
        """
        names = self._store.days(_table(table))
        return sorted({day for name in names if (day := day_of(name)) is not None})

    def table(
        self, name: str, start: Day = None, end: Day = None, *,
        where: str | None = None, columns: Sequence[str] | None = None,
    ) -> Selection:  # fmt: skip
        """Rows of any table, as `.pandas()`, `.arrow()` or `.relation()`; nothing is read yet.

        Example:
            >>> store.table("summary", start="2026-01-01", columns=["date", "missing"]).arrow()
        """
        table = _table(name)
        wanted = list(dict.fromkeys(table.names if columns is None else columns))
        strange = [each for each in wanted if each not in table.names]
        if strange or not wanted:
            raise UsageError(
                f"table {name} has no column {', '.join(map(str, strange)) or 'without a name'}: "
                f"`reconcile schema {name}` lists them"
            )
        query = self._query(table, _as_day(start), _as_day(end))
        if where is not None:
            query = f"SELECT * FROM ({query}) AS t WHERE {checked(where, table)}"
        return Selection(engine.beside(self._engine), table, query, wanted)

    def _query(self, table: Table, start: date | None, end: date | None) -> str:
        """SQL of the rows of these days."""
        if start and end and end <= start:
            raise UsageError(f"end {end} is not after start {start}: it is the first day not asked")
        return rows_query(self._store, table, start, end)

    def _frame(self, table: Table, *given: Any) -> pd.DataFrame:
        start, end, where, columns = given
        return self.table(table.name, start, end, where=where, columns=columns).pandas()

    def summary(
        self, start: Day = None, end: Day = None, *,
        where: str | None = None, columns: Sequence[str] | None = None,
    ) -> pd.DataFrame:  # fmt: skip
        """Counts, rates and money: one row an account, country, network and currency of a day.

        Example:
            >>> store.summary(where="missing > 0")
        """
        return self._frame(SUMMARY, start, end, where, columns)

    def reasons(
        self, start: Day = None, end: Day = None, *,
        where: str | None = None, columns: Sequence[str] | None = None,
    ) -> pd.DataFrame:  # fmt: skip
        """Why messages have their verdict: one row a group of `summary`, verdict and reason."""
        return self._frame(REASONS, start, end, where, columns)

    def error_codes(
        self, start: Day = None, end: Day = None, *,
        where: str | None = None, columns: Sequence[str] | None = None,
    ) -> pd.DataFrame:  # fmt: skip
        """What carriers answered: one row a group of `summary`, status and err-code."""
        return self._frame(ERROR_CODES, start, end, where, columns)

    def networks(
        self, start: Day = None, end: Day = None, *,
        where: str | None = None, columns: Sequence[str] | None = None,
    ) -> pd.DataFrame:  # fmt: skip
        """Networks judged as a whole, with evidence: one row a network, span and day.

        Example:
            >>> store.networks(where="network_verdict = 'suspect'")
        """
        return self._frame(NETWORKS, start, end, where, columns)

    def concentrations(
        self, start: Day = None, end: Day = None, *,
        where: str | None = None, columns: Sequence[str] | None = None,
    ) -> pd.DataFrame:  # fmt: skip
        """Where a rise of missing, unknown or suspect messages is over-represented."""
        return self._frame(CONCENTRATIONS, start, end, where, columns)

    def campaigns(
        self, start: Day = None, end: Day = None, *,
        where: str | None = None, columns: Sequence[str] | None = None,
    ) -> pd.DataFrame:  # fmt: skip
        """Counts, rates and money: one row an account, campaign and currency of a day."""
        return self._frame(CAMPAIGNS, start, end, where, columns)

    def verdicts(
        self, start: Day = None, end: Day = None, *,
        where: str | None = None, columns: Sequence[str] | None = None,
    ) -> pd.DataFrame:  # fmt: skip
        """Every message with its verdict and reasons.

        Example:
            >>> store.verdicts(where="list_contains(reasons, 'lost_webhook')")
        """
        return self._frame(VERDICTS, start, end, where, columns)

    def changes(
        self, start: Day = None, end: Day = None, *,
        where: str | None = None, columns: Sequence[str] | None = None,
    ) -> pd.DataFrame:  # fmt: skip
        """Messages whose verdict, or what made it, changed since their day was judged before.

        Example:
            >>> store.changes(where="to_verdict = 'missing'")
        """
        return self._frame(CHANGES, start, end, where, columns)

    def orphans(
        self, start: Day = None, end: Day = None, *,
        where: str | None = None, columns: Sequence[str] | None = None,
    ) -> pd.DataFrame:  # fmt: skip
        """Receipts that join no record."""
        return self._frame(ORPHANS, start, end, where, columns)

    def records(
        self, start: Day = None, end: Day = None, *,
        where: str | None = None, columns: Sequence[str] | None = None,
    ) -> pd.DataFrame:  # fmt: skip
        """Messages as Vonage last reported them."""
        return self._frame(RECORDS, start, end, where, columns)

    def receipts(
        self, start: Day = None, end: Day = None, *,
        where: str | None = None, columns: Sequence[str] | None = None,
    ) -> pd.DataFrame:  # fmt: skip
        """Captured receipts, one row a line.

        Example:
            >>> store.receipts(where="status = 'failed'")
        """
        return self._frame(RECEIPTS, start, end, where, columns)

    def rejects(
        self, start: Day = None, end: Day = None, *,
        where: str | None = None, columns: Sequence[str] | None = None,
    ) -> pd.DataFrame:  # fmt: skip
        """Captured lines and fetched records that could not be read as one."""
        return self._frame(REJECTS, start, end, where, columns)

    def sent(
        self, start: Day = None, end: Day = None, *,
        where: str | None = None, columns: Sequence[str] | None = None,
    ) -> pd.DataFrame:  # fmt: skip
        """Messages that the send log names."""
        return self._frame(SENT, start, end, where, columns)

    def unrecorded(
        self, start: Day = None, end: Day = None, *,
        where: str | None = None, columns: Sequence[str] | None = None,
    ) -> pd.DataFrame:  # fmt: skip
        """Messages that the API accepted, and of which Reports has no record."""
        return self._frame(UNRECORDED, start, end, where, columns)

    def explain(self, *message_ids: str) -> list[dict[str, Any]]:
        """What `reconcile explain --format json` says of messages: one entry a message found.

        Settings that judging needs (grace, currency …) come from `reconcile.toml` in the working
        directory and from the environment, as on the command line. It asks Vonage nothing.

        Raises:
            InputError: an id that the store does not know.

        Example:
            >>> store.explain("0A000000C1D20001")[0]["verdict"]
        """
        from reconcile.explaining.explain import explain
        from reconcile.explaining.told import Given, not_here
        from reconcile.present.explained import explained
        from reconcile.run import looked_at
        from reconcile.settings import load

        if not message_ids:
            raise UsageError("name the message ids to explain")
        settings = load(None, store=self._store.name)
        with looked_at(settings, parse_moment(datetime.now(UTC).isoformat())) as this:
            found = explain(this, Given(message_ids), None)
        if found.unknown:
            raise InputError(not_here(found.unknown[0], asked=False))
        told: list[dict[str, Any]] = json.loads(explained(found, "json"))
        return told


def _table(name: str) -> Table:
    if name not in BY_NAME:
        raise UsageError(f"there is no table {name}: the tables are {', '.join(BY_NAME)}")
    return BY_NAME[name]


def _as_day(given: Day) -> date | None:
    return parse_day(given) if isinstance(given, str) else given
