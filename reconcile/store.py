"""Where tables live: partitions, atomic publication, the lock, the ledger, the manifests.

    store/
      store.json                                   version of this layout
      ledger.json                                  what was downloaded, captured and judged
      runs/AS_OF-RUN.json                          one manifest a run, written last
      TABLE/day=YYYY-MM-DD/TABLE.parquet           one file a partition
      TABLE/day=YYYY-MM-DD/_TABLE.json             or several, which it names: those in …
      TABLE/day=YYYY-MM-DD/RUN/PART.parquet        … a folder beside it: of spans, or workers
      changes/as_of=YYYYMMDDTHHMMSSZ/changes.parquet
      .work/                                       staging, downloads under way, the lock

A partition is replaced by one rename of a file that was checked and synced before: its rows, or
the names of the files that hold them. A reader therefore sees the old rows or the new ones, never
half of them.
"""

# ruff: noqa: S608 - SQL is put together from names of our own; texts of others are quoted

from __future__ import annotations

import fcntl
import itertools
import json
import os
import shutil
import threading
import uuid
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field, fields
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from reconcile import __version__
from reconcile.bucket import is_url
from reconcile.engine import READER, lacks_memory, quote
from reconcile.errors import (
    ContractError,
    DiskError,
    InputError,
    LockedError,
    ReconcileError,
    StoreVersionError,
    UsageError,
    first_line,
    trouble,
)
from reconcile.tables import BY_NAME, METADATA_KEY, Table, conform, file_metadata

if TYPE_CHECKING:
    import ibis
    from ibis.backends.duckdb import Backend

    from reconcile.mirror import Mirror

FORMAT = 2
MARKER = "store.json"
EXPIRY = timedelta(minutes=5)
LEDGER, UNFINISHED = "ledger.json", ".work/unfinished.json"
UNDATED = "undated"
_VIEWS = itertools.count()
# Small enough that reading one message touches little, large enough to compress well.
ROW_GROUP_ROWS = 122_880
# A column of more words in a group is written as it is: dictionaries of ids would fill the engine's
# memory, only to be thrown away.
DICTIONARY_WORDS = 8_192


@dataclass(frozen=True)
class Staged:
    """A partition that is written and checked, but not published.

    Attributes:
        path: its file, or the folder of its files, which are read in the order of their names.
    """

    table: str
    day: str
    path: Path
    rows: int

    @property
    def files(self) -> list[Path]:
        """The parquet files that hold its rows, in order."""
        return sorted(self.path.glob("*.parquet")) if self.path.is_dir() else [self.path]

    def drop(self) -> None:
        """Drops its files: it will not be published."""
        for file in self.files:
            file.unlink()


@dataclass
class Ledger:
    """What the store knows of itself between runs; plain JSON values.

    Attributes:
        downloads: one entry a downloaded slice: account_id, product, start, end, via,
            request_id, records, billed, rejects, as_of; where subaccounts are in it too,
            subaccounts, and accounts: all whose records it held.
        refreshes: one entry a refresh by id: account_id, product, asked, billed, as_of.
        captures: source → path, print, format, mark, state, lines, receipts, rejects, strangers,
            blank, days, waits, damage (receipts.ingest, receipts.identity).
        intake: what an ingest set out to publish and did not finish: cuts, days, reject_days.
        receipt_days: partition of `receipts` → first and last day of its capture times.
        changed: partitions of `receipts` that no run has judged since they changed.
        send_logs: source → what `captures` holds of one, and answers, messages, refused
            (sendlog.ingest).
        send_intake: what an ingest of send logs set out to publish, as `intake`.
        send_changed: partitions of `sent` that no run has judged since they changed.
        judged: day → as_of, closed, first (the as_of of its first judging), and what was here then:
            covered, recorded, logged, slices (judging.judge_day, healing).
        objects: URLs of captures and send logs in buckets that were read to their end → the etag
            that they had then (receipts.away).
        pruned: the first day that is kept (pruning); "": all are.
    """

    downloads: list[dict[str, Any]] = field(default_factory=list)
    refreshes: list[dict[str, Any]] = field(default_factory=list)
    captures: dict[str, dict[str, Any]] = field(default_factory=dict)
    intake: dict[str, Any] = field(default_factory=dict)
    receipt_days: dict[str, list[str]] = field(default_factory=dict)
    changed: list[str] = field(default_factory=list)
    send_logs: dict[str, dict[str, Any]] = field(default_factory=dict)
    send_intake: dict[str, Any] = field(default_factory=dict)
    send_changed: list[str] = field(default_factory=list)
    judged: dict[str, dict[str, Any]] = field(default_factory=dict)
    objects: dict[str, str] = field(default_factory=dict)
    pruned: str = ""

    def __post_init__(self) -> None:
        self._by_day = _ByDay()  # no field: it is not saved

    def of_day(self, day: date | str) -> list[dict[str, Any]]:
        """The downloads of a day whose records are still here; `downloads` has those that were
        pruned, too, since they were paid for."""
        return self._by_day.of(self.downloads).get(str(day), []) if str(day) >= self.pruned else []

    @property
    def days_downloaded(self) -> list[str]:
        """The days of which downloads are still here."""
        return [day for day in self._by_day.of(self.downloads) if day >= self.pruned]

    @property
    def accounts(self) -> set[str]:
        """The accounts whose records are here."""
        own = {str(d["account_id"]) for d in self.downloads}
        return own.union(*(map(str, d.get("accounts", ())) for d in self.downloads))

    @property
    def billed(self) -> int:
        """Records that Vonage has billed so far, by its own answers."""
        return sum(int(d["billed"]) for d in (*self.downloads, *self.refreshes))


