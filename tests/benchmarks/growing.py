"""Parquet files that grow chunk by chunk, in full row groups of the store's own size."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from reconcile.store import ROW_GROUP_ROWS
from reconcile.tables import Table, file_metadata


@dataclass
class Growing:
    """A partition under way; texts of few words may come as dictionaries, and are read as texts."""

    path: Path
    table: Table
    as_of: datetime
    _writer: pq.ParquetWriter | None = None
    _waiting: list[pa.Table] = field(default_factory=list)
    _rows: int = 0

    def add(self, rows: pa.Table) -> None:
        """Takes rows in the columns of the table; writes them as soon as they fill a group."""
        self._waiting.append(_copied(rows) if len(rows) < ROW_GROUP_ROWS else rows)
        self._rows += len(rows)
        full = self._rows - self._rows % ROW_GROUP_ROWS
        if full:
            self._write(full)

    def close(self) -> Path:
        """Writes what is left; returns the file."""
        if self._rows:
            self._write(self._rows)
        assert self._writer
        self._writer.add_key_value_metadata(file_metadata(self.table, self.as_of))
        self._writer.close()
        return self.path

    def _write(self, rows: int) -> None:
        # One dictionary for all of a column, or they would be written as plain texts.
        together = pa.concat_tables(self._waiting).unify_dictionaries()
        if self._writer is None:
            self._writer = _begun(self.path, together.schema)
        self._writer.write_table(together.slice(0, rows), ROW_GROUP_ROWS)
        left = together.slice(rows)
        self._rows, self._waiting = len(left), [_copied(left)] if len(left) else []


def _copied(rows: pa.Table) -> pa.Table:
    """A slice would keep in memory all that it is cut from."""
    return rows.take(pa.array(np.arange(len(rows))))


def _begun(path: Path, schema: pa.Schema) -> pq.ParquetWriter:
    path.parent.mkdir(parents=True, exist_ok=True)
    few = [
        f.name for f in schema if not (pa.types.is_string(f.type) or pa.types.is_timestamp(f.type))
    ]
    return pq.ParquetWriter(
        path,
        schema,
        compression="zstd",
        compression_level=1,
        store_schema=False,
        use_dictionary=few,
    )
