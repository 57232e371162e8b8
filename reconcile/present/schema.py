"""Writes docs/show.schema.json from the contracts: `python -m reconcile.present.schema`.

What `reconcile show --format json` prints keeps to it. A key that changes its meaning or goes makes
another version of `reconcile.show/1`; new keys may come.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pyarrow as pa

from reconcile.present.odd import COLUMNS as ODD_COLUMNS
from reconcile.present.show import SCHEMA
from reconcile.present.views import VIEWS, View
from reconcile.tables import NETWORKS, SUMMARY, TABLES, Column, Table

DECIMAL = r"^-?[0-9]+(\.[0-9]+)?$"
SHARES = (
    "Of each of `trend_days` the share that is missing, unknown or suspect; null: none to tell."
)
MESSAGES = "Messages of each of `trend_days`; null: none."
# What is in a view and in no table.
OWN: dict[str, dict[str, Any]] = {
    "hour": {"type": "string", "pattern": "^[0-2][0-9]:00$", "description": "Hour of the UTC day."},
    "unconfirmed": {"type": "integer", "description": "Missing, unknown and suspect messages."},
}  # fmt: skip


def schema() -> dict[str, Any]:
    """The whole JSON Schema (draft 2020-12)."""
    rows = {
        **{f"by {name}": _view(view) for name, view in VIEWS.items()},
        "odd networks": _object({c.name: _column(c) for c in _columns(NETWORKS, ODD_COLUMNS)}),
        **{t.name: _object({c.name: _column(c) for c in t.columns}) for t in TABLES},
    }
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "What `reconcile show --format json` prints",
        "description": f"Version {SCHEMA}. A key that changes its meaning or goes makes another "
        "version; new keys may come. Money is a decimal as text, times are ISO 8601 in UTC.",
        "type": "object",
        "required": ["schema", "table", "by", "partitions", "where", "rows"],
        "properties": {
            "schema": {"const": SCHEMA},
            "table": {"enum": [t.name for t in TABLES], "description": "What was read."},
            "by": {
                "enum": [None, "odd", *VIEWS],
                "description": "What its rows were added up by; null: rows of the table itself.",
            },
            "partitions": {
                "type": "array",
                "items": {"type": "string"},
                "description": "The partitions read: UTC days; `undated`; of `changes` moments.",
            },
            "where": {"type": ["string", "null"], "description": "The condition asked for."},
            "trend_days": {"type": "array", "items": {"type": "string", "format": "date"}},
            "rows": {"type": "array"},
        },
        "allOf": [
            *(_case(view.table.name, name, f"by {name}") for name, view in VIEWS.items()),
            _case(NETWORKS.name, "odd", "odd networks"),
            *(_case(table.name, None, table.name) for table in TABLES),
        ],
        "$defs": rows,
    }


def _case(table: str, by: str | None, rows: str) -> dict[str, Any]:
    """Which rows come with a `by` and a table."""
    here = {"table": {"const": table}, "by": {"const": by}}
    if by is not None:
        del here["table"]
    told = {"rows": {"items": {"$ref": f"#/$defs/{rows.replace(' ', '%20')}"}}}
    then = {"properties": ({"table": {"const": table}} if by else {}) | told}
    return {"if": {"properties": here}, "then": then}


def _view(view: View) -> dict[str, Any]:
    by_name = {c.name: c for table in (SUMMARY, view.table) for c in table.columns}
    told = {name: OWN[name] if name in OWN else _column(by_name[name]) for name in view.columns}
    shown = _object(told)
    value = "number" if view.measured else "integer"
    shown["properties"]["trend"] = {
        "type": "array",
        "items": {"type": [value, "null"]},
        "description": SHARES if view.measured else MESSAGES,
    }
    return shown


def _object(properties: dict[str, Any]) -> dict[str, Any]:
    return {"type": "object", "required": list(properties), "properties": dict(properties)}


def _columns(table: Table, names: tuple[str, ...]) -> list[Column]:
    by_name = {column.name: column for column in table.columns}
    return [by_name[name] for name in names]


def _column(column: Column) -> dict[str, Any]:
    return _kind(column.type, nullable=column.nullable) | {"description": column.sentence}


def _kind(kind: pa.DataType, *, nullable: bool) -> dict[str, Any]:
    """A type of Arrow as JSON has it."""
    told: dict[str, Any]
    if pa.types.is_list(kind):
        told = {"type": "array", "items": _kind(kind.value_type, nullable=True)}
    elif pa.types.is_struct(kind):
        fields = {f.name: _kind(f.type, nullable=True) for f in kind}
        told = _object(fields)
    elif pa.types.is_decimal(kind):
        told = {"type": "string", "pattern": DECIMAL}
    elif pa.types.is_timestamp(kind):
        told = {"type": "string", "format": "date-time"}
    elif pa.types.is_date(kind):
        told = {"type": "string", "format": "date"}
    elif pa.types.is_integer(kind):
        told = {"type": "integer"}
    elif pa.types.is_floating(kind):
        told = {"type": "number"}
    elif pa.types.is_boolean(kind):
        told = {"type": "boolean"}
    else:  # text, and bytes as text
        told = {"type": "string"}
    return told | {"type": [told["type"], "null"]} if nullable else told


def main(path: Path) -> None:
    """Writes the schema in its place."""
    path.write_text(json.dumps(schema(), indent=1, ensure_ascii=False) + "\n", "utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "docs/show.schema.json"))