class _ByDay:
    """Downloads by their days: a run asks for them thousands of times, and they grow with the days.

    What is added to the list is noticed, and another list; its entries never change.
    """

    def __init__(self) -> None:
        self._list: list[dict[str, Any]] = []
        self._seen, self._days = 0, dict[str, list[dict[str, Any]]]()

    def of(self, downloads: list[dict[str, Any]]) -> dict[str, list[dict[str, Any]]]:
        """The downloads by their day."""
        if downloads is not self._list or len(downloads) < self._seen:
            self._list, self._seen, self._days = downloads, 0, {}
        for entry in downloads[self._seen :]:
            self._days.setdefault(entry["start"][:10], []).append(entry)
        self._seen = len(downloads)
        return self._days


class Store:
    """A folder of tables, or a bucket's. `Store.open` checks that it is one that we can read.

    Attributes:
        name: how people call it: its path, or its URL.
        root: its folder; of a bucket's, what of it is on this machine.
        work: where runs of this machine work.
    """

    def __init__(self, place: Path | str) -> None:
        self.name = str(place)
        self._guard, self._is_let_go = threading.RLock(), False
        self._mirror: Mirror | None = None
        if is_url(place):
            from reconcile.mirror import Mirror, local_root

            self._mirror = Mirror(self.name, local_root(self.name))
            self.name, self.root = self._mirror.bucket.url, self._mirror.root
        else:
            self.root = Path(place)
        self.work = self.root / ".work"

    @classmethod
    def open(cls, place: Path | str, *, create: bool = False) -> Store:
        """Opens a store, or begins one where `create` says so.

        Raises:
            UsageError: there is no store, or the folder is something else.
            StoreVersionError: it was written by a newer version.
        """
        store = cls(place)
        if not store.is_begun:
            if not create:
                raise UsageError(
                    f"no store at {store.name}: `reconcile run` makes one, --store names it"
                )
            store.refuse_others()
            store._begin()
        found = read_json(store.root / MARKER).get("format")
        if found != FORMAT:
            raise StoreVersionError(
                f"the store at {store.name} has layout {found}, this version ({__version__}) reads "
                f"{FORMAT}: install the version that wrote it, or name another with --store"
            )
        return store

    @property
    def is_begun(self) -> bool:
        """Whether a run has been here before."""
        self._pull(MARKER)
        return (self.root / MARKER).exists()

    def refuse_others(self) -> None:
        """Lets no store be begun in a folder with files of others.

        Raises:
            UsageError: there are some.
        """
        if self._mirror:
            found = self._mirror.bucket.beginnings()
        else:
            found = {path.name for path in self.root.iterdir()} if self.root.is_dir() else set()
        # A run that was killed while it began the store has left no more than these.
        if found - {".work", _fresh(self.root / MARKER).name}:
            raise UsageError(f"{self.name} is not empty and no store: name another with --store")

    def _begin(self) -> None:
        with disk(self.root):
            self.root.mkdir(parents=True, exist_ok=True)
        write_json(self.root / MARKER, {"format": FORMAT, "package_version": __version__})
        if self._mirror:
            self._mirror.begin(MARKER)

    @contextmanager
    def lock(self, expiry: timedelta = EXPIRY) -> Iterator[None]:
        """Holds the store for one run; the kernel frees it however the run ends.

        Args:
            expiry: how long a bucket's lock outlives a run that was killed (`lease.py`).

        Raises:
            LockedError: another run holds it.
        """
        with disk(self.root):
            self.work.mkdir(exist_ok=True, mode=0o700)  # what is under way holds numbers
            handle = (self.work / "lock").open("a+")
        with handle:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                handle.seek(0)
                holder = handle.read().strip() or "unknown"
                raise LockedError(
                    f"another run (process {holder}) holds the store {self.name}: "
                    "wait for it to end"
                ) from None
            handle.truncate(0)
            handle.write(str(os.getpid()))
            handle.flush()
            shutil.rmtree(self.staging, ignore_errors=True)
            self._is_let_go = False
            with self._mirror.held(expiry) if self._mirror else nullcontext():
                try:
                    yield
                finally:
                    with self._guard:  # what a thread is about to replace is replaced first
                        self._is_let_go = True

    @contextmanager
    def alone(self) -> Iterator[None]:
        """One thread at a time: whatever several of a run replace is read, changed and replaced
        within this. That is the ledger, of which no half of a change may be saved, and `rejects`.

        Raises:
            LockedError: the run that held the store has let it go: its threads write no more.
        """
        with self._guard:
            self._refuse_the_late()
            yield

    def _refuse_the_late(self) -> None:
        if self._is_let_go:
            raise LockedError(f"the run that held the store {self.name} has ended")

    # --- partitions -----------------------------------------------------------------------

    @property
    def staging(self) -> Path:
        """Where partitions wait for publication; emptied when a run begins."""
        return self.work / "staging"

    def path(self, table: Table, day: date | str) -> Path:
        """Where the file of a partition lies that has one."""
        return self.root / _partition(table, day)

    def files(self, table: Table, *days: date | str) -> list[Path]:
        """The files of these partitions, in order; those that are not there have none."""
        paths = [self.path(table, day) for day in days]
        if self._mirror:
            self._pull_partitions(paths)
        return [file for path in paths for file in _files(path)]

    def days(self, table: Table) -> list[str]:
        """The partitions that a table has, by name, in order."""
        if self._mirror:
            return sorted({
                folder.removeprefix(f"{table.partition}=")
                for name in self._mirror.names(table.name)
                for _, folder, *file in [name.split("/")]
                if file in ([f"{table.name}.parquet"], [f"_{table.name}.json"])
            })  # fmt: skip
        return sorted(
            p.name.removeprefix(f"{table.partition}=")
            for p in (self.root / table.name).glob(f"{table.partition}=*")
            if _files(p / f"{table.name}.parquet")
        )

    def has(self, table: Table, day: date | str) -> bool:
        """Whether a table has this partition; to ask for one by name takes no list of all."""
        path = self.path(table, day)
        if self._mirror:
            there = self._mirror.names(table.name)
            return not {self._named(path), self._named(names_of(path))}.isdisjoint(there)
        return bool(_files(path))

    def query(self, table: Table, days: Iterable[date | str]) -> str:
        """SQL of the rows of these days, in the contract's types; days without a file add none."""
        return parquet_query(table, self.files(table, *days))

    def about(self, table: Table, day: date | str) -> dict[str, Any] | None:
        """What a partition says of itself (`tables.file_metadata`); None where there is none."""
        import pyarrow.parquet as pq

        files = self.files(table, day)
        if not files:
            return None
        told = pq.read_metadata(files[0]).metadata[METADATA_KEY.encode()]
        found: dict[str, Any] = json.loads(told)
        return found

    def read(self, con: Backend, table: Table, days: Iterable[date | str]) -> ibis.Table:
        """The rows of these days, held against the contract; days without a file add none."""
        return read_query(con, table, self.query(table, days))

    def write(
        self, con: Backend, rows: ibis.Table | str, table: Table, day: date | str, as_of: datetime
    ) -> Staged:
        """Stages one partition: conformed, in one file, its required columns without a null."""
        with prepared(con, rows, table) as view:
            return self.write_view(con, view, table, day, as_of)

    def write_view(
        self, con: Backend, view: str, table: Table, day: date | str, as_of: datetime
    ) -> Staged:
        """Stages one partition from a view that `prepared` has made."""
        path = self.place(table, day)
        rows = write_parquet(con, view, table, path, as_of)
        return Staged(table.name, str(day), path, rows)

    def place(self, table: Table, day: date | str) -> Path:
        """Where a partition is staged."""
        self._refuse_the_late()
        return self.staging / _partition(table, day)

    def publish(self, staged: Iterable[Staged]) -> None:
        """Puts staged partitions in their places, each by one rename."""
        for part in staged:
            target = self.path(BY_NAME[part.table], part.day)
            with self.alone():
                with disk(target):
                    target.parent.mkdir(parents=True, exist_ok=True)
                    if part.path.is_dir():
                        _put_folder(part, target)
                    else:
                        part.path.replace(target)
                        _sync(target.parent)
                        _drop_folders(target)
                if self._mirror:
                    self._mirror.push_folder(self._named(target.parent))

    def size(self, table: Table, day: date | str) -> int:
        """How many bytes a partition has."""
        if self._mirror:
            return self._mirror.size(self._named(self.path(table, day).parent))
        return sum(file.stat().st_size for file in self.files(table, day))

    def drop(self, table: Table, day: date | str) -> None:
        """Drops a partition: it goes by one rename, and its files after that."""
        folder = self.path(table, day).parent
        aside = self.staging / f"dropped-{uuid.uuid4().hex[:12]}"
        try:
            if folder.exists():
                aside.parent.mkdir(parents=True, exist_ok=True)
                folder.replace(aside)
                shutil.rmtree(aside)
        except OSError as error:
            raise DiskError(f"{folder} cannot be dropped: {trouble(error)}") from None
        if self._mirror:
            self._mirror.push_folder(self._named(folder))

    # --- ledger, manifests, the run under way --------------------------------------------

    def ledger(self) -> Ledger:
        """What is known from the runs before."""
        path = self.root / LEDGER
        self._pull(LEDGER)
        told = read_json(path) if path.exists() else {}
        strange = set(told).difference(each.name for each in fields(Ledger))
        if strange:
            raise StoreVersionError(
                f"the ledger of {self.name} tells of {', '.join(sorted(strange))}, which this "
                f"version ({__version__}) does not know: install the version that wrote it"
            )
        return Ledger(**told)

    def save(self, ledger: Ledger) -> None:
        """Replaces the ledger: a line a field, since it is saved often and grows with the days.

        Who changed it does so within `alone`, where another thread of the run changes it, too.
        """
        with self.alone():
            named = {each.name: getattr(ledger, each.name) for each in fields(ledger)}
            lines = (f'"{name}": {json.dumps(value, ensure_ascii=False)}'
                     for name, value in named.items())  # fmt: skip
            write_text(self.root / LEDGER, "{\n" + ",\n".join(lines) + "\n}\n")
            self._push(LEDGER)

    def unfinished(self) -> dict[str, Any] | None:
        """What a run that did not end had set out to do."""
        path = self.root / UNFINISHED
        self._pull(UNFINISHED)
        return read_json(path) if path.exists() else None

    def begin(self, intent: dict[str, Any]) -> None:
        """Notes what this run sets out to do, until `finish`."""
        write_json(self.root / UNFINISHED, intent)
        self._push(UNFINISHED)

    def forget(self) -> None:
        """Drops the note of `begin` and what is staged: this run is over."""
        (self.root / UNFINISHED).unlink(missing_ok=True)
        if self._mirror:
            self._mirror.drop(UNFINISHED)
        shutil.rmtree(self.staging, ignore_errors=True)

    def finish(self, manifest: dict[str, Any]) -> Path:
        """Writes the manifest, the last act of a run."""
        moment = manifest["as_of"].replace(":", "").replace("-", "")
        path = self.root / "runs" / f"{moment}-{manifest['run_id']}.json"
        write_json(path, manifest)
        self._push(self._named(path))
        self.forget()
        return path

    def last_manifest(self) -> dict[str, Any] | None:
        """The manifest of the run that ended last."""
        if self._mirror:
            found = self._mirror.newest("runs")
            self._pull(*found)
            return read_json(self.root / found[0]) if found else None
        paths = list((self.root / "runs").glob("*.json"))
        return read_json(max(paths, key=lambda p: p.stat().st_mtime_ns)) if paths else None

    # --- a bucket's ------------------------------------------------------------------------

    def keep_slices(self) -> None:
        """Lets what is under way (`.work/slices`) outlive this machine, where the store does."""
        if self._mirror:
            self._mirror.under_way.keep()

    def _named(self, path: Path) -> str:
        return path.relative_to(self.root).as_posix()

    def _pull(self, *names: str) -> None:
        if self._mirror:
            self._mirror.pull(*names)

    def _push(self, name: str) -> None:
        if self._mirror:
            self._mirror.push_small(name)

    def _pull_partitions(self, paths: list[Path]) -> None:
        self._pull(*(self._named(names_of(p)) for p in paths))
        several = [names_of(p) for p in paths if names_of(p).exists()]
        single = [p for p in paths if not names_of(p).exists()]
        parts = [names.parent / part for names in several for part in read_json(names)["files"]]
        self._pull(*map(self._named, (*single, *parts)))


