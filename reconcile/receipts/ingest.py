"""Takes captures into `receipts` and `rejects`: what is new, each line once.

A capture that was read before and has not changed is not read again; one that changed is read anew
and its rows replace the ones it gave before. The intent stands in the ledger before anything is
published, so that a run stopped in between is mended by the next.
"""

from __future__ import annotations

import glob
import hashlib
import shutil
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow.compute as pc

from reconcile.days import iso
from reconcile.engine import quote
from reconcile.errors import ContractError, InputError
from reconcile.receipts import normalise
from reconcile.receipts.formats import read_fields
from reconcile.store import Ledger, Staged, Store
from reconcile.tables import RECEIPTS, REJECTS, Table

if TYPE_CHECKING:
    from ibis.backends.duckdb import Backend

Progress = Callable[[str, int], None]


@dataclass
class Capture:
    """What one capture held; the numbers add up: lines = receipts + rejects + blank."""

    source: str
    digest: str
    format: str = ""
    bytes: int = 0
    lines: int = 0
    receipts: int = 0
    rejects: int = 0
    blank: int = 0
    days: set[str] = field(default_factory=set)


def find(patterns: Iterable[str]) -> tuple[list[Path], list[str]]:
    """The files that globs name, each once and in order, and the globs that name none."""
    files: dict[Path, None] = {}
    nothing = []
    for pattern in patterns:
        found = [Path(p).resolve() for p in glob.glob(pattern, recursive=True)]  # noqa: PTH207 - absolute patterns too
        found = sorted(p for p in found if p.is_file())
        if not found:
            nothing.append(pattern)
        files |= dict.fromkeys(found)
    return list(files), nothing


def ingest(
    store: Store, con: Backend, ledger: Ledger, files: list[Path], as_of: datetime, pii: str,
    progress: Progress,
) -> list[Capture]:  # fmt: skip
    """Reads what is new among `files` and publishes it.

    Returns:
        What each capture held that was read; those already known are not among them.

    Raises:
        InputError: a file cannot be read at all, or a CSV lacks a column it needs.
        ContractError: lines are unaccounted for.
    """
    fresh = _fresh(files, ledger)
    folder = store.staging / "captures"
    shutil.rmtree(folder, ignore_errors=True)  # of an ingest before this one
    folder.mkdir(parents=True)
    read = [
        _read(con, path, digest, folder / f"{n:06d}", pii, progress)
        for n, (path, digest) in enumerate(fresh.items())
    ]
    if read:
        parts = _count(con, {c.source: c for c in read}, sorted(folder.glob("*.parquet")))
        _publish(store, con, ledger, read, parts, as_of)
    shutil.rmtree(folder)
    return read


def _fresh(files: list[Path], ledger: Ledger) -> dict[Path, str]:
    """Files whose content the store does not hold, with its digest; of copies only the first.

    What the store holds of a file that has changed does not count: it is about to be replaced. So
    a log that was rotated is read under its new name when the old name gets new content.
    """
    digests = {path: _digest(path) for path in files}
    now = {str(path): digest for path, digest in digests.items()}
    held = {
        entry["digest"]
        for source, entry in ledger.captures.items()
        if entry.get("whole") and now.get(source, entry["digest"]) == entry["digest"]
    }
    fresh: dict[Path, str] = {}
    for path, digest in digests.items():
        if digest not in held:
            held.add(digest)
            fresh[path] = digest
    return fresh


