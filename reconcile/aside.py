"""What a run cannot hold in memory lies on the disk meanwhile: a day's rows, cut into spans.

A table is cut as columns: batch by batch its rows are ordered by their span, and a span's rows of
many batches are written together. Neither rows of other spans nor more than a share of the memory
is held for it, and each span then reads its own rows alone.
"""

from __future__ import annotations

import hashlib
import shutil
import time
from collections.abc import Iterator
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING

import pyarrow as pa

from reconcile.cutting import Span
from reconcile.engine import READER, beside, memory_of, prove_writable, quote
from reconcile.store import Store, copying, disk, parquet_query, unreadable
from reconcile.tables import Table

if TYPE_CHECKING:
    import duckdb
    import numpy as np
    from ibis.backends.duckdb import Backend

# What each table may hold of the memory until it is written, and at most: with more, a span's rows
# are in fewer and larger files.
SHARE, MOST_HELD = 8, 1 << 29
# Rows that are ordered by span at a time, at most, and for how much of what may be held.
BATCH_ROWS, BYTES_A_ROW = 1 << 17, 1000
# After so long without a new file, whoever spilled to a folder of his own is gone.
READER_SECONDS = 2 * 86_400


@dataclass(frozen=True)
class Whole:
    """A table that is to be cut.

    Attributes:
        table: its contract.
        files: where its rows are.
        few: columns of few words: they are cut as numbers.
        blank: columns that nobody will read, and which are null therefore.
    """

    table: Table
    files: list[Path]
    few: tuple[str, ...]
    blank: tuple[str, ...] = ()

    @property
    def query(self) -> str:
        """SQL of its rows."""
        return parquet_query(self.table, self.files)


def aside(store: Store, temp_directory: Path | None) -> Path:
    """Where what a run cannot hold in memory lies meanwhile, whoever else uses the same place."""
    if temp_directory is None:
        return store.work / "aside"
    own = hashlib.sha256(str(store.root.absolute()).encode()).hexdigest()[:12]
    return temp_directory / f"reconcile-{own}"


@contextmanager
def room(store: Store, temp_directory: Path | None) -> Iterator[Path]:
    """That place, empty: what a run that was killed has left there goes. The store must be held.

    Raises:
        DiskError: nothing can be written there.
    """
    if temp_directory:
        prove_writable(temp_directory)
    folder = aside(store, temp_directory)
    shutil.rmtree(folder, ignore_errors=True)
    _drop_killed_readers(folder.parent)
    with disk(folder):
        folder.mkdir(parents=True)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _drop_killed_readers(place: Path) -> None:
    """Removes what engines have spilled that were killed: nobody reads a store for so long."""
    for each in place.glob(f"{READER}*"):
        with suppress(OSError):
            if time.time() - each.stat().st_mtime > READER_SECONDS:
                shutil.rmtree(each)


@contextmanager
def put(con: Backend, query: str, path: Path) -> Iterator[Path]:
    """Writes the rows of a query aside as they are, to one file that is gone afterwards."""
    with disk(path):
        path.parent.mkdir(parents=True, exist_ok=True)
    to = f"{quote(str(path))} (FORMAT parquet, COMPRESSION lz4_raw)"
    try:
        with copying(path.parent, "a day"):
            con.con.execute(f"COPY ({query}) TO {to}")
        yield path
    finally:
        path.unlink(missing_ok=True)