def parquet_query(table: Table, files: list[Path]) -> str:
    """SQL that reads parquet files as rows of a table; no file: no rows."""
    kinds = {c.name: _engine_type(c.type) for c in table.columns}
    if not files:
        columns = ", ".join(f'NULL::{k} AS "{n}"' for n, k in kinds.items())
        return f"SELECT {columns} LIMIT 0"
    names = ", ".join(quote(str(f)) for f in _typical_first(files))
    columns = ", ".join(f'"{n}"::{k} AS "{n}"' for n, k in kinds.items())
    return f"SELECT {columns} FROM read_parquet([{names}], hive_partitioning = false)"


def _typical_first(files: list[Path]) -> list[Path]:
    """The files, one of middling size first: by its rows the engine guesses what all have, and by
    that guess which side of a join it holds in memory."""
    if len(files) < 2:
        return files
    try:
        sizes = {file: file.stat().st_size for file in files}
    except OSError:
        return files  # the engine says what is wrong with it
    mean = sum(sizes.values()) / len(sizes)
    typical = min(files, key=lambda file: abs(sizes[file] - mean))
    return [typical, *(file for file in files if file != typical)]


def read_query(con: Backend, table: Table, query: str) -> ibis.Table:
    """A query of `parquet_query` as a table that keeps its contract."""
    import duckdb

    try:
        return conform(con.sql(query), table)
    except duckdb.Error as error:
        raise unreadable(table, error) from None


