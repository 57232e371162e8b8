"""Captures that lie in a SQL database: the rows behind a key, in order, as columns of text.

A row's number is its key: a whole number, unique, and growing. Numbers are given out before rows
are committed, so a row with a lower one can appear after a higher one was read. So every run reads
the last `overlap` keys again, and what it has by then it does not take twice. This is exact while
no transaction is open for longer than it takes to give out `overlap` keys: raise it where many rows
are inserted at once, or where a sequence has a CACHE. Other keys are refused: times are not unique,
and nothing bounds how far back one may still appear; texts and UUIDs do not grow.
"""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, time
from decimal import Decimal
from pathlib import Path
from types import NoneType
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from reconcile.errors import InputError, SettingsError
from reconcile.receipts.fields import ENVELOPE, FIELDS, plain
from reconcile.receipts.lines import NO_UTF8

if TYPE_CHECKING:
    from types import ModuleType

    from sqlalchemy import URL, Connection, Engine

    from reconcile.settings import Settings

ROWS_AT_ONCE = 20_000
# The first rows show how many are about so large; large ones are taken fewer at once.
FIRST_ROWS, BYTES_AT_ONCE = 500, 16 << 20
CONNECT_SECONDS = 10
NUMBERS = (int, float, Decimal)
BYTES = (bytes, bytearray, memoryview)
# Names that mean anything to us: only in columns of these must bytes be text.
KNOWN = {*ENVELOPE, *(spelling for own in FIELDS.values() for spelling in own)}
# Databases whose JSON is told from text; others may give what they rewrote as text.
KEEP_TEXT = ("postgresql", "sqlite")
Page = Sequence[Any]

# What a server or its driver says when it is not reached → what we say, which names nobody.
REFUSALS = (
    (r"invalid (connection option|URI)", "its URL has a part that its driver does not know"),
    (r"pg_hba", "it lets in no such user from this machine (pg_hba.conf)"),
    (r"password|authentication|\brole ", "it refuses the user or the password"),
    (r"database .* does not exist", "it has no such database"),
    (r"refused|[Nn]o such file", "no server is listening there"),
    (r"resolve|translate host|[Nn]ame or service|nodename", "its host is not known"),
    (r"time(d )?[- ]?out", "it does not answer in time"),
    (r"SSL|TLS|certificate", "a safe connection to it fails"),
    (r"too many|slots", "it has no connection left: try again later"),
    (r"starting up|shutting down|recovery", "it is starting or stopping: try again later"),
    (r"is not a database|unable to open", "it is no SQLite database that can be opened"),
    (r"is locked", "another program has locked it: try again later"),
    (r"closed the connection|terminat", "the connection was lost: try again"),
)
# What SQLite says of a query without quoting what a row holds.
SAFE = r"(no such|ambiguous column|near \"[^\"]*\": syntax|incomplete input)"
# What SQLAlchemy takes for the beginning of a parameter, and for an escaped one.
COLONS = r"(?<![:\w\\]):(?=\w+(?![:\w]))|\\(?=:\w*(?![:\w]))"
# SQLSTATEs: a query that writes; the server or a connection that ended, and queries it ended.
WRITES, BROKEN_OFF = "25006", ("08", "40", "57")


@dataclass(frozen=True)
class Query:
    """One query that captures come from.

    Attributes:
        name: the source of its lines in the tables.
        url: SQLAlchemy's URL of the database; a secret.
        query: a SELECT that gives a row a receipt, or a row a payload.
        key: the column of a whole number, unique and growing.
        columns: field of a receipt → column of the query, where their names differ.
        overlap: how many keys below the last one are looked at again.
    """

    name: str
    url: str = field(repr=False)
    query: str
    key: str
    columns: Mapping[str, str]
    overlap: int


def queries_of(settings: Settings) -> list[Query]:
    """The databases that receipts are captured in.

    Raises:
        SettingsError: the URL of one is nowhere.
    """
    return [
        Query(own.name, own.url(), own.query, own.key, own.columns, own.overlap)
        for own in settings.dlr_sql
    ]


