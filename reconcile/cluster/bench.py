"""Judges on a Spark cluster: the bench whose work with messages is done by many machines.

What is small (networks, sums, history) stays in this process. Views are laid here at once, and on
the cluster when an expression first reads them; both read the same files.
"""

# ruff: noqa: S608 - SQL is put together from names of our own; texts of others are quoted

from __future__ import annotations

import dataclasses
import itertools
import shutil
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import date
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq

from reconcile import cutting, judging
from reconcile.cluster import parts, session
from reconcile.cluster.dialect import columns_of, no_rows, spark_sql
from reconcile.days import iso
from reconcile.engine import quote, without_collector
from reconcile.errors import ClusterError, ContractError, DiskError
from reconcile.moments import INSTANT
from reconcile.store import ROW_GROUP_ROWS, Staged, disk, proven
from reconcile.tables import (
    CHANGES,
    ORPHANS,
    RECEIPTS,
    UNRECORDED,
    VERDICTS,
    Table,
    conform,
    file_metadata,
)

if TYPE_CHECKING:
    import ibis

# Tables of a row a message or a receipt: workers write them. All others are small.
LARGE = (VERDICTS, RECEIPTS, ORPHANS, CHANGES, UNRECORDED)
# Columns that hold few different texts.
FEW = (
    *judging.VERDICTS_FEW, "from_verdict", "to_verdict", "why", "kind", "status", "error_code",
    "source", "signature",
)  # fmt: skip
# Orders that are not those of the table's key.
ORDERS = {VERDICTS.name: judging.VERDICTS_ORDER.split(", ")}
_NUMBERS = itertools.count()


@dataclass(frozen=True)
class Query:
    """An expression as Spark's SQL, the views that it reads, and the small tables it brings."""

    sql: str
    reads: frozenset[str]
    small: dict[str, pa.Table]


# What was compiled in this process; a moment is part of it.
_COMPILED: dict[tuple[str, ...], Query] = {}