def unreadable(table: Table, error: Exception) -> ReconcileError:
    """What the engine, or Arrow, cannot read of a table: for want of memory, of a place to spill
    to, or of a sound file."""
    import duckdb

    if isinstance(error, duckdb.OutOfMemoryException):
        return lacks_memory(f"what is asked of table {table.name}", error)
    if READER in str(error):
        return DiskError(
            f"what is asked of table {table.name} does not fit in memory, and cannot be spilled: "
            f"{trouble(error)}; set temp_directory to a place that can be written"
        )
    return InputError(
        f"table {table.name} cannot be read: {first_line(error)}; restore its file from a "
        "backup, or judge its day again"
    )


@contextmanager
def prepared(con: Backend, rows: ibis.Table | str, table: Table) -> Iterator[str]:
    """Rows (an expression, or SQL), conformed, as a view: compiled once, then run by its name.

    The engine is asked for the types that it really gives: Ibis takes a sum of integers for an
    integer, where DuckDB makes it wider and parquet would hold a float.
    """
    view = f"{table.name}_{next(_VIEWS)}"
    compiled(con, view, rows, table)
    try:
        yield view
    finally:
        con.con.execute(f"DROP VIEW IF EXISTS {view}; DROP VIEW IF EXISTS {view}_raw")


@dataclass(frozen=True)
class Compiled:
    """Rows, conformed, as SQL that any engine with the same views can run.

    Attributes:
        view: the name that it is laid under.
        raw, conformed: SQL of the rows, and of them in their contract's types.
        small: the small tables that the rows bring along, by name.
    """

    view: str
    raw: str
    conformed: str
    small: Mapping[str, pa.Table]

    def lay(self, con: Backend) -> None:
        """Lets the view be there, in another engine than it was compiled in."""
        for name, rows in self.small.items():
            con.con.register(name, rows)
        con.con.execute(f"CREATE OR REPLACE VIEW {self.view}_raw AS {self.raw}")
        con.con.execute(f"CREATE OR REPLACE VIEW {self.view} AS {self.conformed}")