@contextmanager
def cut(
    con: Backend, wholes: list[Whole], spans: tuple[Span, ...], folder: Path
) -> Iterator[list[list[str]]]:
    """Writes the rows of tables aside, once, so that each span reads its own alone.

    Args:
        con: the engine, for its limit and its order of ids.
        wholes: what is cut, each in a thread of its own.
        spans: into what.
        folder: where to; what it holds goes.

    Yields:
        For each table SQL of each span's rows; their files are gone afterwards.

    Raises:
        DiskError: the disk refused.
        InputError: a file cannot be read.
    """
    share = min(memory_of(con) // SHARE, MOST_HELD)
    places = [folder / whole.table.name for whole in wholes]
    try:
        stopped = Event()
        with ThreadPoolExecutor(len(wholes)) as threads:
            under_way = [
                threads.submit(_cut, beside(con), whole, spans, place, share, stopped)
                for whole, place in zip(wholes, places, strict=True)
            ]
            try:
                wait(under_way, return_when=FIRST_EXCEPTION)
            finally:
                stopped.set()  # nobody waits for the others where one fails, or a signal comes
            files = [each.result() for each in under_way]
        pa.default_memory_pool().release_unused()
        yield [
            [parquet_query(whole.table, own) for own in each]
            for whole, each in zip(wholes, files, strict=True)
        ]
    finally:
        for place in places:
            shutil.rmtree(place, ignore_errors=True)


def _cut(
    con: duckdb.DuckDBPyConnection, whole: Whole, spans: tuple[Span, ...], folder: Path, most: int,
    stopped: Event,
) -> list[list[Path]]:  # fmt: skip
    """Cuts one table, holding about so many bytes of it at most; returns the files of each span."""
    shutil.rmtree(folder, ignore_errors=True)
    with disk(folder):
        folder.mkdir(parents=True)
    parts, which, held = _Parts(whole, folder, len(spans)), _which(spans), 0
    for batch in _batches(whole, min(BATCH_ROWS, most // BYTES_A_ROW + 1)):
        parts.hold(batch, _span_of(con, batch["message_id"], which))
        held += batch.nbytes
        if stopped.is_set():
            return parts.files
        if held >= most:
            parts.write()
            held = 0
    parts.write()
    return parts.files


def _batches(whole: Whole, rows: int) -> Iterator[pa.Table]:
    """The rows of a table's files, so many at a time, columns of few words as dictionaries."""
    import pyarrow.parquet as pq

    kinds = {field.name: field.type for field in whole.table.schema}
    kinds |= {name: pa.dictionary(pa.int32(), kinds[name]) for name in whole.few}
    read = [name for name in kinds if name not in whole.blank]
    try:
        for path in whole.files:
            with pq.ParquetFile(path, read_dictionary=whole.few, pre_buffer=False) as file:
                for batch in file.iter_batches(rows, columns=read):
                    columns = {
                        name: batch[name].cast(kind) if name in read else pa.nulls(len(batch), kind)
                        for name, kind in kinds.items()
                    }
                    yield pa.table(columns)
    except (OSError, pa.ArrowException, KeyError) as error:
        raise unreadable(whole.table, error) from None


def _which(spans: tuple[Span, ...], before: int = 0) -> str:
    """SQL of the number of the span that has a message id: half of them go with each comparison."""
    if len(spans) == 1:
        return str(before)
    half = len(spans) // 2
    earlier, later = _which(spans[:half], before), _which(spans[half:], before + half)
    return f"CASE WHEN message_id < {quote(spans[half].first)} THEN {earlier} ELSE {later} END"


def _span_of(con: duckdb.DuckDBPyConnection, ids: pa.ChunkedArray, which: str) -> np.ndarray:
    """The number of each id's span, asked of the engine, whose order of ids is the spans'."""
    import numpy as np

    con.register("ids", pa.table({"message_id": ids, "n": np.arange(len(ids), dtype=np.int32)}))
    found = con.execute(f"SELECT n, ({which})::USMALLINT AS span FROM ids").fetchnumpy()  # noqa: S608 - ids are quoted
    spans = np.empty(len(ids), dtype=np.uint16)
    spans[found["n"]] = found["span"]
    return spans


class _Parts:
    """Rows of spans, held until they are written: nothing of a file stays, however many there are.

    Attributes:
        files: those of each span.
    """

    def __init__(self, whole: Whole, folder: Path, spans: int) -> None:
        self._whole, self._folder = whole, folder
        self._held: list[list[pa.Table]] = [[] for _ in range(spans)]
        self.files: list[list[Path]] = [[] for _ in range(spans)]

    def hold(self, rows: pa.Table, span: np.ndarray) -> None:
        """Orders rows by their span and holds each span's."""
        import numpy as np

        ordered = rows.take(pa.array(np.argsort(span, kind="stable")))
        ends = np.cumsum(np.bincount(span, minlength=len(self._held)))
        for held, first, end in zip(self._held, [0, *ends], ends, strict=False):
            if end > first:
                held.append(ordered.slice(first, end - first))

    def write(self) -> None:
        """Writes what is held, each span's rows to a file."""
        import pyarrow.parquet as pq

        for n, (held, files) in enumerate(zip(self._held, self.files, strict=True)):
            if held:
                rows = pa.concat_tables(held).combine_chunks()
                held.clear()
                path = self._folder / f"{n}-{len(files)}.parquet"
                with disk(path):
                    pq.write_table(
                        rows, path, row_group_size=rows.num_rows, compression="lz4",
                        use_dictionary=list(self._whole.few), write_statistics=False,
                        store_schema=False,
                    )  # fmt: skip
                files.append(path)
