"""Columns of few words are the same and in the same order, be they numbers meanwhile or not."""

from __future__ import annotations

from pathlib import Path
from random import Random
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from reconcile import engine
from reconcile.enumerating import FEW_WORDS, WRITTEN_WORDS, enumerated

ROWS = 130_000
# How many words each column has; some columns have nulls, too.
COUNTS = {"one": 1, "few": 40, "several": WRITTEN_WORDS + 500, "many": FEW_WORDS + 1, "none": 0}


@pytest.fixture(scope="module")
def columns() -> dict[str, list[str | None]]:
    """Texts in no order, among them odd ones."""
    random, odd = Random(4), ["", "'", '"', "é", "e\u0301", "Z", "a", "\U0001f600", "0x", "NULL"]
    found: dict[str, list[str | None]] = {"id": [f"{n:06}" for n in range(ROWS)]}
    random.shuffle(found["id"])
    for name, count in COUNTS.items():
        words: list[str | None] = [*odd, *(f"word {n}" for n in range(count))][:count] or [None]
        rest = random.choices([*words, *([None] if name == "few" else [])], k=ROWS - len(words))
        found[name] = [*words, *rest]
    return found


def test_same_rows_in_order(tmp_path: Path, columns: dict[str, list[str | None]]) -> None:
    """What is written is what sorting the texts gives: types, rows and their order."""
    con = engine.connect("1GB", 2, tmp_path)
    con.con.register("given", pa.table(columns))
    con.con.execute("CREATE VIEW texts AS SELECT * FROM given")
    few = {name: f"SELECT DISTINCT {name} AS word FROM texts" for name in COUNTS}
    few["few"] += " UNION ALL SELECT 'nobody''s'"
    order = "few, several, one, id"
    with enumerated(con, "texts", few) as types:
        assert set(types.kinds) == {"one", "few", "several"}
        assert types.many == {"several"}
        with types.in_order(con, "texts", order) as view:
            _write(con, view, tmp_path / "numbers.parquet")
    _write(con, f"(FROM texts ORDER BY {order})", tmp_path / "texts.parquet")
    one, other = (pq.read_table(tmp_path / f"{name}.parquet") for name in ("numbers", "texts"))
    assert one.schema.equals(other.schema)
    assert one.schema.field("few").type == pa.string()
    assert one.equals(other)
    assert con.con.execute("SELECT count(*) FROM duckdb_types() WHERE logical_type = 'ENUM' "
                           "AND NOT internal").fetchone() == (0,)  # fmt: skip


def test_asked_as_texts(tmp_path: Path, columns: dict[str, list[str | None]]) -> None:
    """The engine answers of numbers what it answers of texts."""
    con = engine.connect("1GB", 2, tmp_path)
    con.con.register("given", pa.table(columns))
    asked = """
        SELECT min(few), max(few), count(DISTINCT few), count(few), count(*) FILTER (few = 'a'),
            count(*) FILTER (few IN ('a', 'Z')), count(*) FILTER (left(few, 2) = 'wo'),
            count(*) FILTER (few <> one), max(coalesce(few, 'nothing')), max(upper(several)),
            (SELECT count(*) FROM rows r
             JOIN (SELECT DISTINCT several FROM given) AS g ON r.few = g.several)
        FROM rows
    """
    few = {name: f"SELECT DISTINCT {name} AS word FROM given" for name in COUNTS}
    con.con.execute("CREATE VIEW rows AS SELECT * FROM given")
    wanted = con.con.execute(asked).fetchall()
    with enumerated(con, "texts", few) as types:
        rows = types.numbered("FROM given", {name: name for name in COUNTS})
        con.con.execute(f"CREATE OR REPLACE VIEW rows AS {rows}")
        assert con.con.execute(asked).fetchall() == wanted


def _write(con: Any, rows: str, path: Path) -> None:
    con.con.execute(f"COPY (FROM {rows}) TO '{path}' (FORMAT parquet, ROW_GROUP_SIZE 122880)")
