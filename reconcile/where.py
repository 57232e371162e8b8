"""Checks a filter that somebody typed, so that only an expression over a table's columns is left.

DuckDB itself parses the text, and what is run is what it writes again from the checked tree: the
text never becomes part of a statement. Only the nodes and functions named here may be in the tree,
so a filter reads no file, no other table and no clock, and runs no statement.
"""

# ruff: noqa: S608 - the text is only parsed; what is run comes from its checked tree

from __future__ import annotations

import json
from collections.abc import Iterator
from difflib import get_close_matches
from typing import Any

from reconcile.errors import UsageError, first_line
from reconcile.store import parquet_query
from reconcile.tables import Table

LONGEST = 10_000
_BEFORE = "SELECT 1 FROM t WHERE "
NODES = {"BETWEEN", "CASE", "CAST", "COLUMN_REF", "COMPARISON", "CONJUNCTION", "CONSTANT",
         "FUNCTION", "OPERATOR"}  # fmt: skip
# Scalar, pure and cheap: each of them is as long as what it is given.
FUNCTIONS = {"+", "-", "*", "/", "//", "%", "||", "~~", "!~~", "~~*", "!~~*", "abs", "round",
             "floor", "ceil", "least", "greatest", "lower", "upper", "trim", "ltrim", "rtrim",
             "length", "len", "left", "right", "substr", "substring", "replace", "starts_with",
             "ends_with", "prefix", "suffix", "contains", "regexp_matches", "regexp_full_match",
             "list_contains", "list_has", "array_contains", "list_has_any", "list_has_all",
             "list_value", "list_position", "date_trunc", "date_part", "datepart", "year",
             "month", "day", "hour", "minute", "second", "dayofweek", "isodow", "week",
             "timezone", "epoch", "epoch_ms", "strftime", "ifnull"}  # fmt: skip


def checked(text: str, table: Table) -> str:
    """The filter as safe SQL: one boolean expression over the columns of the table.

    Args:
        text: SQL as it stands behind WHERE, such as `verdict = 'missing' AND country = 'DE'`.
        table: whose columns it may name.

    Raises:
        UsageError: broken syntax, an unknown column, a function or form that is not allowed, or
            types that cannot be compared. One line says which.

    Example:
        >>> from reconcile.tables import SUMMARY
        >>> checked("missing > 3 or country = 'DE'", SUMMARY)
        "((missing > 3) OR (country = 'DE'))"
    """
    import duckdb

    if "\0" in text or text.encode("utf-8", "ignore").decode() != text:
        raise _refused(text, "it holds characters that are no text")
    if len(text) > LONGEST:
        raise UsageError(f"the filter has {len(text):,} characters: {LONGEST:,} is the most")
    with duckdb.connect(":memory:", config={"enable_external_access": "false"}) as con:
        con.execute("SET TimeZone = 'UTC'")
        tree = _parsed(con, text)
        for node in _nodes(tree["statements"][0]["node"].get("where_clause")):
            _check(node, text, table)
        _refuse_more(con, tree, text)
        sql = _written(con, tree)
        _bind(con, sql, text, table)
    return sql


def _bind(con: Any, sql: str, text: str, table: Table) -> None:
    """Lets the engine look at the types, over a table without rows."""
    import duckdb

    try:
        told = f"DESCRIBE SELECT {sql} AS told FROM ({parquet_query(table, [])}) AS t"
        kind = con.execute(told).fetchone()[1]
    except duckdb.Error as error:
        raise _refused(text, first_line(error)) from None
    if kind != "BOOLEAN":
        raise _refused(text, f"it is {kind}, and no condition")


def _parsed(con: Any, text: str) -> dict[str, Any]:
    import duckdb

    try:
        [told] = con.execute("SELECT json_serialize_sql(?::VARCHAR)", [_BEFORE + text]).fetchone()
        tree: dict[str, Any] = json.loads(told)
    except duckdb.Error as error:
        raise _refused(text, first_line(error)) from None
    except RecursionError:
        raise _refused(text, "it is nested too deeply") from None
    if tree["error"]:
        raise _refused(text, str(tree["error_message"]))
    return tree


def _refuse_more(con: Any, tree: dict[str, Any], text: str) -> None:
    """Nothing but a condition may have come: no ORDER BY, no second statement."""
    where = tree["statements"][0]["node"].get("where_clause")
    bare = _parsed(con, "true")
    bare["statements"][0]["node"]["where_clause"] = where
    if where is None or tree != bare:
        raise _refused(text, "it is more than one condition: no ORDER BY, LIMIT, UNION or ;")


def _nodes(tree: Any) -> Iterator[dict[str, Any]]:
    """Every expression in the tree."""
    waiting = [tree]
    while waiting:
        each = waiting.pop()
        if isinstance(each, dict):
            if "class" in each:
                yield each
            waiting.extend(each.values())
        elif isinstance(each, list):
            waiting.extend(each)


def _check(node: dict[str, Any], text: str, table: Table) -> None:
    kind = node["class"]
    if kind == "SUBQUERY":
        raise _refused(text, "no subqueries; a list is asked with list_contains(reasons, '…')")
    if kind not in NODES:
        raise _refused(text, f"{kind.lower()} has no place in a filter")
    if kind == "FUNCTION":
        name = str(node["function_name"]).lower()
        if name not in FUNCTIONS or node.get("schema") not in ("", "main") or node.get("catalog"):
            raise _refused(text, f"function {name} has no place in a filter")
    if kind == "COLUMN_REF":
        name = ".".join(node["column_names"])
        if name.lower() not in table.names:
            near = get_close_matches(name.lower(), table.names, 1)
            hint = f"did you mean {near[0]}?" if near else "texts stand in single quotes;"
            raise _refused(
                text, f"table {table.name} has no column {name}: {hint} "
                f"`reconcile schema {table.name}` lists them",
            )  # fmt: skip


def _written(con: Any, tree: dict[str, Any]) -> str:
    [sql] = con.execute("SELECT json_deserialize_sql(?::JSON)", [json.dumps(tree)]).fetchone()
    return str(sql).removeprefix(_BEFORE)


def _refused(text: str, why: str) -> UsageError:
    shown = " ".join(text.split())
    shown = shown if len(shown) <= 80 else shown[:79] + "…"
    return UsageError(f"the filter {shown!r} cannot be used: {why}")
