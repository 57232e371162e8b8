"""Takes captures into `receipts` and `rejects`: what is new, in files and in databases."""

# ruff: noqa: S608 - SQL is put together from names of our own; texts of others are quoted

from __future__ import annotations

import glob
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from reconcile.errors import InputError
from reconcile.receipts.adding import Kind, Problem, known_of, publish, read_new
from reconcile.receipts.database import Query
from reconcile.receipts.identity import Known, Place, entry_of
from reconcile.receipts.intake import (
    COUNTED,
    PARTS,
    RAW_PARTS,
    Capture,
    Intake,
    Progress,
    Wishes,
)
from reconcile.receipts.lines import Mark
from reconcile.store import Ledger, Staged, Store
from reconcile.tables import RECEIPTS, REJECTS

if TYPE_CHECKING:
    from ibis.backends.duckdb import Backend

KIND = Kind(
    RECEIPTS, "captures", "intake", "changed", (*COUNTED, "strangers"),
    PARTS, PARTS, "kind IS NOT NULL", RAW_PARTS,
)  # fmt: skip


@dataclass
class Taken:
    """What an ingest did: the captures that it read, and what is wrong with files."""

    captures: list[Capture] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)


def find(patterns: Iterable[str]) -> tuple[list[Path], list[str]]:
    """The files that globs and folders name, each once, and those that name none."""
    files: dict[Path, None] = {}
    nothing = []
    for pattern in patterns:
        found = sorted(
            path
            for place in glob.glob(pattern, recursive=True)  # noqa: PTH207 - absolute patterns too
            for path in _files(Path(place))
        )
        if not found:
            nothing.append(pattern)
        files |= dict.fromkeys(found)
    return list(files), nothing


def _files(place: Path) -> Iterator[Path]:
    """A file, or all files of a folder but hidden ones; links to folders are not followed."""
    try:
        if place.is_dir():
            for folder, folders, names in os.walk(place):
                folders[:] = sorted(name for name in folders if not name.startswith("."))
                for name in names:
                    path = Path(folder, name)
                    if not name.startswith(".") and path.is_file():
                        yield path.resolve()
        elif place.is_file():
            yield place.resolve()
    except (OSError, RuntimeError):  # links in a circle
        return


def ingest(
    store: Store, con: Backend, ledger: Ledger, files: list[Path], queries: list[Query],
    as_of: datetime, wishes: Wishes, progress: Progress, urls: Mapping[str, str] | None = None,
) -> Taken:  # fmt: skip
    """Reads what is new among `files` and in databases, and publishes it.

    `urls` tells where files came from that were fetched, by path.

    A capture that cannot be read stops no other.

    Raises:
        ContractError: lines are unaccounted for.
    """
    intake, known = Intake(con, wishes, progress), known_of(ledger, KIND, urls=urls)
    taken = Taken(*read_new(store, intake, KIND, known, files))
    for query in queries:
        try:
            if capture := _ask(store, intake, known, query, ledger.intake):
                taken.captures.append(capture)
        except InputError as error:
            intake.drop(Place(Path(query.name), query.name, Mark(), {}, ""))
            taken.problems.append(Problem(str(error), unread=True))
    intake.all_read()

    def note(part: Staged) -> None:
        if part.table == RECEIPTS.name:
            ledger.receipt_days[part.day] = _captured_span(store, con, part.day)

    publish(store, con, ledger, KIND, known, intake, taken.captures, as_of, note)
    intake.close()
    return taken


def _ask(
    store: Store, intake: Intake, known: Known, query: Query, broken: dict[str, Any]
) -> Capture | None:
    """Reads the rows of a database that are new; None: none was."""
    entry = known.captures.get(query.name, {})
    days = {*entry.get("days", []), *broken.get("days", [])}
    # Of the keys that are looked at again, those that are here already.
    with store.alone():  # a bucket's are fetched: none that a download replaces meanwhile
        here = [store.query(RECEIPTS, sorted(days)), store.query(REJECTS, store.days(REJECTS))]
    rows = " UNION ALL ".join(f"SELECT source, line FROM ({each})" for each in here)
    capture, last = intake.ask(query, entry.get("last_key"), rows)
    if not capture.lines:
        return None
    known.remember(query.name, {
        "path": query.name, "print": "", "format": "sql", "mark": entry_of(Mark()), "state": {},
        "waits": 0, "damage": "", "last_key": last,
        "days": sorted(capture.days.union(entry.get("days", []))),
        **{n: getattr(capture, n) + entry.get(n, 0) for n in KIND.counted},
    })  # fmt: skip
    return capture


def _captured_span(store: Store, con: Backend, day: str) -> list[str]:
    """First and last UTC day on which receipts of a partition were captured; empty if unknown."""
    rows = store.query(RECEIPTS, [day])
    span = con.con.execute(
        f"SELECT min(captured_at)::TIMESTAMP::DATE, max(captured_at)::TIMESTAMP::DATE FROM ({rows})"
    ).fetchone()
    return [str(d) for d in span] if span and span[0] else []