@dataclass(frozen=True)
class Rows:
    """Some rows in the order of their keys.

    Attributes:
        keys: their keys (int64).
        columns: text by field or column: moments in UTC as ISO 8601, objects as JSON.
        numeric: names of columns that held numbers; of a column that held both, numbers and texts
            are in `Rows` of their own.
        rewritten: names of columns that held JSON which the database parsed: no text as it was
            sent, which a signature of the body would need.
        problem: why a row cannot be read; null where it can.
    """

    keys: pa.Array
    columns: dict[str, pa.Array]
    numeric: frozenset[str]
    rewritten: frozenset[str]
    problem: pa.Array


def read_rows(
    query: Query, after: int | None, last: int | None = None, rows_at_once: int = ROWS_AT_ONCE
) -> Iterator[Rows]:
    """The rows behind a key, in order; nothing is written.

    Args:
        query: which, in which database.
        after: the key behind which rows are wanted, `last` - `overlap`; None: all.
        last: the highest key that was ever seen, if it is to be found out that keys began anew.
        rows_at_once: at most so many rows are held in memory, fewer if they are large.

    Raises:
        SettingsError: SQLAlchemy or the database's driver is not installed, its URL is none, or
            `columns` names a field that there is not.
        InputError: the database is not reached, or refuses the query; its key is missing, null,
            not unique or no whole number, or its keys began anew.
    """
    sa = _sqlalchemy()
    _check_fields(query)
    url = _url(sa, query)
    where = f"dlr_sql {query.name} ({_shown(url)})"
    with _connected(sa, url, where) as connection:
        try:
            if connection.dialect.name == "sqlite":
                _prepare_sqlite(connection)
            yield from _Asking(sa, connection, query, where).rows(after, last, rows_at_once)
        except sa.exc.SQLAlchemyError as error:
            raise InputError(f"{where}: {_refused(error)}") from None


def first_key(query: Query) -> int | None:
    """The key of the first row, read as an ingest would read it; None: there is no row.

    Raises:
        SettingsError, InputError: as `read_rows`.
    """
    rows = next(read_rows(query, None, rows_at_once=1), None)
    return None if rows is None else int(rows.keys[0].as_py())


