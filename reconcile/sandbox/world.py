"""The invented traffic of a data folder, as the Reports API would show it at a moment.

    DIR/sandbox.json                            the format, and the accounts with their secrets
    DIR/world/day=YYYY-MM-DD/*.parquet          one row a message, by the UTC day of date_received
    DIR/world.csv                               rows written by hand, blank where null

A message exists from its `date_received` on, or from a later `visible_from` if its record was late,
and until its `hidden_from` if it has one. Until its `date_finalized` it shows `status_before`, and
neither that date nor a latency nor an error: so the same folder answers for any moment.

Listing a day sorts it once into a table of a scratch database; after that a page is a range of
its row ids, and costs milliseconds however long the day is.
"""

# ruff: noqa: S608 - SQL is put together from names of our own; what a client sent goes in as values

from __future__ import annotations

import csv
import threading
from collections.abc import Iterable, Iterator
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

from reconcile.days import day_of, parse_day, parse_moment
from reconcile.errors import InputError, UsageError
from reconcile.sandbox.accounts import read_accounts
from reconcile.sandbox.protocol import TICK, Query

PAGE_RECORDS = 1000

_TYPES = {
    **dict.fromkeys(
        ("date_received", "date_finalized", "visible_from", "hidden_from"), "TIMESTAMP"
    ),
    **dict.fromkeys(("latency", "validity_period"), "BIGINT"),
    "total_price": "DECIMAL(18, 8)",
    "concatenated": "BOOLEAN",
}
# fmt: off
REQUIRED_COLUMNS = (
    "account_id", "product", "message_id", "direction", "date_received", "date_finalized",
    "status_before", "status",
)
_COLUMNS = (
    "account_id", "product", "id", "message_id", "client_ref", "account_ref", "direction",
    "from", "to", "changed_from", "forced_from", "country", "country_name", "provider",
    "network", "network_name", "date_received", "date_finalized", "status_before", "status",
    "latency", "error_code", "error_code_description", "currency", "total_price",
    "concatenated", "validity_period", "message_body", "visible_from", "hidden_from",
)
# fmt: on
_IS_FINAL = "date_finalized <= $at"
_AT_END = f"CASE WHEN {_IS_FINAL} THEN {{}} END"
_STATUS = f"CASE WHEN {_IS_FINAL} THEN status ELSE status_before END"
_MOMENT = "strftime({}, '%Y-%m-%dT%H:%M:%S+00:00')"
# A decimal has eight places, the API shows as many as there are: 0.03330000 is 0.0333, 0 is 0.
_PRICE = "rtrim(rtrim(CAST(total_price AS VARCHAR), '0'), '.')"
_SHOWN = {
    "date_received": _MOMENT.format("date_received"),
    "date_finalized": _AT_END.format(_MOMENT.format("date_finalized")),
    "latency": _AT_END.format("CAST(latency AS VARCHAR)"),
    "error_code": _AT_END.format("error_code"),
    "error_code_description": _AT_END.format("error_code_description"),
    "status": _STATUS,
    "total_price": _PRICE,
    "estimated_price": _PRICE,
    "concatenated": "CASE WHEN concatenated THEN 'TRUE' ELSE 'FALSE' END",
}

Place = tuple[date, int]
"""Where a listing stopped: the day, and the row id of the last record shown."""