def compiled(con: Backend, view: str, rows: ibis.Table | str, table: Table) -> Compiled:
    """Compiles rows (an expression, or SQL) as a view of that name, which is then there."""
    small: dict[str, pa.Table] = {}
    raw = rows
    if not isinstance(rows, str):
        import ibis.expr.operations as ops

        for op in rows.op().find(ops.InMemoryTable):
            small[op.name] = op.data.to_pyarrow(op.schema)
            con.con.register(op.name, small[op.name])
        raw = con.compile(rows)
    con.con.execute(f"CREATE OR REPLACE VIEW {view}_raw AS {raw}")
    conformed = con.compile(conform(con.table(f"{view}_raw"), table))
    con.con.execute(f"CREATE OR REPLACE VIEW {view} AS {conformed}")
    return Compiled(view, str(raw), str(conformed), small)


@contextmanager
def copying(path: Path, what: str) -> Iterator[None]:
    """What the engine cannot write is one line of ours.

    Raises:
        DiskError: the disk refused.
        InputError: the engine ran out of memory.
    """
    import duckdb

    try:
        yield
    except duckdb.IOException as error:
        told = trouble(error)  # of the file itself, or of what is spilled on its way
        where = path if str(path.parent) in told or '"' not in told else "temp_directory"
        raise DiskError(f"{where} cannot be written: {told}") from None
    except duckdb.OutOfMemoryException as error:
        raise lacks_memory(what, error) from None