@dataclass
class ClusterBench(judging.Bench):
    """A bench that has a cluster while it is open."""

    _open: ExitStack = field(default_factory=ExitStack)
    _cluster: session.Cluster | None = None
    # How each view is to be laid, and what is on the cluster already.
    _given: dict[str, list[Path] | None] = field(default_factory=dict)
    _there: set[str] = field(default_factory=set)

    def __enter__(self) -> ClusterBench:
        super().__enter__()
        with ExitStack() as opening:
            self._cluster = opening.enter_context(
                session.connected(str(self.settings.spark), self.store.work, self.settings.campaign)
            )
            opening.callback(shutil.rmtree, self._aside, ignore_errors=True)
            self._open = opening.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._open.close()

    @cached_property
    def now(self) -> ibis.Value:
        """as_of as an expression: a literal."""
        import ibis

        return ibis.literal(self.as_of, type=INSTANT)

    # --- views: laid here, and on the cluster when they are wanted ------------------------

    def lay(self, name: str, query: str) -> None:
        """Lets the view `name` read this query from now on."""
        super().lay(name, query)
        self._stale(name, None)

    def read(self, name: str, table: Table, files: list[Path]) -> None:
        """Lets the view `name` read these files of a table from now on."""
        super().read(name, table, files)
        self._stale(name, files)

    def put(self, name: str, rows: pa.Table) -> None:
        """Lets `name` be these few rows from now on."""
        super().put(name, rows)
        self._stale(name, None)

    def table(self, name: str) -> ibis.Table:
        """A view that was laid, as an expression that any engine can read."""
        import ibis

        if name not in self._tables:
            self._tables[name] = ibis.table(self.con.table(name).schema(), name=name)
        return self._tables[name]

    def _stale(self, name: str, files: list[Path] | None) -> None:
        self._given[name] = files
        self._there.discard(name)

    # --- work with messages ---------------------------------------------------------------

    def make(self, key: str, table: Table, day: str, build: Callable[[], ibis.Table]) -> Staged:
        """Stages a partition from the expression `key`: large ones are written by the workers."""
        query = self._query(key, lambda: conform(build(), table))
        if table in LARGE:
            return self._written(query, table, day)
        found = self._arrow(query).cast(table.schema)
        self.con.con.register(f"found_{key}", found)
        order = ", ".join(table.key)
        rows = f"SELECT * FROM found_{key} ORDER BY {order}"
        staged = self.store.write(self.con, rows, table, day, self.as_of)
        self.con.con.unregister(f"found_{key}")
        return staged

    def make_verdicts(self, key: str, day: date, build: Callable[[], ibis.Table]) -> Staged:
        """Stages a day's verdicts in their order."""
        with self._own_receipts(day):
            return self.make(key, VERDICTS, str(day), build)

    @contextmanager
    def _own_receipts(self, day: date) -> Iterator[None]:
        """Lets `receipts_in_reach` be the day's own meanwhile, where most are other days': pairing
        reads them three times, and each time they would go from worker to worker."""
        reach, records = self.table("receipts_in_reach"), self.table("records_of_day")
        if not cutting.is_crowded(self.con, "FROM receipts_in_reach", "FROM records_of_day"):
            yield
            return
        files = self._given["receipts_in_reach"] or []
        query = self._query(
            "own_receipts", lambda: conform(reach.semi_join(records, "message_id"), RECEIPTS)
        )
        own = self._written(query, RECEIPTS, str(day))
        self.read("receipts_in_reach", RECEIPTS, own.files)
        try:
            yield
        finally:
            self.read("receipts_in_reach", RECEIPTS, files)
            own.drop()

    def make_again(self, key: str, staged: Staged, build: Callable[[], ibis.Table]) -> Staged:
        """Stages a day's verdicts anew, from those staged before."""
        return self.make(key, VERDICTS, staged.day, build)

    def fetch(self, key: str, build: Callable[[], ibis.Table]) -> pa.Table:
        """The rows of the expression `key`, which are few."""
        return self._arrow(self._query(key, build))

    def _query(self, key: str, build: Callable[[], ibis.Table]) -> Query:
        """The expression `key`, built and compiled once a process; what it reads is there."""
        import ibis.expr.operations as ops

        known = (key, iso(self.as_of), *self._alike)
        if known not in _COMPILED:
            with without_collector():
                expression = build()
                op = expression.op()
                small = {t.name: t.data.to_pyarrow(t.schema) for t in op.find(ops.InMemoryTable)}
                reads = frozenset(t.name for t in op.find(ops.UnboundTable))
                _COMPILED[known] = Query(spark_sql(expression), reads, small)
        query = _COMPILED[known]
        for name, rows in query.small.items():
            if name not in self._there:
                self.put(name, rows)
        for name in query.reads | set(query.small):
            if name not in self._there:
                self._bring(name)
        return query

    def _bring(self, name: str) -> None:
        """Lays a view on the cluster; what is no table of the store is written aside for it."""
        schema, files = self.con.table(name).schema(), self._given[name]
        if files is None:
            self._aside.mkdir(parents=True, exist_ok=True)
            files = [self._aside / f"{name}-{next(_NUMBERS)}.parquet"]
            self.con.con.execute(f"COPY (FROM {name}) TO {quote(str(files[0]))} (FORMAT parquet)")
        paths = [f"file:{path.absolute()}" for path in files]

        def bring(spark: Any) -> None:
            if paths:
                reader = spark.read.schema(columns_of(schema))
                frame = reader.option("recursiveFileLookup", "true").parquet(*paths)
            else:
                frame = spark.sql(no_rows(schema))
            frame.createOrReplaceTempView(name)

        self._on_cluster(bring)
        self._there.add(name)

    def _on_cluster(self, ask: Callable[[Any], Any]) -> Any:
        if self._cluster is None:
            raise ClusterError("the cluster is not connected: open the bench first")
        return self._cluster.call(ask)

    def _arrow(self, query: Query) -> pa.Table:
        return self._on_cluster(lambda spark: spark.sql(query.sql).toArrow())

    @property
    def _aside(self) -> Path:
        """What is written for the cluster to read; it is emptied when the bench is closed."""
        return self.store.work / "aside"

    def _written(self, query: Query, table: Table, day: str) -> Staged:
        """Lets each worker sort and write a range of the rows; keeps what tasks that ended tell.

        Raises:
            ContractError: a required column holds a null.
            DiskError: a worker's disk refused.
        """
        place = self.store.place(table, day)
        folder = self.store.staging / f"parts-{uuid.uuid4().hex[:12]}"
        with disk(folder):
            folder.mkdir(parents=True)
        write = parts.writer(
            str(folder.absolute()), table.schema, table.required,
            file_metadata(table, self.as_of), _dictionary(table), ROW_GROUP_ROWS,
        )  # fmt: skip
        order = list(ORDERS.get(table.name, table.key))

        def run(spark: Any) -> list[Any]:
            ranges = spark.sql(query.sql).repartitionByRange(*order)
            told: list[Any] = ranges.sortWithinPartitions(*order).mapInArrow(
                write, parts.TOLD).collect()  # fmt: skip
            return told

        told = self._on_cluster(run)
        for part in told:
            if part.trouble:
                raise DiskError(f"{folder} cannot be written by a worker: {part.trouble}")
            if part.nulls:
                raise ContractError(f"table {table.name}: {part.nulls} may not be null")
        return self._kept(told, table, day, folder, place)

    def _kept(self, told: list[Any], table: Table, day: str, folder: Path, place: Path) -> Staged:
        """The partition of the parts that were told of: one file, or a folder of several."""
        written = [part for part in sorted(told, key=lambda part: part.part) if part.row_count]
        several = place.with_suffix("")
        with disk(place):
            shutil.rmtree(several, ignore_errors=True)
            place.unlink(missing_ok=True)
            place.parent.mkdir(parents=True, exist_ok=True)
            if not written:
                with pq.ParquetWriter(place, table.schema, store_schema=False) as empty:
                    empty.add_key_value_metadata(file_metadata(table, self.as_of))
            elif len(written) == 1:
                (folder / written[0].name).replace(place)
            else:
                several.mkdir()
                for number, part in enumerate(written):
                    (folder / part.name).replace(several / f"part-{number:05d}.parquet")
            shutil.rmtree(folder, ignore_errors=True)
        staged = Staged(table.name, day, several if len(written) > 1 else place, 0)
        rows = sum(proven(self.con, file, table) for file in staged.files)
        if rows != sum(part.row_count for part in written):
            raise ClusterError(f"the parts of {table.name} {day} do not hold what their workers "
                               "told: is the folder the same for all of them?")  # fmt: skip
        return dataclasses.replace(staged, rows=rows)


def _dictionary(table: Table) -> list[str]:
    lists = [f"{c.name}.list.element" for c in table.columns if pa.types.is_list(c.type)]
    return [*(name for name in table.names if name in FEW), *lists]