class World:
    """A data folder, opened for reading.

    Raises:
        InputError: the folder is missing, or malformed.
    """

    def __init__(self, folder: Path, scratch: Path) -> None:
        self.accounts = read_accounts(folder / "sandbox.json")
        self._columns: dict[Path, set[str]] = {}
        by_hand = folder / "world.csv"
        written = write_days(by_hand, scratch) if by_hand.exists() else []
        self._days = self._read_days(folder, scratch)
        self._made: set[str] = set()
        self._lock = threading.Lock()
        self._database = duckdb.connect(str(scratch / "world.duckdb"))
        self._database.execute("SET memory_limit = '1GB'")
        try:  # what people write is tried at once; a generator's days wait until they are asked for
            for day in written:
                self._table(day)
        except duckdb.Error as error:
            self.close()
            raise InputError(f"{by_hand}: {str(error).splitlines()[0]}") from error

    def close(self) -> None:
        """Closes the scratch database; its folder is the caller's."""
        self._database.close()

    def page(
        self, query: Query, at: datetime, after: Place | None = None
    ) -> tuple[list[dict[str, str]], Place | None]:
        """The next records of a listing, newest first, and where it goes on if it does."""
        fields = query.fields()
        found: list[tuple[Place, dict[str, str]]] = []
        for day, select, values in self.listing(query, at, after):
            limit = PAGE_RECORDS + 1 - len(found)
            rows = self.fetch(f"{select} ORDER BY rowid LIMIT {limit}", values)
            found += [((day, row[0]), dict(zip(fields, row[1:], strict=True))) for row in rows]
            if len(found) > PAGE_RECORDS:
                break
        goes_on = found[PAGE_RECORDS - 1][0] if len(found) > PAGE_RECORDS else None
        return [record for _, record in found[:PAGE_RECORDS]], goes_on

    def by_id(self, query: Query, at: datetime) -> tuple[list[dict[str, str]], list[str]]:
        """The records that carry one of the ids, of any day, and the ids that none carries."""
        where, values = _conditions(query, at)
        rows: list[tuple[str, ...]] = []
        for day in self._days_with(query.ids):
            select = f"SELECT message_id, id, {_shown(query)} FROM {self._table(day)} AS message"
            rows += self.fetch(f"{select} WHERE {where} ORDER BY rowid", values)
        known = {row[0] for row in rows} | {row[1] for row in rows}
        records = [dict(zip(query.fields(), row[2:], strict=True)) for row in rows]
        return records, [name for name in query.ids if name not in known]

    def listing(
        self, query: Query, at: datetime, after: Place | None = None, *, shows_place: bool = True
    ) -> Iterator[tuple[date, str, dict[str, object]]]:
        """One select a day and its values, newest day first, for what lies behind a place."""
        start, end = query.window(at)
        if end <= start:
            return
        # An end at midnight needs nothing of the day that begins there.
        first = after[0] if after else day_of(min(end - TICK, at))
        where, values = _conditions(query, at)
        place = "rowid, " if shows_place else ""
        for day in sorted(self._days, reverse=True):
            if day_of(start) <= day <= first:
                behind = after[1] if after and after[0] == day else -1
                source = f"{self._table(day)} AS message"
                select = f"SELECT {place}{_shown(query)} FROM {source}"
                yield day, f"{select} WHERE {where} AND rowid > {behind}", values

    def count(self, query: Query, at: datetime) -> int:
        """How many records a listing has at a moment."""
        parts = self.listing(query, at, shows_place=False)
        counts = (self.fetch(f"SELECT count(*) FROM ({select})", v) for _, select, v in parts)
        return sum(rows[0][0] for rows in counts)

    def _days_with(self, ids: tuple[str, ...]) -> list[date]:
        """The days, newest first, that may hold one of some ids."""
        if not self._days:
            return []
        # Hashes are enough to pick the days, and sorted ones are found without a scan.
        each_day = " UNION ALL ".join(
            f"SELECT hash(unnest([message_id, id])) AS key, DATE '{day}' AS day "
            f"FROM {self._source(files)}"
            for day, files in self._days.items()
        )
        self._make("ids", f"SELECT DISTINCT key, day FROM ({each_day}) ORDER BY key")
        found = "SELECT DISTINCT day FROM ids WHERE key IN (SELECT hash(unnest($ids)))"
        return sorted((row[0] for row in self.fetch(found, {"ids": list(ids)})), reverse=True)

    def _table(self, day: date) -> str:
        """The table of a day, newest message first, made when the day is first asked for."""
        source = self._source(self._days[day])
        newest_first = "ORDER BY date_received DESC, message_id, id"
        return self._make(f"day_{day:%Y%m%d}", f"SELECT * FROM {source} {newest_first}")

    def _make(self, name: str, select: str) -> str:
        with self._lock:
            if name not in self._made:
                self.fetch(f"CREATE TABLE {name} AS {select}", {})
                self._made.add(name)
        return name

    def _source(self, files: list[Path]) -> str:
        """The messages of some files with every column, null where no file has it."""
        present = set().union(*(self._columns[file] for file in files))
        paths = ", ".join(f"'{quoted(file)}'" for file in files)
        columns = ", ".join(_column(name, name in present) for name in _COLUMNS)
        # Without hive partitioning: the folder's day must not become a column.
        read = f"read_parquet([{paths}], union_by_name = true, hive_partitioning = false)"
        return f"(SELECT {columns} FROM {read}) AS message"

    def fetch(self, sql: str, values: dict[str, object]) -> list[tuple[Any, ...]]:
        """Runs one statement and returns its rows; threads may do so at the same time."""
        with self._database.cursor() as cursor:
            rows: list[tuple[Any, ...]] = cursor.execute(sql, values).fetchall()
            return rows

    def _read_days(self, *folders: Path) -> dict[date, list[Path]]:
        days: dict[date, list[Path]] = {}
        for file in (f for each in folders for f in sorted(each.glob("world/day=*/*.parquet"))):
            try:
                days.setdefault(parse_day(file.parent.name.removeprefix("day=")), []).append(file)
                self._columns[file] = set(pq.read_schema(file).names)
            except (UsageError, OSError, pa.ArrowException) as error:
                raise InputError(f"{file} is no day of messages: {error}") from error
            _demand_columns(file, self._columns[file])
        return days