def write_parquet(con: Backend, view: str, table: Table, path: Path, as_of: datetime) -> int:
    """Writes a view of `prepared` to one synced parquet file and counts its rows.

    Raises:
        ContractError: a required column holds a null.
        DiskError: the disk refused.
        InputError: the engine ran out of memory.
    """
    metadata = ", ".join(f"{quote(k)}: {quote(v)}" for k, v in file_metadata(table, as_of).items())
    with disk(path):
        path.parent.mkdir(parents=True, exist_ok=True)
    with copying(path, f"table {table.name}"):
        con.con.execute(
            f"COPY (FROM {view}) TO {quote(str(path))} (FORMAT parquet, "
            f"COMPRESSION zstd, COMPRESSION_LEVEL 1, ROW_GROUP_SIZE {ROW_GROUP_ROWS}, "
            f"DICTIONARY_SIZE_LIMIT {DICTIONARY_WORDS}, "
            f"KV_METADATA {{{metadata}}})"
        )
    return proven(con, path, table)


def proven(con: Backend, path: Path, table: Table) -> int:
    """Syncs a file that was written and counts its rows.

    Raises:
        ContractError: a required column holds a null.
        DiskError: the disk refused.
    """
    with disk(path):
        if table.private:
            path.chmod(0o600)
        _sync(path)
    _refuse_null_lists(con, path, table)
    return _count_rows(path, table)


def _refuse_null_lists(con: Backend, path: Path, table: Table) -> None:
    """Asks for null lists by a query: a footer does not tell them from empty ones."""
    for column in table.columns:
        if not column.nullable and pa.types.is_list(column.type):
            rows = f"read_parquet({quote(str(path))})"
            query = f'SELECT count(*) FROM {rows} WHERE "{column.name}" IS NULL'
            found = con.con.execute(query).fetchone()
            if found and found[0]:
                raise ContractError(f"table {table.name}: {column.name} may not be null")


