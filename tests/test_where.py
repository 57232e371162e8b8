"""A filter that somebody typed: conditions over one table's columns pass, and nothing else does."""

from __future__ import annotations

from pathlib import Path

import duckdb
import pytest
from hypothesis import given
from hypothesis import strategies as st

from reconcile.errors import UsageError
from reconcile.store import parquet_query
from reconcile.tables import NETWORKS, SUMMARY, VERDICTS, Table
from reconcile.where import LONGEST, checked

GOOD = [
    (VERDICTS, "verdict = 'missing' AND receipts > 0"),
    (VERDICTS, "Verdict IN ('missing', 'unknown') OR client_ref IS NULL"),
    (VERDICTS, "list_contains(reasons, 'lost_webhook') and not starts_with(client_ref, 'order-')"),
    (VERDICTS, "reasons[1] = 'time_travel'"),
    (VERDICTS, "received_at >= '2026-01-01' and received_at < timestamptz '2026-01-02'"),
    (VERDICTS, "extract(hour from received_at AT TIME ZONE 'UTC') BETWEEN 3 AND 5"),
    (VERDICTS, "received_at > finalized_at - interval '3 hours'"),
    (VERDICTS, "sender ilike '%bank%' or sender ~ '[0-9]+'"),
    (VERDICTS, "record_price > 0.01 -- dear ones"),
    (VERDICTS, "client_ref = 'it''s; DROP TABLE t'"),
    (SUMMARY, "date = '2026-01-31' and coalesce(missing_rate, 0) > 0.02"),
    (SUMMARY, "case when missing > 3 then country = 'DE' else false end"),
    (NETWORKS, "tests[1].rule = 'no_tail'"),
]
BAD = [
    ("", "syntax error"),
    ("verdict =", "syntax error"),
    ("(verdict = 'a'", "syntax error"),
    ("verdict = 'a", "unterminated quoted string"),
    ("true /* open", "unterminated"),
    ("verdicts = 'a'", "has no column verdicts: did you mean verdict?"),
    ('verdict = "missing"', "texts stand in single quotes"),
    ("t.verdict = 'a'", "no column t.verdict"),
    ("verdict", "it is VARCHAR, and no condition"),
    ("1", "no condition"),
    ("verdict > 3", "Cannot compare"),
    ("true ORDER BY verdict", "more than one condition"),
    ("true LIMIT 1", "more than one condition"),
    ("true GROUP BY verdict", "more than one condition"),
    ("true UNION SELECT 2", "more than one condition"),
    ("true; SELECT 2", "more than one condition"),
    ("true; DROP TABLE t", "cannot be used"),
    ("true) UNION (SELECT 1", "syntax error"),
    ("message_id = (SELECT 'x')", "no subqueries"),
    ("EXISTS(FROM read_csv('/etc/passwd'))", "no subqueries"),
    ("message_id IN (FROM '/etc/passwd')", "no subqueries"),
    ("'a' = any(reasons)", "list_contains"),
    ("read_text('/etc/passwd') = 'x'", "function read_text has no place"),
    ("getenv('HOME') = 'x'", "function getenv has no place"),
    ("current_setting('temp_directory') = 'x'", "function current_setting has no place"),
    ("received_at > now()", "function now has no place"),
    ("count(*) > 0", "function count_star has no place"),
    ("len(repeat('a', 1000000000)) > 1", "function repeat has no place"),
    ("other.lower(verdict) = 'x'", "function lower has no place"),
    ("row_number() OVER () = 1", "window has no place"),
    ("* = 1", "star has no place"),
    ("COLUMNS(*) = 1", "star has no place"),
    ("receipts > ?", "parameter has no place"),
    ("receipts::mytype > 1", "mytype"),
    ("verdict = 'a\0b'", "characters that are no text"),
    ("verdict = '\ud800'", "characters that are no text"),
    ("not " * 2400 + "true", "cannot be used"),
    ("true" + " and true" * LONGEST, "is the most"),
]


@pytest.mark.parametrize(("table", "text"), GOOD)
def test_conditions_mean_what_they_say(table: Table, text: str) -> None:
    """What comes back is a condition that the engine takes, and is checked to be itself."""
    sql = checked(text, table)
    assert checked(sql, table) == sql
    with duckdb.connect() as con:
        con.execute("SET TimeZone = 'UTC'")
        assert con.execute(f"FROM ({parquet_query(table, [])}) WHERE {sql}").fetchall() == []


@pytest.mark.parametrize(("text", "why"), BAD)
def test_everything_else_is_refused_in_one_line(text: str, why: str) -> None:
    """Broken, unknown and dangerous filters end as one line that says what cannot be used."""
    with pytest.raises(UsageError) as refused:
        checked(text, VERDICTS)
    assert why in str(refused.value)
    assert "\n" not in str(refused.value)
    assert len(str(refused.value)) < 400


def test_a_filter_keeps_the_rows_that_it_names() -> None:
    """Precedence survives: `a or b and c` keeps what SQL keeps."""
    sql = checked("country = 'DE' or country = 'FR' and missing > 1", SUMMARY)
    rows = "(VALUES ('DE', 0), ('FR', 1), ('FR', 2)) t(country, missing)"
    with duckdb.connect() as con:
        kept = con.execute(f"SELECT country, missing FROM {rows} WHERE {sql}").fetchall()
    assert sorted(kept) == [("DE", 0), ("FR", 2)]


@pytest.mark.slow
@given(st.text())
def test_a_text_of_somebody_else_stays_a_text(text: str) -> None:
    """Whatever stands between quotes is compared with, and never run."""
    if "\0" in text:
        return
    literal = text.encode("utf-8", "ignore").decode().replace("'", "''")
    sql = checked(f"client_ref = '{literal}'", VERDICTS)
    with duckdb.connect() as con:
        told = con.execute(
            f"SELECT {sql} FROM (SELECT ? AS client_ref)", [literal.replace("''", "'")]
        )
        assert told.fetchall() == [(True,)]


def test_no_file_is_read(tmp_path: Path) -> None:
    """Not even binding a filter opens a file that it names."""
    secret = tmp_path / "secret.csv"
    secret.write_text("a\n1\n", "ascii")
    for text in (f"EXISTS(FROM '{secret}')", f"message_id IN (FROM read_csv('{secret}'))"):
        with pytest.raises(UsageError, match="no subqueries"):
            checked(text, VERDICTS)
