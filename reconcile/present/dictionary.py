"""Writes docs/tables.md from the contracts: `python -m reconcile.present.dictionary`."""

from __future__ import annotations

import sys
from pathlib import Path

from reconcile.present.text import markdown
from reconcile.tables import TABLES, Column, Table

INTRODUCTION = """\
# The tables

Made from `reconcile/tables.py` by `python -m reconcile.present.dictionary`, checked by the tests.

Each table is a folder of the store, and each partition in it one parquet file (zstd):
`store/summary/day=2026-01-31/summary.parquet`. A day is a UTC day; `receipts` without any time lie
in `day=undated`, and `changes` has a file for each moment of judging (`as_of=20260201T020000Z`).
Files are replaced by one rename, so a reader sees the old one or the new one. Times are UTC
instants of whole milliseconds, money is decimal with its currency beside it, ids and codes are
text. A column that may be null says `yes`; all others never are. Rows of `verdicts` are in order of
`message_id`; those of `records`, `receipts` and `sent` are in none.

The same sentences are in each file, as JSON under the key `reconcile` of its metadata:

```python
import json
import pyarrow.parquet as pq

found = pq.read_schema("store/summary/day=2026-01-31/summary.parquet").metadata[b"reconcile"]
json.loads(found)["columns"]["missing"]
```

`reconcile schema TABLE` prints the same in a terminal.
"""


def dictionary() -> str:
    """The whole document, as Markdown."""
    return "\n".join((INTRODUCTION, *(_section(table) for table in TABLES)))


def _section(table: Table) -> str:
    facts = [
        f"One row is {table.row}.",
        f"Key: {', '.join(f'`{name}`' for name in table.key)}.",
        f"Partition: `{table.partition}=…`.",
        *(["Its files are for their owner only."] if table.private else []),
        *([] if table.written else ["Declared; not written by this version."]),
    ]
    rows = [_row(column) for column in table.columns]
    columns = markdown(["column", "type", "null", "says"], rows)
    return f"## {table.name}\n\n{' '.join(facts)}\n\n{columns}"


def _row(column: Column) -> list[str]:
    return [f"`{column.name}`", f"`{column.type}`", "yes" if column.nullable else "no",
            column.sentence]  # fmt: skip


def main(path: Path) -> None:
    """Writes the document in its place."""
    path.write_text(dictionary(), "utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "docs/tables.md"))
