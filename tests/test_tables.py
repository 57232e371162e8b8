"""The contracts: what every table promises, and that nothing passes which does not keep it."""

from __future__ import annotations

import json
from datetime import date
from pathlib import Path
from typing import Any

import ibis
import judge_support as core
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from reconcile import __version__
from reconcile.errors import ContractError
from reconcile.store import Store, read_query
from reconcile.tables import (
    BY_NAME,
    METADATA_KEY,
    MONEY,
    RECEIPTS,
    RECORDS,
    REJECTS,
    SUMMARY,
    TABLES,
    TIME,
    VERDICTS,
    Table,
    conform,
)
from reconcile.vocabulary import RULES_VERSION

DAY = date(2026, 10, 15)
named = pytest.mark.parametrize("table", TABLES, ids=lambda table: table.name)


# --- what is declared ----------------------------------------------------------------------------


@named
def test_each_column_has_a_sentence(table: Table) -> None:
    """Every column says in a sentence what it holds."""
    for column in table.columns:
        assert column.sentence.endswith("."), column.name
        assert column.sentence[0].isupper() or not column.sentence[0].isalpha() or (
            column.sentence.split()[0] in {"err-code", "valid,", "confirmed,", "missing", "unknown",
                                           "suspect", "unknown_message,"}
        ), column.sentence  # fmt: skip


@named
def test_columns_are_named_once(table: Table) -> None:
    """No column has the name of another, and all are in snake case."""
    assert len(set(table.names)) == len(table.names)
    assert all(name == name.lower() and name.isidentifier() for name in table.names)


@named
def test_key_columns_are_required(table: Table) -> None:
    """What tells one row from another is in the table, and is never null."""
    assert table.key
    assert set(table.key) <= set(table.required)


@named
def test_suffixes_tell_the_type(table: Table) -> None:
    """`_at` is a UTC instant, `_ms` a whole number, `_rate` a share, `_code` and `_id` texts."""
    kinds = {"_at": TIME, "_ms": pa.int64(), "_rate": pa.float64(), "_code": pa.string(),
             "_id": pa.string(), "price": MONEY, "spend": MONEY}  # fmt: skip
    for column in table.columns:
        for suffix, kind in kinds.items():
            if column.name.endswith(suffix):
                assert column.type == kind, column.name


@named
def test_every_time_has_a_zone(table: Table) -> None:
    """No instant is naive."""
    for column in table.columns:
        if pa.types.is_timestamp(column.type):
            assert column.type.tz == "UTC", column.name


def test_keys_are_those_of_the_design() -> None:
    """The keys that others rely on."""
    group = ("date", "account_id", "country", "network_code", "currency")
    assert {table.name: table.key for table in TABLES} == {
        "records": ("account_id", "product", "message_id"),
        "receipts": ("source", "line"),
        "rejects": ("source", "line"),
        "rejected_lines": ("source", "line"),
        "verdicts": ("account_id", "product", "message_id"),
        "orphans": ("source", "line"),
        "summary": group,
        "campaigns": ("date", "account_id", "campaign", "currency"),
        "changes": ("date", "account_id", "product", "message_id"),
        "reasons": (*group, "verdict", "reason"),
        "error_codes": (*group, "receipt_status", "receipt_error_code"),
        "sent": ("source", "line", "part"),
        "unrecorded": ("message_id",),
        "networks": ("date", "span", "country", "network_code"),
        "concentrations": ("date", "verdict", "rank"),
    }


def test_tables_are_found_by_name() -> None:
    """No two tables share a name."""
    assert [BY_NAME[table.name] for table in TABLES] == list(TABLES)
    assert len(BY_NAME) == len(TABLES)


def test_to_and_from_are_nowhere() -> None:
    """The names that mean opposite things in records and receipts stay outside."""
    assert not {"to", "from", "msisdn"} & {name for table in TABLES for name in table.names}


def test_columns_of_one_name_have_one_type() -> None:
    """Same quantity, same name, same type, in every table; counts of a message may be narrower."""
    kinds: dict[str, pa.DataType] = {}
    for table in TABLES:
        for column in table.columns:
            if pa.types.is_integer(column.type) or column.name == "reasons":
                continue
            assert kinds.setdefault(column.name, column.type) == column.type, column.name


# --- conform -------------------------------------------------------------------------------------


def blank(table: Table, **changes: Any) -> ibis.Table:
    """A table with no rows that keeps a contract, but for these columns (None: left out)."""
    fields = {c.name: c.type for c in table.columns} | changes
    schema = pa.schema([(name, kind) for name, kind in fields.items() if kind is not None])
    return ibis.memtable(schema.empty_table())


@named
def test_conform_lets_the_contract_pass(table: Table) -> None:
    """A table of exactly these columns passes, whatever their order was."""
    mixed = blank(table).select(sorted(table.names, reverse=True))
    passed = conform(mixed, table)
    assert list(passed.columns) == table.names


@named
def test_conform_refuses_a_missing_column(table: Table) -> None:
    """It names the table and what it lacks."""
    with pytest.raises(ContractError, match=f"table {table.name}: lacks {table.names[-1]}$"):
        conform(blank(table, **{table.names[-1]: None}), table)


@named
def test_conform_refuses_a_strange_column(table: Table) -> None:
    """It names the table and what it does not know."""
    with pytest.raises(ContractError, match=f"table {table.name}: does not know surprise$"):
        conform(blank(table, surprise=pa.string()), table)


def test_conform_names_both() -> None:
    """A renamed column is one that is lacking and one that is not known."""
    with pytest.raises(ContractError, match=r"lacks kind; does not know kinds$"):
        conform(blank(REJECTS, kind=None, kinds=pa.string()), REJECTS)