def _digest(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise InputError(f"the capture {path} cannot be read: {error.strerror}") from None


def _read(
    con: Backend, path: Path, digest: str, prefix: Path, pii: str, progress: Progress
) -> Capture:
    """Reads one capture into parquet files that begin with `prefix`, block by block."""
    source = str(path)
    capture = Capture(source, digest, bytes=path.stat().st_size)
    capture.format, blocks = read_fields(con, path)
    for n, fields in enumerate(blocks):
        con.con.register("fields", fields)
        target = quote(f"{prefix}-{n:06d}.parquet")
        con.con.execute(
            f"COPY ({normalise.lines('fields', source, pii)}) TO {target} "
            "(FORMAT parquet, COMPRESSION lz4)"
        )
        con.con.unregister("fields")
        capture.lines += fields.num_rows
        capture.blank += pc.sum(fields["blank"]).as_py()
        progress(path.name, fields.num_rows)
    return capture


def _count(con: Backend, read: dict[str, Capture], files: list[Path]) -> dict[str, list[str]]:
    """Enters in each capture what became of its lines.

    Returns:
        Of each day, and of "" for the rejects, the files that hold a part of it.

    Raises:
        ContractError: a line is neither receipt nor reject nor blank.
    """
    parts: dict[str, list[str]] = {}
    found = con.con.execute(
        f"SELECT filename, source, coalesce(day, ''), count(*) FROM {_scan(files)} GROUP BY ALL "  # noqa: S608 - paths are ours
        "ORDER BY ALL"
    ).fetchall() if files else []  # fmt: skip
    for name, source, day, rows in found:
        parts.setdefault(day, []).append(name)
        if day:
            read[source].receipts += rows
            read[source].days.add(day)
        else:
            read[source].rejects += rows
    for capture in read.values():
        if capture.lines != capture.receipts + capture.rejects + capture.blank:
            raise ContractError(
                f"{capture.source}: {capture.lines} lines, but {capture.receipts} receipts, "
                f"{capture.rejects} rejects and {capture.blank} blank"
            )
    return parts


def _publish(
    store: Store, con: Backend, ledger: Ledger, read: list[Capture], parts: dict[str, list[str]],
    as_of: datetime,
) -> None:  # fmt: skip
    """Replaces what these captures gave before, day by day."""
    reject_day = str(as_of.date())
    days = set().union(*(c.days for c in read))
    reject_days = {reject_day} if "" in parts else set()
    for capture in read:
        old = ledger.captures.get(capture.source, {})
        days |= set(old.get("days", []))
        reject_days |= set(old.get("reject_days", []))
        ledger.captures[capture.source] = _entry(capture, as_of, old)
    ledger.changed = sorted(days.union(ledger.changed))
    store.save(ledger)  # the intent: whatever happens now, the next run knows what to replace

    sources = [capture.source for capture in read]
    staged = [
        _replace(store, con, RECEIPTS, day, sources, f"day = '{day}'", parts.get(day, []), as_of)
        for day in sorted(days)
    ]
    for day in sorted(reject_days):
        own = parts.get("", []) if day == reject_day else []
        staged.append(_replace(store, con, REJECTS, day, sources, "kind IS NOT NULL", own, as_of))
    store.publish(staged)
    for part in staged:
        if part.table == RECEIPTS.name:
            ledger.receipt_days[part.day] = _captured_span(store, con, part.day)
    for capture in read:
        entry = ledger.captures[capture.source]
        bad = [reject_day] if capture.rejects else []
        entry |= {"days": sorted(capture.days), "reject_days": bad, "whole": True}
    store.save(ledger)


def _entry(capture: Capture, as_of: datetime, old: dict[str, Any]) -> dict[str, Any]:
    """A capture's entry while it is being published: where its rows may be, before or after."""
    reject_days = {str(as_of.date())} if capture.rejects else set()
    return {
        "digest": capture.digest, "format": capture.format, "bytes": capture.bytes,
        "lines": capture.lines, "receipts": capture.receipts, "rejects": capture.rejects,
        "blank": capture.blank, "as_of": iso(as_of), "whole": False,
        "days": sorted(capture.days.union(old.get("days", []))),
        "reject_days": sorted(reject_days.union(old.get("reject_days", []))),
    }  # fmt: skip


def _replace(
    store: Store, con: Backend, table: Table, day: str, sources: list[str], condition: str,
    files: list[str], as_of: datetime,
) -> Staged:  # fmt: skip
    """Stages a partition without what these sources gave it before, and with what they hold now."""
    columns = ", ".join(table.names)
    fresh = (
        f"SELECT {columns} FROM {_scan(files)} WHERE {condition}"  # noqa: S608 - our own names
        if files
        else store.query(table, [])
    )
    rows = f"""
        SELECT {columns} FROM ({store.query(table, [day])})
        WHERE source NOT IN ({", ".join(map(quote, sources))})
        UNION ALL ({fresh}) ORDER BY {", ".join(table.key)}
    """  # noqa: S608 - built from our own names, sources quoted
    return store.write(con, rows, table, day, as_of)


def _captured_span(store: Store, con: Backend, day: str) -> list[str]:
    """First and last UTC day on which receipts of a partition were captured; empty if unknown."""
    path = quote(str(store.path(RECEIPTS, day)))
    span = con.con.execute(
        f"SELECT min(captured_at)::TIMESTAMP::DATE, max(captured_at)::TIMESTAMP::DATE "  # noqa: S608 - paths are ours
        f"FROM read_parquet({path})"
    ).fetchone()
    return [str(d) for d in span] if span and span[0] else []


def _scan(files: Iterable[Path | str]) -> str:
    named = ", ".join(quote(str(file)) for file in files)
    return f"read_parquet([{named}], filename = true, hive_partitioning = false)"
