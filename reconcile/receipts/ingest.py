"""Takes captures into `receipts` and `rejects`: what is new, each line once.

A capture that was read before and has not changed is not read again; one that changed is read anew
and its rows replace the ones it gave before. The intent stands in the ledger before anything is
published, so that a run stopped in between is mended by the next.
"""

from __future__ import annotations

import glob
import hashlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from reconcile.days import iso
from reconcile.engine import quote
from reconcile.errors import ContractError, InputError
from reconcile.receipts import normalise
from reconcile.receipts.formats import read_fields
from reconcile.store import Ledger, Staged, Store
from reconcile.tables import RECEIPTS, REJECTS, Table

if TYPE_CHECKING:
    import ibis
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
    digests = {path: _digest(path) for path in files}
    known = {c["digest"] for c in ledger.captures.values() if c.get("whole")}
    fresh = [path for path in files if digests[path] not in known]
    folder = store.staging / "captures"
    folder.mkdir(parents=True, exist_ok=True)
    read = [
        _read(con, path, digests[path], folder / f"{n:06d}", pii, progress)
        for n, path in enumerate(fresh)
    ]
    if read:
        _publish(store, con, ledger, read, folder, as_of)
    return read


def _digest(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise InputError(f"the capture {path} cannot be read: {error.strerror}") from None


def _read(
    con: Backend, path: Path, digest: str, prefix: Path, pii: str, progress: Progress
) -> Capture:
    """Reads one capture into raw parquet files beside `prefix`, block by block."""
    source = str(path)
    capture = Capture(source, digest, bytes=path.stat().st_size)
    capture.format, blocks = read_fields(con, path)
    for n, fields in enumerate(blocks):
        con.con.register("fields", fields)
        for kind, query in (
            ("receipts", normalise.receipts("fields", source, pii)),
            ("rejects", normalise.rejects("fields", source)),
        ):
            target = quote(f"{prefix}-{kind}-{n:06d}.parquet")
            con.con.execute(f"COPY ({query}) TO {target} (FORMAT parquet)")
        counts = con.con.execute("SELECT count(*), count(*) FILTER (blank) FROM fields").fetchone()
        con.con.unregister("fields")
        lines, blank = counts or (0, 0)
        capture.lines += lines
        capture.blank += blank
        progress(path.name, lines)
    for kind in ("receipts", "rejects"):
        files = sorted(prefix.parent.glob(f"{prefix.name}-{kind}-*.parquet"))
        if files:
            rows = con.con.execute(f"SELECT count(*) FROM {_scan(files)}").fetchone()  # noqa: S608 - paths are ours
            setattr(capture, kind, rows[0] if rows else 0)
    if capture.lines != capture.receipts + capture.rejects + capture.blank:
        raise ContractError(
            f"{source}: {capture.lines} lines, but {capture.receipts} receipts, "
            f"{capture.rejects} rejects and {capture.blank} blank"
        )
    return capture


def _publish(
    store: Store, con: Backend, ledger: Ledger, read: list[Capture], folder: Path, as_of: datetime
) -> None:
    """Replaces what these captures gave before, day by day."""
    files = sorted(folder.glob("*-receipts-*.parquet"))
    incoming = con.sql(f"SELECT * FROM {_scan(files)}")  # noqa: S608 - paths are ours
    for source, day in con.con.execute(
        f"SELECT DISTINCT source, day FROM {_scan(files)}"  # noqa: S608 - paths are ours
    ).fetchall():
        next(c for c in read if c.source == source).days.add(day)
    bad_files = sorted(folder.glob("*-rejects-*.parquet"))
    bad = con.sql(f"SELECT * FROM {_scan(bad_files)}")  # noqa: S608 - paths are ours
    before: dict[str, set[str]] = {"days": set(), "reject_days": set()}
    for capture in read:
        old = ledger.captures.get(capture.source, {})
        before["days"] |= set(old.get("days", []))
        before["reject_days"] |= set(old.get("reject_days", []))
        ledger.captures[capture.source] = _entry(capture, as_of, old)
    store.save(ledger)  # the intent: whatever happens now, the next run knows what to replace

    sources = [capture.source for capture in read]
    reject_day = str(as_of.date())
    staged = []
    for day in sorted(before["days"].union(*(c.days for c in read))):
        new = incoming.filter(incoming.day == day).drop("day")
        staged.append(_replace(store, con, RECEIPTS, day, sources, new, as_of))
    for day in sorted(before["reject_days"] | {reject_day}):
        new = bad if day == reject_day else bad.limit(0)
        staged.append(_replace(store, con, REJECTS, day, sources, new, as_of))
    store.publish(staged)
    for part in staged:
        if part.table == RECEIPTS.name:
            ledger.receipt_days[part.day] = _captured_span(store, con, part.day)
    for capture in read:
        entry = ledger.captures[capture.source]
        entry |= {"days": sorted(capture.days), "reject_days": [reject_day], "whole": True}
    store.save(ledger)


def _entry(capture: Capture, as_of: datetime, old: dict[str, object]) -> dict[str, object]:
    def joined(key: str, new: set[str]) -> list[str]:
        known = old.get(key, [])
        return sorted(new.union(known if isinstance(known, list) else []))

    return {
        "digest": capture.digest, "format": capture.format, "bytes": capture.bytes,
        "lines": capture.lines, "receipts": capture.receipts, "rejects": capture.rejects,
        "blank": capture.blank, "as_of": iso(as_of), "days": joined("days", capture.days),
        "reject_days": joined("reject_days", {str(as_of.date())}), "whole": False,
    }  # fmt: skip


def _replace(
    store: Store, con: Backend, table: Table, day: str, sources: list[str], new: ibis.Table,
    as_of: datetime,
) -> Staged:  # fmt: skip
    old = store.read(con, table, [day])
    rows = old.filter(old.source.notin(sources)).union(new.select(table.names))
    return store.write(con, rows.order_by(list(table.key)), table, day, as_of)


def _captured_span(store: Store, con: Backend, day: str) -> list[str]:
    """First and last UTC day on which receipts of a partition were captured; empty if unknown."""
    path = quote(str(store.path(RECEIPTS, day)))
    span = con.con.execute(
        f"SELECT min(strftime(captured_at::TIMESTAMP, '%Y-%m-%d')), "  # noqa: S608 - paths are ours
        f"max(strftime(captured_at::TIMESTAMP, '%Y-%m-%d')) FROM read_parquet({path})"
    ).fetchone()
    return [str(d) for d in span] if span and span[0] else []


def _scan(files: list[Path]) -> str:
    return f"read_parquet([{', '.join(quote(str(f)) for f in files)}])"