@pytest.mark.parametrize(
    ("table", "column", "kind"),
    [
        (RECORDS, "message_id", pa.int64()), (RECORDS, "received_at", pa.timestamp("us")),
        (RECORDS, "received_at", pa.timestamp("us", "Europe/Berlin")),
        (RECORDS, "received_at", pa.string()), (RECORDS, "price", pa.float64()),
        (RECORDS, "price", pa.decimal128(18, 4)), (RECORDS, "concatenated", pa.string()),
        (RECEIPTS, "line", pa.float64()), (SUMMARY, "missing_rate", pa.int64()),
        (SUMMARY, "date", pa.timestamp("us", "UTC")), (VERDICTS, "reasons", pa.string()),
    ],
    ids=str,
)  # fmt: skip
def test_conform_refuses_another_type(table: Table, column: str, kind: pa.DataType) -> None:
    """An id that is a number, a naive time, money that is a float: none passes."""
    with pytest.raises(ContractError, match=f"table {table.name}: {column} is "):
        conform(blank(table, **{column: kind}), table)


@pytest.mark.parametrize(
    ("table", "column", "kind"),
    [
        (RECEIPTS, "line", pa.int32()), (RECORDS, "price", pa.decimal128(38, 8)),
        (RECORDS, "received_at", pa.timestamp("ms", "UTC")), (RECORDS, "sender", pa.null()),
        (RECORDS, "price", pa.null()),
    ],
    ids=str,
)  # fmt: skip
def test_conform_widens(table: Table, column: str, kind: pa.DataType) -> None:
    """A narrower integer, a wider sum, a blank column take the contract's type."""
    passed = conform(blank(table, **{column: kind}), table)
    assert passed.schema() == ibis.Schema.from_pyarrow(table.schema)


# --- written files -------------------------------------------------------------------------------


def written(tmp_path: Path, table: Table, rows: list[core.Row]) -> Path:
    """A file of the table, staged by a store."""
    con, store = core.connection(), Store.open(tmp_path / "store", create=True)
    return store.write(con, core.put("written_in", table, rows), table, DAY, core.AS_OF).path


def test_file_says_what_it_is(tmp_path: Path) -> None:
    """A file opened alone says as of when it is, by which rules and version, and each column."""
    footer = pq.read_metadata(written(tmp_path, RECORDS, [core.record("1A")]))
    about = json.loads(footer.metadata[METADATA_KEY.encode()])
    assert about["as_of"] == "2026-10-20T12:00:00Z"
    assert (about["rules_version"], about["package_version"]) == (RULES_VERSION, __version__)
    assert (about["table"], about["row"]) == ("records", RECORDS.row)
    assert about["key"] == list(RECORDS.key)
    assert about["columns"] == {c.name: c.sentence for c in RECORDS.columns}


def test_file_metadata_is_not_random(tmp_path: Path) -> None:
    """The same rows and as_of make the same file, byte for byte."""
    files = [
        written(tmp_path / name, RECORDS, [core.record("1A"), core.record("1B")]).read_bytes()
        for name in ("one", "two")
    ]
    assert files[0] == files[1]


@named
def test_file_has_the_contracts_types(table: Table, tmp_path: Path) -> None:
    """Any reader finds the declared columns, in order and type, in an empty file too."""
    schema = pq.read_schema(written(tmp_path, table, []))
    assert schema.names == table.names
    for field, column in zip(schema, table.columns, strict=True):
        if pa.types.is_list(column.type):
            assert field.type.value_type == column.type.value_type, column.name
        else:
            assert field.type == column.type, column.name


def test_values_come_back_as_they_went(tmp_path: Path) -> None:
    """Money to its last place, `NA`, an id with leading zeros, a millisecond, a null."""
    given = core.record(
        "00E0", country="NA", price=core.money("0.00000001"), status=None,
        received_at=core.AS_OF.replace(microsecond=1000),
    )  # fmt: skip
    path = written(tmp_path, RECORDS, [given])
    assert pq.ParquetFile(path).read().to_pylist() == [given]


@pytest.mark.parametrize("column", RECORDS.required)
def test_null_in_a_required_column_is_refused(column: str, tmp_path: Path) -> None:
    """The file is not published, and the message names the column."""
    broken = core.record("1A", finalized_at=None) | {column: None}
    with pytest.raises(ContractError, match=f"table records: {column} may not be null, and 1 are"):
        written(tmp_path, RECORDS, [core.record("1B"), broken])


def test_empty_list_is_no_null(tmp_path: Path) -> None:
    """A confirmed message has no reasons, and is kept."""
    path = written(
        tmp_path, VERDICTS, [core.verdict("1A"), core.verdict("1B", reasons=["too_fast"])]
    )
    assert pq.ParquetFile(path).read()["reasons"].to_pylist() == [[], ["too_fast"]]


def test_days_without_a_file_are_empty(tmp_path: Path) -> None:
    """A day that has no file reads as no rows, in the contract's types."""
    store = Store.open(tmp_path / "store", create=True)
    rows = read_query(core.connection(), VERDICTS, store.query(VERDICTS, [DAY]))
    assert core.connection().to_pyarrow(rows).num_rows == 0
    assert rows.schema() == ibis.Schema.from_pyarrow(VERDICTS.schema)


def test_null_in_a_required_list_is_refused(tmp_path: Path) -> None:
    """A list that may not be null is asked for by query: the footer cannot tell it from empty."""
    con, store = core.connection(), Store.open(tmp_path / "store", create=True)
    rows = core.put("written_in", VERDICTS, [core.verdict("1A", reasons=None)])
    with pytest.raises(ContractError, match="reasons may not be null"):
        store.write(con, rows, VERDICTS, DAY, core.AS_OF)
