"""Rows of one table that were asked for, as a pandas frame, an Arrow table or a DuckDB relation."""

# ruff: noqa: S608 - SQL is put together from names of the contract

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import date
from typing import TYPE_CHECKING

from reconcile.engine import quote
from reconcile.errors import UsageError, first_line
from reconcile.store import Store, parquet_query, unreadable
from reconcile.tables import COUNT, FLAG, Column, Table

if TYPE_CHECKING:
    import duckdb
    import pandas as pd
    import pyarrow as pa


class Selection:
    """Rows of one table that were asked for; nothing is read before one of its methods is called.

    Attributes:
        table: the contract of the table.
        columns: names of the columns asked for, in order.
    """

    def __init__(
        self, con: duckdb.DuckDBPyConnection, table: Table, query: str, columns: Sequence[str]
    ) -> None:
        self.table, self.columns = table, list(columns)
        self._con, self._query = con, query

    def relation(self) -> duckdb.DuckDBPyRelation:
        """The rows as a DuckDB relation, to ask further in SQL; they are in no order.

        Example:
            >>> lost = store.table("verdicts", where="verdict = 'missing'").relation()
            >>> lost.aggregate("country, count(*) AS missing").fetchall()
        """
        names = ", ".join(f'"{name}"' for name in self.columns)
        return self._ask(f"SELECT {names} FROM ({self._query})")

    def arrow(self, first: int | None = None) -> pa.Table:
        """The rows as an Arrow table in the contract's types, sorted by the table's key.

        Args:
            first: only so many of them.
        """
        names = ", ".join(f'"{name}"' for name in self.columns)
        key = ", ".join(f'"{name}"' for name in self.table.key)
        limit = f" LIMIT {first}" if first is not None else ""
        relation = self._ask(f"SELECT {names} FROM ({self._query}) ORDER BY {key}{limit}")
        with reading(self.table):
            found: pa.Table = relation.to_arrow_table()
        return found.cast(self.schema)

    def pandas(self) -> pd.DataFrame:
        """The rows as a pandas frame, sorted by the table's key.

        Times are UTC and aware, a `date` is a datetime64 at midnight, money is
        `decimal.Decimal`. Whole numbers that may be null are Int64, so that they stay whole.
        """
        import pandas as pd

        wide = {COUNT: pd.Int64Dtype(), FLAG: pd.BooleanDtype()}
        frame: pd.DataFrame = self.arrow().to_pandas(
            types_mapper=wide.get, date_as_object=False, ignore_metadata=True
        )
        plain_kinds = {COUNT: "int64", FLAG: "bool"}
        sure = {
            c.name: plain_kinds[c.type] for c in self.contract
            if not c.nullable and c.type in plain_kinds
        }  # fmt: skip
        return frame.astype(sure)

    def count(self) -> int:
        """How many rows there are."""
        relation = self._ask(f"SELECT count(*) FROM ({self._query})")
        with reading(self.table):
            [number] = relation.fetchall()[0]
        return int(number)

    @property
    def contract(self) -> list[Column]:
        """The contract of the columns asked for: type, null or not, and a sentence."""
        by_name = {column.name: column for column in self.table.columns}
        return [by_name[name] for name in self.columns]

    @property
    def schema(self) -> pa.Schema:
        """The Arrow schema of the columns asked for."""
        import pyarrow as pa

        return pa.schema([self.table.schema.field(name) for name in self.columns])

    def _ask(self, query: str) -> duckdb.DuckDBPyRelation:
        with reading(self.table):
            return self._con.sql(query)


def partitions(store: Store, table: Table, start: date | None, end: date | None) -> list[str]:
    """The partitions that may hold rows of these days; `end` is the first day not asked for.

    What has no day (receipts without any time) belongs to none: it comes where none is asked for.
    """
    names = store.days(table)
    if table.partition != "day" or not (start or end):
        return names
    return [name for name in names if _within(day_of(name), start, end)]


def rows_query(store: Store, table: Table, start: date | None, end: date | None) -> str:
    """SQL of a table's rows of these days."""
    names = partitions(store, table, start, end)
    rows = parquet_query(table, store.files(table, *names))
    if table.partition == "day" or not (start or end):
        return rows
    ends = [
        *([f"date >= {quote(str(start))}"] if start else []),
        *([f"date < {quote(str(end))}"] if end else []),
    ]
    return f"SELECT * FROM ({rows}) WHERE {' AND '.join(ends)}"


def day_of(name: str) -> date | None:
    """The day that a partition is named after; None where it has none."""
    digits = name.replace("-", "")[:8]
    return date(int(digits[:4]), int(digits[4:6]), int(digits[6:])) if digits.isdigit() else None


def _within(day: date | None, start: date | None, end: date | None) -> bool:
    return day is not None and (not start or start <= day) and (not end or day < end)


@contextmanager
def reading(table: Table) -> Iterator[None]:
    """What the engine cannot do with a table's rows is one line of ours.

    Raises:
        UsageError: a filter that was typed does not fit.
        InputError: a file cannot be read, or what is asked does not fit in memory.
        DiskError: it does not, and there is no place to spill to.
    """
    import duckdb

    try:
        yield
    except (duckdb.DataError, duckdb.NotSupportedError) as error:
        raise UsageError(
            f"the filter does not fit table {table.name}: {first_line(error)}"
        ) from None
    except duckdb.Error as error:
        raise unreadable(table, error) from None
