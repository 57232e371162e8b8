"""Exports what was asked for: which tables, to which files, each whole before it has its name."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import date
from pathlib import Path

from reconcile.errors import DiskError, UsageError, trouble
from reconcile.exporting.csv_file import write_csv
from reconcile.exporting.excel import write_excel
from reconcile.frames import Frames
from reconcile.selection import Selection
from reconcile.tables import BY_NAME, TABLES

# Without names: what is small, and what one looks at first. Messages come where they are named.
USUAL = ("summary", "reasons", "error_codes", "networks", "concentrations", "campaigns")


@dataclass(frozen=True)
class Exported:
    """One table that was written: to which file, with how many rows."""

    table: str
    path: Path
    rows: int


def export(
    store: Frames, output: Path, names: Iterable[str], start: date | None, end: date | None,
    where: str | None,
) -> list[Exported]:  # fmt: skip
    """Writes tables to one Excel file (`.xlsx`), one CSV (`.csv`), or a folder of CSVs.

    Args:
        store: what is read.
        output: the file or folder; what is there by that name is replaced.
        names: the tables; none: those of `USUAL` that have rows.
        start, end: UTC days, `end` excluded; None: all.
        where: a filter that fits each of the tables.

    Raises:
        UsageError: nothing to write, an unknown table or column, or more rows than a sheet holds.
        DiskError: the disk refused.
    """
    wanted = list(dict.fromkeys(names)) or list(USUAL)
    _refuse_private(wanted)
    chosen = [store.table(name, start, end, where=where) for name in wanted]
    rows = [each.count() for each in chosen]
    if not any(rows) and where is None:
        raise UsageError("nothing is published for these days: see `reconcile status`")
    if not names:
        chosen = [each for each, number in zip(chosen, rows, strict=True) if number] or chosen[:1]
    return write(output, chosen)


def write(output: Path, chosen: list[Selection]) -> list[Exported]:
    """Writes what `Frames.table` has chosen: the columns as asked for, each table once.

    Example:
        >>> write(Path("lost.xlsx"), [store.table("verdicts", where="verdict = 'missing'")])
    """
    if not output.absolute().parent.is_dir():
        raise UsageError(f"there is no folder {output.parent}: make it, or name another file")
    if output.suffix.lower() == ".xlsx":
        _replace(output, lambda fresh: write_excel(fresh, chosen))
        return [Exported(each.table.name, output, each.count()) for each in chosen]
    return [_csv(each, path) for each, path in zip(chosen, _paths(output, chosen), strict=True)]


def _refuse_private(names: list[str]) -> None:
    private = [name for name in names if name in BY_NAME and BY_NAME[name].private]
    if private:
        shown = ", ".join(table.name for table in TABLES if not table.private)
        raise UsageError(
            f"{private[0]} is for its owner only, and is not exported: the tables are {shown}"
        )


def _paths(output: Path, chosen: list[Selection]) -> list[Path]:
    """A file a table: in a folder, unless one CSV is named for one table."""
    if output.suffix.lower() == ".csv" and not output.is_dir():
        if len(chosen) != 1:
            raise UsageError(
                f"{output} is one file, and {len(chosen)} tables are to be written: name one "
                "table with --tables, or a folder or an .xlsx file with --output"
            )
        return [output]
    try:
        output.mkdir(exist_ok=True)
    except OSError as error:
        raise DiskError(f"{output} cannot be written: {trouble(error)}") from None
    return [output / f"{each.table.name}.csv" for each in chosen]


def _csv(chosen: Selection, path: Path) -> Exported:
    _replace(path, lambda fresh: write_csv(fresh, chosen))
    return Exported(chosen.table.name, path, chosen.count())


def _replace(path: Path, write: Callable[[Path], None]) -> None:
    """Writes beside the file, then takes its place: nobody sees half of it."""
    fresh = path.with_name(f".{path.name}.new")
    try:
        write(fresh)
        fresh.replace(path)
    except OSError as error:
        raise DiskError(f"{path} cannot be written: {trouble(error)}") from None
    finally:
        if fresh.exists():
            fresh.unlink()
