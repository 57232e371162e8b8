"""What a worker does: it writes its part of a partition as one parquet file, and tells of it.

The workers have no need of this package: these functions are sent to them as they stand, so they
use nothing but Python and pyarrow.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pyarrow as pa

# What a worker tells of itself, and of the part that it wrote.
PROBED = "spark STRING, python STRING, arrow STRING, sees BOOLEAN"
TOLD = "part INT, name STRING, row_count BIGINT, nulls STRING, trouble STRING"
Task = Callable[[Iterator[pa.RecordBatch]], Iterator[pa.RecordBatch]]


def prober(file: str) -> Task:
    """Makes what a worker runs first: which versions it has, and whether it sees a file."""

    def probe(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        import os
        import platform

        import pyarrow as pa
        import pyspark

        for _ in batches:
            pass
        told = {
            "spark": pyspark.__version__, "python": platform.python_version(),
            "arrow": pa.__version__, "sees": os.path.exists(file),  # noqa: PTH110 - sent as it is
        }  # fmt: skip
        yield pa.RecordBatch.from_pylist([told])

    return probe


def writer(
    folder: str, schema: pa.Schema, required: list[str], metadata: dict[str, str],
    dictionary: list[str], group_rows: int,
) -> Task:  # fmt: skip
    """Makes what a worker runs: its rows, sorted already, become one file of a name of its own.

    Args:
        folder: where to; it is there.
        schema, metadata: the file's.
        required: columns that may not hold a null.
        dictionary: columns of few words.
        group_rows: rows of a row group.

    A worker may be lost, or be slow and run twice: what it wrote counts only where what it tells
    (`TOLD`) arrives. Without rows it writes nothing.
    """

    def write(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        import os
        import uuid

        import pyarrow as pa
        import pyarrow.parquet as pq
        from pyspark import TaskContext

        context: Any = TaskContext.get()
        told: dict[str, Any] = {
            "part": context.partitionId(), "name": f"{uuid.uuid4().hex}.parquet", "row_count": 0,
            "nulls": None, "trouble": None,
        }  # fmt: skip
        path = os.path.join(folder, told["name"])  # noqa: PTH118 - likewise
        whole: Any = None
        waiting: list[pa.RecordBatch] = []

        def add() -> None:
            table = pa.Table.from_batches(waiting).cast(schema)
            for name in required:
                if table.column(name).null_count:
                    told["nulls"] = name
            whole.write_table(table, group_rows)
            told["row_count"] += table.num_rows

        try:
            for batch in batches:
                if not batch.num_rows:
                    continue
                whole = whole or pq.ParquetWriter(
                    path, schema, compression="zstd", compression_level=1, store_schema=False,
                    use_dictionary=dictionary,
                )  # fmt: skip
                waiting.append(batch)
                if sum(each.num_rows for each in waiting) >= group_rows:
                    add()
                    waiting = []
            if waiting:
                add()
            if whole:
                whole.add_key_value_metadata(metadata)
                whole.close()
                handle = os.open(path, os.O_RDONLY)
                os.fsync(handle)
                os.close(handle)
        except OSError as error:
            told["trouble"] = error.strerror or str(error)
        kinds = [("part", pa.int32()), ("name", pa.string()), ("row_count", pa.int64()),
                 ("nulls", pa.string()), ("trouble", pa.string())]  # fmt: skip
        yield pa.RecordBatch.from_pylist([told], pa.schema(kinds))

    return write


def send_whole() -> None:
    """Lets Spark send these functions themselves to the workers, not where to import them from."""
    import sys

    from pyspark import cloudpickle

    register: Any = cloudpickle.register_pickle_by_value
    register(sys.modules[__name__])