@dataclass(frozen=True)
class _Asking:
    """A query being asked over one connection."""

    sa: ModuleType
    connection: Connection
    query: Query
    where: str

    def rows(self, after: int | None, last: int | None, most: int) -> Iterator[Rows]:
        names = self._names()
        at = names.index(self.query.key)
        columns = self._columns(names)
        self._refuse_null_keys()
        highest, size = None, min(FIRST_ROWS, most)
        with self._pages(after, at) as take:
            while page := take(size):
                keys = self._keys([row[at] for row in page], highest)
                highest = int(keys[-1].as_py())
                found = list(_rows(keys, columns, page))
                if self.connection.dialect.name not in KEEP_TEXT:
                    found = [replace(rows, rewritten=frozenset(rows.columns)) for rows in found]
                yield from found
                nbytes = sum(column.nbytes for rows in found for column in rows.columns.values())
                size = min(max(BYTES_AT_ONCE // (nbytes // len(page) + 1), 1), most)
        if last is not None and (highest is None or highest < last):
            self._refuse_other_keys(last)

    def _wanted(self, *columns: Any) -> tuple[Any, Any]:
        """A selection of these columns from the query, and the query's key."""
        sa, key = self.sa, self.query.key
        asked = sa.text(_literally(self.query.query)).columns(sa.column(key, sa.BigInteger))
        rows = asked.subquery("q")
        return sa.select(*columns).select_from(rows), rows.c[key]

    def _all(self) -> tuple[Any, Any]:
        return self._wanted(self.sa.text("*"))

    def _names(self) -> list[str]:
        """The names of the query's columns, of which the key is one."""
        wanted, _ = self._all()
        names = list(self.connection.execute(wanted.where(self.sa.false())).keys())
        for n, name in enumerate(names):
            first = re.sub(r":\d+$", "", name)  # SQLite calls the second of two `status` `status:1`
            if {name, first} & set(names[:n]):
                raise InputError(
                    f"{self.where}: its query gives two columns {first}: name them apart with AS"
                )
        for name in (self.query.key, *self.query.columns.values()):
            if name not in names:
                raise InputError(
                    f"{self.where}: its query gives no column {name}, "
                    f"only {', '.join(names)[:200]}: correct `query`, `key` or `columns`"
                )
        return names

    def _columns(self, names: list[str]) -> list[tuple[str, int]]:
        """Under which name each column of the query is taken, and where it stands."""
        mapped = self.query.columns
        found = [(own, names.index(name)) for own, name in mapped.items()]
        taken = {*mapped.values(), self.query.key}
        for n, name in enumerate(names):
            if name in taken:
                continue
            if name in mapped:
                raise InputError(
                    f"{self.where}: `columns` takes {name} from {mapped[name]}, but its query "
                    f"gives a {name} as well: name it otherwise with AS, or leave it out"
                )
            found.append((name, n))
        return found

    def _refuse_null_keys(self) -> None:
        wanted, key = self._wanted(self.sa.literal(1))
        if self.connection.execute(wanted.where(key.is_(None)).limit(1)).first():
            raise InputError(
                f"{self.where}: a row has no {self.query.key}: the key must be in every row"
            )

    def _refuse_other_keys(self, last: int) -> None:
        """What was seen last is gone: all may be deleted by now, but no lower one may come."""
        key = self._wanted()[1]
        highest = self.connection.execute(self.sa.select(self.sa.func.max(key))).scalar()
        if highest is not None and highest < last:
            raise InputError(
                f"{self.where}: its highest {self.query.key} is {highest}, but {last} was seen: "
                "if its keys began anew, give it another `name` and it is read as a new capture"
            )

    @contextmanager
    def _pages(self, after: int | None, at: int) -> Iterator[Callable[[int], Page]]:
        """What gives the next rows behind a key; in SQLite each time by a query of its own, since
        one that is not finished keeps others from writing."""
        if self.connection.dialect.name != "sqlite":
            options = {"stream_results": True}
            with self.connection.execute(self._behind(after), execution_options=options) as result:
                yield result.fetchmany
            return

        def page(size: int) -> Page:
            nonlocal after
            rows = self.connection.execute(self._behind(after).limit(size + 1)).all()
            if len(rows) > size and rows[size][at] != rows[size - 1][at]:
                rows = rows[:size]  # a key that is there twice is not parted, and refused
            after = rows[-1][at] if rows else after
            return rows

        yield page

    def _behind(self, after: int | None) -> Any:
        wanted, key = self._all()
        return (wanted if after is None else wanted.where(key > after)).order_by(key)

    def _keys(self, keys: list[Any], last: int | None) -> pa.Array:
        """Keys as numbers, once they are known to be unique and growing."""
        name = self.query.key
        for kind in set(map(type, keys)) - {int}:
            if kind is not Decimal or any(key % 1 for key in keys if type(key) is Decimal):
                raise InputError(
                    f"{self.where}: its key {name} is no whole number but {_called(kind)}: "
                    "take a column such as a bigint identity, or add one"
                )
        whole = [int(key) for key in keys]
        if last is None and whole[0] < 0:
            raise InputError(f"{self.where}: its key {name} is negative: it must count upwards")
        for before, key in zip([last, *whole], whole, strict=False):
            if before is not None and key <= before:
                raise InputError(f"{self.where}: its key {name} is not unique: {key} comes twice")
        try:
            return pa.array(whole, pa.int64())
        except (OverflowError, pa.ArrowInvalid):
            raise InputError(
                f"{self.where}: its key {name} goes beyond 64 bits: take another column"
            ) from None


# Rows → columns of text


class _Json(str):
    """The text of a JSON object or array."""

    __slots__ = ()


def _rows(keys: pa.Array, columns: list[tuple[str, int]], page: Page) -> Iterator[Rows]:
    """A page as one of `Rows`, or as several: a column is either one of numbers or it is not."""
    values = list(zip(*page, strict=True))
    kinds = [set(map(type, column)) - {NoneType} for column in values]
    mixed = [n for n, kind in enumerate(kinds) if kind.intersection(NUMBERS) and kind - {*NUMBERS}]
    if not mixed:
        yield _told(keys, {name: (values[n], kinds[n]) for name, n in columns})
        return
    parts: dict[tuple[bool, ...], list[int]] = {}
    for n, row in enumerate(page):
        parts.setdefault(tuple(type(row[at]) in NUMBERS for at in mixed), []).append(n)
    for part in parts.values():
        yield from _rows(keys.take(pa.array(part)), columns, [page[n] for n in part])


def _told(keys: pa.Array, columns: Mapping[str, tuple[tuple[Any, ...], set[type]]]) -> Rows:
    problem: list[str | None] = [None] * len(keys)
    for name, (values, kinds) in columns.items():
        if kinds.intersection(BYTES) and plain(name) in KNOWN:
            for n, value in enumerate(values):
                if isinstance(value, BYTES) and isinstance(_decoded(bytes(value)), bytes):
                    problem[n] = NO_UTF8
    return Rows(
        keys,
        {name: _texts(*column) for name, column in columns.items()},
        frozenset(name for name, (_, kinds) in columns.items() if kinds.intersection(NUMBERS)),
        frozenset(n for n, (_, kinds) in columns.items() if kinds & {_Json, dict, list}),
        pa.array(problem, pa.string()),
    )


def _texts(values: tuple[Any, ...], kinds: set[type]) -> pa.Array:
    texts = values if kinds <= {str, _Json} else [_text(value) for value in values]
    try:
        return pa.array(texts, pa.string())
    except UnicodeEncodeError:  # half a surrogate pair
        clean = [text and text.encode("utf-8", "backslashreplace").decode() for text in texts]
        return pa.array(clean, pa.string())


def _text(value: Any) -> str | None:
    """A value as text; a moment without an offset is one of UTC."""
    match value:
        case None | str():
            return value
        case bool():
            return "true" if value else "false"
        case Decimal():
            return format(value, "f")
        case datetime():
            aware = value.replace(tzinfo=UTC) if value.tzinfo is None else value
            return aware.astimezone(UTC).isoformat()
        case date() | time():
            return value.isoformat()
        case bytes() | bytearray() | memoryview():
            return bytes(value).decode("utf-8", "backslashreplace")
        case dict() | list() | tuple():
            return json.dumps(value, default=_text)
    return str(value)


def _parsed(data: str | bytes) -> Any:
    """A JSON value of the database: objects and arrays as their text, whose digits are all kept."""
    text = data if isinstance(data, str) else data.decode()
    return _Json(text) if text.lstrip()[:1] in "{[" else json.loads(text, parse_float=Decimal)


def _decoded(data: bytes) -> str | bytes:
    """A text, or the bytes as they are if they are none."""
    try:
        return data.decode()
    except UnicodeDecodeError:
        return data


def _called(kind: type) -> str:
    if issubclass(kind, (date, time)):
        return "times"
    return {str: "text", float: "floating numbers", Decimal: "fractions"}.get(kind, "other values")


# The way to the database


def _sqlalchemy() -> ModuleType:
    try:
        import sqlalchemy
    except ImportError:
        raise SettingsError(
            "[[dlr_sql]] needs SQLAlchemy: pip install 'dlr-reconcile[sql]', "
            "or 'dlr-reconcile[postgresql]'"
        ) from None
    return sqlalchemy


def _check_fields(query: Query) -> None:
    for own in query.columns:
        if plain(own) not in KNOWN:
            near = difflib.get_close_matches(own, [*FIELDS, *ENVELOPE], 1)
            hint = f"did you mean {near[0]}?" if near else f"fields are {', '.join(FIELDS)}, body"
            raise SettingsError(f"dlr_sql {query.name}: columns: {own} is no field: {hint}")


def _url(sa: ModuleType, query: Query) -> URL:
    try:
        url: URL = sa.make_url(query.url)
    except (sa.exc.ArgumentError, ValueError):
        raise SettingsError(
            f"dlr_sql {query.name}: its URL is none such as "
            "postgresql://USER:PASSWORD@HOST/DATABASE: encode @ : / in a password as %40 %3A %2F"
        ) from None
    if url.drivername in ("postgres", "postgresql"):
        url = url.set(drivername="postgresql+psycopg")
    return url


def _shown(url: URL) -> str:
    """Host and database alone; what stands before an @ is the end of a password."""
    if url.get_backend_name() == "sqlite":
        return str(url.database)
    return f"{url.host or ''}/{url.database or ''}".rpartition("@")[2]


@contextmanager
def _connected(sa: ModuleType, url: URL, where: str) -> Iterator[Connection]:
    """A connection that only reads, and sees one state of the database where this can be."""
    kind = url.drivername.partition("+")[0]
    engine = _engine(sa, url, kind, where)
    try:
        try:
            connection = engine.connect()
        except sa.exc.SQLAlchemyError as error:
            reason = _known(error) or f"its driver says {_kind(error)}"
            raise InputError(f"{where}: not connected: {reason}") from None
        except (TypeError, ValueError):
            raise SettingsError(f"{where}: its URL has a part that {kind} does not know") from None
        with connection:
            if kind == "postgresql":
                connection.execution_options(
                    isolation_level="REPEATABLE READ", postgresql_readonly=True
                )
            yield connection
    finally:
        engine.dispose()


def _engine(sa: ModuleType, url: URL, kind: str, where: str) -> Engine:
    options: dict[str, Any] = {}
    if kind == "postgresql":
        options["json_deserializer"] = _parsed
        if "connect_timeout" not in url.query and "psycopg" in url.drivername:
            options["connect_args"] = {"connect_timeout": CONNECT_SECONDS}
    file = url.database or ""
    if kind == "sqlite" and not file.startswith("file:") and not Path(file).is_file():
        # SQLite would make an empty one.
        raise InputError(f"{where}: there is no such file: correct its URL")
    try:
        engine: Engine = sa.create_engine(
            url, poolclass=sa.NullPool, hide_parameters=True, **options
        )
    except sa.exc.NoSuchModuleError:
        raise SettingsError(
            f"{where}: SQLAlchemy does not know the kind of database that its URL begins with"
        ) from None
    except ImportError:
        extra = "dlr-reconcile[postgresql]" if kind == "postgresql" else "its driver"
        raise SettingsError(f"{where}: no driver for {kind}: pip install '{extra}'") from None
    except (sa.exc.ArgumentError, TypeError, ValueError):
        raise SettingsError(f"{where}: its URL has a part that {kind} does not know") from None
    return engine


def _prepare_sqlite(connection: Connection) -> None:
    connection.execution_options(isolation_level="AUTOCOMMIT")  # no transaction between pages
    connection.exec_driver_sql("PRAGMA query_only = ON")
    raw: Any = connection.connection.dbapi_connection
    raw.text_factory = _decoded  # or a text that is none would end the whole query


def _literally(query: str) -> str:
    """A query in which no colon marks a parameter; a comment at its end ends there."""
    return re.sub(COLONS, r"\\\g<0>", query.rstrip().rstrip(";")) + "\n"


# What the database says, without what a row holds, and without who asked


def _known(error: Any) -> str:
    said = str(getattr(error, "orig", ""))
    return next((words for pattern, words in REFUSALS if re.search(pattern, said)), "")


def _refused(error: Any) -> str:
    """Why a query failed: of PostgreSQL's words only those about the query itself (class 42)."""
    orig = getattr(error, "orig", None)
    state = str(getattr(orig, "sqlstate", None) or getattr(orig, "pgcode", None) or "")
    said = str(orig).partition("\n")[0]
    if state == WRITES:
        return "its query would write: only a SELECT is run"
    if state.startswith(BROKEN_OFF):
        return f"it broke off while rows were read ({_kind(error)}): try again"
    if state.startswith("42") or (not state and re.match(SAFE, said)):
        return f"its query fails: {said}: correct `query` or `key`"
    if not state and (words := _known(error)):
        return words
    return (
        f"its query fails ({_kind(error)}): try it by hand, "
        "and cast what it cannot give to text in the query"
    )


def _kind(error: Any) -> str:
    orig = getattr(error, "orig", None) or error
    state = getattr(orig, "sqlstate", None) or getattr(orig, "sqlite_errorname", None)
    return type(orig).__name__ + (f", {state}" if state else "")