_ENGINE_TYPES = {
    pa.string(): "VARCHAR", pa.binary(): "BLOB", pa.bool_(): "BOOLEAN", pa.int32(): "INTEGER",
    pa.int64(): "BIGINT", pa.float64(): "DOUBLE", pa.date32(): "DATE",
    pa.timestamp("us", tz="UTC"): "TIMESTAMPTZ",
}  # fmt: skip


def _engine_type(kind: pa.DataType) -> str:
    """The engine's name of a type of the contracts."""
    if pa.types.is_list(kind):
        return f"{_engine_type(kind.value_type)}[]"
    if pa.types.is_struct(kind):
        fields = ", ".join(f'"{field.name}" {_engine_type(field.type)}' for field in kind)
        return f"STRUCT({fields})"
    if pa.types.is_decimal(kind):
        return f"DECIMAL({kind.precision}, {kind.scale})"
    return _ENGINE_TYPES[kind]


def _count_rows(path: Path, table: Table) -> int:
    """Rows of a file, after its footer has shown that no required column holds a null."""
    import pyarrow.parquet as pq

    footer = pq.read_metadata(path)
    required = set(table.required)
    for group in range(footer.num_row_groups):
        for at in range(footer.num_columns):
            column = footer.row_group(group).column(at)
            name, statistics = column.path_in_schema, column.statistics
            if name in required and statistics is not None and statistics.null_count:
                raise ContractError(
                    f"table {table.name}: {name} may not be null, and {statistics.null_count} are"
                )
    return int(footer.num_rows)


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object from a file of the store."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise DiskError(f"{path} cannot be read: {trouble(error)}") from None
    except ValueError:
        raise InputError(f"{path} is damaged: it is no JSON; restore it from a backup") from None
    if not isinstance(found, dict):
        raise InputError(f"{path} is damaged: it is no JSON object; restore it from a backup")
    return found


def write_json(path: Path, value: dict[str, Any]) -> None:
    """Replaces a JSON file as a whole, synced before it takes its place."""
    write_text(path, json.dumps(value, indent=1, ensure_ascii=False) + "\n")


def write_text(path: Path, text: str) -> None:
    """Replaces a file as a whole, synced before it takes its place."""
    with disk(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        fresh = _fresh(path)
        fresh.write_text(text, encoding="utf-8")
        _sync(fresh)
        fresh.replace(path)
        _sync(path.parent)


def _fresh(path: Path) -> Path:
    """Where a file is written before it takes its place."""
    return path.with_name(f".{path.name}.new")


@contextmanager
def disk(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise DiskError(f"{path} cannot be written: {trouble(error)}") from None


def names_of(path: Path) -> Path:
    """Beside a partition's one file, instead of it: the names of several. Whoever reads the folder
    as a whole (pandas, Spark) passes over what begins with `_`."""
    return path.with_name(f"_{path.stem}.json")


def _files(path: Path) -> list[Path]:
    """The files of the partition that has its one file here, if it has one."""
    names = names_of(path)
    if names.exists():
        return [path.parent / name for name in read_json(names)["files"]]
    return [path] if path.exists() else []


def _put_folder(part: Staged, target: Path) -> None:
    """Publishes a partition of several files: they are there before they are named."""
    whole, names = target.parent / uuid.uuid4().hex[:12], [file.name for file in part.files]
    part.path.replace(whole)
    _sync(target.parent)
    write_json(names_of(target),
               {"files": [f"{whole.name}/{name}" for name in names]})  # fmt: skip
    target.unlink(missing_ok=True)
    _drop_folders(target, whole.name)


def _drop_folders(target: Path, named: str = "") -> None:
    """Drops what a partition's files were before, and what a run that was killed has left."""
    if not named:
        names_of(target).unlink(missing_ok=True)
    for folder in target.parent.iterdir():
        if folder.is_dir() and folder.name != named:
            shutil.rmtree(folder)


def _partition(table: Table, day: date | str) -> Path:
    return Path(table.name, f"{table.partition}={day}", f"{table.name}.parquet")


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
