"""Columns of few words pass through the engine as the numbers of an enumeration.

In a day of millions their texts would fill the memory that joins and sorting may take, and pass
through the disk. The engine compares, orders and writes such a column as the texts that it means.
"""

# ruff: noqa: S608 - SQL is put together from names of our own

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from reconcile.engine import quote

if TYPE_CHECKING:
    from ibis.backends.duckdb import Backend

# Up to so many different texts are better as numbers. Up to so many are written as such, too, and
# nobody has to look for each in a dictionary; of more, each group of rows of a file would hold
# words that it does not need.
FEW_WORDS, WRITTEN_WORDS = 50_000, 1_000


@dataclass(frozen=True)
class Enumerations:
    """Columns that have few words, and the engine's types of these.

    Attributes:
        kinds: the type of each column.
        many: columns that have too many words to be written as numbers.
    """

    kinds: Mapping[str, str]
    many: frozenset[str]

    def numbered(self, rows: str, columns: Mapping[str, str]) -> str:
        """SQL of rows with columns of few words as numbers.

        Args:
            rows: SQL.
            columns: which of the rows, and by what name each is known here.
        """
        known = {name: self.kinds[of] for name, of in columns.items() if of in self.kinds}
        return f"SELECT * {_replaced(known)} FROM ({rows})"

    @contextmanager
    def in_order(self, con: Backend, view: str, order: str) -> Iterator[str]:
        """A view that has all these columns, with its rows sorted, to be written."""
        texts = _replaced(dict.fromkeys(self.many, "VARCHAR"))
        rows = self.numbered(f"FROM {view}", dict(zip(self.kinds, self.kinds, strict=True)))
        name = f"{view}_in_order"
        con.con.execute(
            f"CREATE OR REPLACE VIEW {name} AS SELECT * {texts} FROM ({rows} ORDER BY {order})"
        )
        try:
            yield name
        finally:
            con.con.execute(f"DROP VIEW {name}")


@contextmanager
def enumerated(con: Backend, name: str, few: Mapping[str, str]) -> Iterator[Enumerations]:
    """Makes types of the engine, for a while.

    Args:
        con: the engine.
        name: what their names begin with.
        few: SQL of each column's words, in a column `word`; more than it has do no harm. With too
            many it stays a text.
    """
    each = " UNION ALL ".join(f"SELECT {quote(n)} AS name, word FROM ({w})" for n, w in few.items())
    con.con.execute(f"CREATE OR REPLACE TEMP TABLE {name}_words AS "
                    f"SELECT DISTINCT name, word FROM ({each}) WHERE word IS NOT NULL")  # fmt: skip
    listed = f"SELECT name, count(*) FROM {name}_words GROUP BY name HAVING count(*) <= {FEW_WORDS}"
    counts = dict(con.con.execute(listed).fetchall())
    kinds = {of: f"{name}_{of}" for of in few if of in counts}
    for of, kind in kinds.items():
        sort = f"SELECT word FROM {name}_words WHERE name = {quote(of)} ORDER BY word"
        con.con.execute(f"CREATE TYPE {kind} AS ENUM ({sort})")
    try:
        yield Enumerations(kinds, frozenset(n for n in kinds if counts[n] > WRITTEN_WORDS))
    finally:
        types = " ".join(f"DROP TYPE {kind};" for kind in kinds.values())
        con.con.execute(f"DROP TABLE {name}_words; {types}")


def _replaced(columns: Mapping[str, str]) -> str:
    listed = ", ".join(f'"{name}"::{kind} AS "{name}"' for name, kind in columns.items())
    return f"REPLACE ({listed})" if listed else ""