def write_days(file: Path, target: Path) -> list[date]:
    """Writes a world.csv as the days of a world; other columns than times stay text."""
    days: dict[date, list[dict[str, object]]] = {}
    line = 1
    try:
        with file.open(encoding="utf-8-sig", newline="") as lines:
            reader = csv.DictReader(lines, strict=True)
            names = list(reader.fieldnames or ())
            _demand_columns(file, names)
            times = [name for name in names if _TYPES.get(name) == "TIMESTAMP"]
            for row in reader:
                line = reader.line_num
                if None in row or None in row.values():
                    raise UsageError("not as many fields as the header has")
                moments = {name: parse_moment(row[name]) for name in times if row[name]}
                if "date_received" not in moments:
                    raise UsageError("no date_received")
                texts = {name: text or None for name, text in row.items() if name not in times}
                day = day_of(moments["date_received"])
                days.setdefault(day, []).append({**texts, **moments})
    except (OSError, ValueError, csv.Error, UsageError) as error:
        raise InputError(f"{file}, line {line}: {error}") from error
    kinds = {name: pa.timestamp("us", "UTC") if name in times else pa.string() for name in names}
    for day, messages in days.items():
        part = target / "world" / f"day={day}" / "messages.parquet"
        part.parent.mkdir(parents=True)
        pq.write_table(pa.Table.from_pylist(messages, pa.schema(kinds)), part)
    return list(days)


def _demand_columns(file: Path, present: Iterable[str]) -> None:
    if lacking := sorted(set(REQUIRED_COLUMNS) - set(present)):
        raise InputError(f"{file} lacks the columns {', '.join(lacking)}")


def _conditions(query: Query, at: datetime) -> tuple[str, dict[str, object]]:
    """Which messages a query means at a moment: a condition, and the values that it names."""
    start, end = query.window(at)
    moments = {"at": at, "start": start, "end": end}
    values: dict[str, object] = {
        name: moment.astimezone(UTC).replace(tzinfo=None) for name, moment in moments.items()
    }
    terms = ["message.date_received <= $at", "coalesce(message.hidden_from > $at, true)"]
    terms += ["coalesce(message.visible_from <= $at, true)"]
    terms += ["message.date_received >= $start", "message.date_received < $end"]
    same = {"product": query.product, "direction": query.direction}
    for name, value in {**same, **dict(query.filters)}.items():
        if value:
            values[f"is_{name}"] = value
            column = _STATUS if name == "status" else f'message."{name}"'
            terms.append(f"{column} = $is_{name}")
    accounts = _listed("account", (query.account_id, *query.subaccounts), values)
    terms.append(f"message.account_id IN ({accounts})")
    if query.ids:
        ids = _listed("id", query.ids, values)
        terms.append(f"(message.message_id IN ({ids}) OR message.id IN ({ids}))")
    return " AND ".join(terms), values


def _listed(name: str, words: Iterable[str], values: dict[str, object]) -> str:
    """The words as a statement names them, which are entered in its values."""
    named = {f"{name}_{n}": word for n, word in enumerate(words)}
    values |= named
    return ", ".join(f"${each}" for each in named)


def _shown(query: Query) -> str:
    """The fields of a query's records as text, blank where there is nothing to say."""
    shown = {name: f'CAST(message."{name}" AS VARCHAR)' for name in _COLUMNS} | _SHOWN
    return ", ".join(f"coalesce({shown.get(name, 'NULL')}, '')" for name in query.fields())


def _column(name: str, present: bool) -> str:
    """A column of the files in the type that the rest relies on."""
    kind = _TYPES.get(name, "VARCHAR")
    if not present:
        return f'CAST(NULL AS {kind}) AS "{name}"'
    # By way of microseconds: other casts of times with a zone depend on the session's zone.
    read = f'make_timestamp(epoch_us("{name}"))' if kind == "TIMESTAMP" else f'"{name}"'
    return f'CAST({read} AS {kind}) AS "{name}"'


def quoted(path: Path) -> str:
    """A path as it stands between the quotes of a statement."""
    return str(path.resolve()).replace("'", "''")
