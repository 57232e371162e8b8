"""The judging core over a few rows, compiled once for all moments."""

# ruff: noqa: S608 - SQL is put together from names of our own; texts of others are quoted

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from reconcile.engine import moment, set_moment, without_collector
from reconcile.explaining.told import Key, Row
from reconcile.run import Run
from reconcile.store import parquet_query
from reconcile.tables import RECEIPTS, RECORDS

_UNSENT = ("unsent_id", "unsent_account", "unsent_product")


@dataclass(frozen=True)
class Case:
    """Records of one id and their receipts, to be judged by themselves, under a name of its own.

    Attributes:
        unsent: account and product of the records that the send log should know and does not.
    """

    name: str
    records: list[Row]
    receipts: list[Row]
    unsent: frozenset[tuple[str, str]] = frozenset()


class Core:
    """The core over a few rows, whatever the moment: that is the engine's own variable.

    Ibis takes most of a second to compile it; the engine needs some milliseconds for the SQL.
    """

    def __init__(self, this: Run) -> None:
        self._con, self._settings, self._as_of = this.con, this.settings, this.as_of

    def compile(self) -> None:
        """Compiles the core, once."""
        con = self._con.con
        set_moment(self._con, self._as_of)
        with without_collector():
            for table in (RECORDS, RECEIPTS):
                con.execute(f"CREATE TABLE explained_{table.name} AS {parquet_query(table, [])}")
            kinds = ", ".join(f"{name} VARCHAR" for name in _UNSENT)
            con.execute(f"CREATE TABLE explained_unsent ({kinds})")
            # A view registers the small tables that an expression brings along.
            self._con.create_view("explained", self._judged())

    def judge(self, cases: Iterable[Case], as_of: datetime) -> dict[Key, Row]:
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
        set_moment(self._con, as_of)
        found = con.execute("FROM explained").to_arrow_table().to_pylist()
        return {(row["message_id"], row["account_id"], row["product"]): row for row in found}

    def _judged(self) -> Any:
        """The core's expression."""
        from reconcile.judge import pair, rules

        s, table, as_of = self._settings, self._con.table, moment()
        # Several owners: where only one has an id, that changes nothing.
        pairs = pair.pair(table("explained_records"), table("explained_receipts"),
                          pair.Scope(as_of, several_owners=True))  # fmt: skip
        key = list(zip(("message_id", "account_id", "product"), _UNSENT, strict=True))
        pairs = pairs.left_join(table("explained_unsent"), key)
        told = pairs.mutate(unsent_by_us=pairs[_UNSENT[0]].notnull()).drop(*_UNSENT)
        known = s.capability_table()
        return rules.judge(told, rules.Limits(as_of, s.validity, s.grace, s.too_fast, known))
