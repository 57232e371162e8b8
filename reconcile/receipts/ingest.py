"""Takes captures into `receipts` and `rejects`: what is new, each line once.

A capture is read on from where it ended (`identity`). What is to be published stands in the ledger
first, so that a run stopped in between is undone, and done again, by the next.
"""

# ruff: noqa: S608 - SQL is put together from names of our own; texts of others are quoted

from __future__ import annotations

import glob
import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import pyarrow as pa

from reconcile.days import iso
from reconcile.engine import quote
from reconcile.errors import InputError
from reconcile.receipts.database import Query
from reconcile.receipts.identity import Known, Place, entry_of
from reconcile.receipts.intake import (
    COUNTED,
    PARTS,
    RAW_PARTS,
    Capture,
    CutError,
    Intake,
    Progress,
    Wishes,
)
from reconcile.receipts.lines import GoneError, Mark, is_quiet
from reconcile.store import Ledger, Staged, Store, in_order, prepared
from reconcile.tables import RECEIPTS, REJECTED_LINES, REJECTS, Table

if TYPE_CHECKING:
    from ibis.backends.duckdb import Backend

# Columns of few words: see `in_order`.
FEW = ("source", "account_id", "product", "network_code", "status", "error_code", "signature")


@dataclass(frozen=True)
class Problem:
    """What is wrong with a file; `unread`: none of it was taken in."""

    reason: str
    unread: bool


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
    as_of: datetime, wishes: Wishes, progress: Progress,
) -> Taken:  # fmt: skip
    """Reads what is new among `files` and in databases, and publishes it.

    A capture that cannot be read stops no other.

    Raises:
        ContractError: lines are unaccounted for.
    """
    taken, intake = Taken(), Intake(con, wishes, progress)
    known = Known({source: dict(entry) for source, entry in ledger.captures.items()})
    taken.problems += read_new(
        known, files, lambda place: _take(store, intake, known, place), taken.captures, intake.drop
    )
    for query in queries:
        try:
            if capture := _ask(store, intake, known, query, ledger.intake):
                taken.captures.append(capture)
        except InputError as error:
            intake.drop(Place(Path(query.name), query.name, Mark(), {}, ""))
            taken.problems.append(Problem(str(error), unread=True))
    intake.all_read()
    _publish(store, con, ledger, known, intake, taken.captures, as_of)
    intake.close()
    return taken


class Read(Protocol):
    """What a run read of one file, as far as reading one by one must know it."""

    @property
    def damage(self) -> str: ...


R = TypeVar("R", bound=Read)


def read_new(
    known: Known, files: list[Path], take: Callable[[Place], R | None], taken: list[R],
    drop: Callable[[Place], None],
) -> list[Problem]:  # fmt: skip
    """Reads what is new of each file; one that cannot be read stops no other.

    Args:
        known: the captures that are known.
        files: which.
        take: reads a place; None: nothing was new.
        taken: where it adds what was read.
        drop: takes back what was read of a place that failed.
    """
    problems = []
    for path in known.own_first(files):
        place = None
        try:
            place = known.place(path)
            if place and (capture := take(place)):
                taken.append(capture)
                if capture.damage and is_quiet(path):
                    problems.append(Problem(f"{path}: {capture.damage}", unread=False))
        except (GoneError, CutError) as error:
            if place:
                drop(place)
            if is_quiet(path):  # nobody has rotated it, so the next run would end the same way
                problems.append(Problem(str(error), unread=True))
        except InputError as error:
            if place:
                drop(place)
            problems.append(Problem(str(error), unread=True))
    return problems


def _take(store: Store, intake: Intake, known: Known, place: Place) -> Capture | None:
    """Reads what is new of one capture, and remembers how far; None: nothing was new."""
    before = place.entry
    capture, reading = intake.read(place)
    for other in place.perhaps if capture.receipts + capture.rejects else ():
        # Perhaps a copy that was not finished, or an older state of a longer capture.
        receipts = store.query(RECEIPTS, known.captures[other]["days"])
        rejected = store.query(REJECTED_LINES, store.days(REJECTED_LINES))
        if intake.stands_in(place, other, receipts, rejected):
            intake.drop(place)
            known.note_part(other, place)
            return None
    if not capture.receipts + capture.rejects and not before:
        return capture if capture.lines else None  # a header alone is no identity
    entry = {
        "path": str(place.path), "print": place.fingerprint, "format": capture.format,
        "mark": entry_of(reading.mark), "state": reading.state, "waits": capture.waits,
        "first": place.first, "damage": capture.damage, "copies": before.get("copies", []),
        "days": sorted(capture.days.union(before.get("days", []))),
        **{n: getattr(capture, n) + before.get(n, 0) for n in (*COUNTED, "strangers")},
    }  # fmt: skip
    known.remember(place.source, entry)
    return capture if capture.lines or capture.damage != before.get("damage", "") else None


def _ask(
    store: Store, intake: Intake, known: Known, query: Query, broken: dict[str, Any]
) -> Capture | None:
    """Reads the rows of a database that are new; None: none was."""
    entry = known.captures.get(query.name, {})
    days = {*entry.get("days", []), *broken.get("days", [])}
    # Of the keys that are looked at again, those that are here already.
    here = [store.query(RECEIPTS, sorted(days)), store.query(REJECTS, store.days(REJECTS))]
    rows = " UNION ALL ".join(f"SELECT source, line FROM ({each})" for each in here)
    capture, last = intake.ask(query, entry.get("last_key"), rows)
    if not capture.lines:
        return None
    known.remember(query.name, {
        "path": query.name, "print": "", "format": "sql", "mark": entry_of(Mark()), "state": {},
        "waits": 0, "damage": "", "last_key": last,
        "days": sorted(capture.days.union(entry.get("days", []))),
        **{n: getattr(capture, n) + entry.get(n, 0) for n in (*COUNTED, "strangers")},
    })  # fmt: skip
    return capture


def _publish(
    store: Store, con: Backend, ledger: Ledger, known: Known, intake: Intake,
    read_now: list[Capture], as_of: datetime,
) -> None:  # fmt: skip
    """Adds what was read to its days, without what a run before began to add and did not finish."""
    days, rejects = intake.days()
    reject_day = str(as_of.date())
    broken = ledger.intake
    if days or rejects or broken:
        days |= set(broken.get("days", []))
        reject_days = {*broken.get("reject_days", []), *([reject_day] if rejects else [])}
        cuts = {c.source: _before(ledger, c.source) for c in read_now} | broken.get("cuts", {})
        ledger.intake = {
            "cuts": cuts, "days": sorted(days), "reject_days": sorted(reject_days),
        }  # fmt: skip
        ledger.changed = sorted(days.union(ledger.changed))
        store.save(ledger)  # the intent: whatever happens now, the next run knows what to undo
        add = Addition(store, con, as_of, broken.get("cuts", {}))
        staged = [add.to(RECEIPTS, day, PARTS, f"day = '{day}'") for day in sorted(days)]
        for day in sorted(reject_days):
            wanted = "kind IS NOT NULL" if day == reject_day else "false"
            staged.append(add.to(REJECTS, day, PARTS, wanted))
            raw_wanted = "true" if day == reject_day else "false"
            staged.append(add.to(REJECTED_LINES, day, RAW_PARTS, raw_wanted))
        store.publish(staged)
        for part in staged:
            if part.table == RECEIPTS.name:
                ledger.receipt_days[part.day] = _captured_span(store, con, part.day)
        for capture in read_now:
            entry = known.captures.get(capture.source)
            if entry is not None:
                entry["as_of"] = iso(as_of)
    ledger.captures, ledger.intake = known.captures, {}
    store.save(ledger)


def _before(ledger: Ledger, source: str) -> int:
    """The last line of a capture that is published."""
    entry = ledger.captures.get(source)
    if entry is None:
        return -1
    return int(entry.get("last_key", entry["mark"]["line"]))


@dataclass(frozen=True)
class Addition:
    """Adds rows to partitions; `cuts`: behind which line of a source nothing may be there yet."""

    store: Store
    con: Backend
    as_of: datetime
    cuts: dict[str, int]

    def to(self, table: Table, day: str, parts: str, condition: str) -> Staged:
        """Stages a partition with what it has and what these parts add."""
        columns = ", ".join(table.names)
        old = self.store.query(table, [day])
        if self.cuts:
            cut = pa.table({"cut_source": list(self.cuts), "cut": list(self.cuts.values())})
            self.con.con.register("cuts", cut)
            old = (f"SELECT {columns} FROM ({old}) LEFT JOIN cuts ON source = cut_source "
                   "WHERE cut IS NULL OR line <= cut")  # fmt: skip
        both = f"({old}) UNION ALL (SELECT {columns} FROM {parts} WHERE {condition})"
        few = [name for name in FEW if name in table.names]
        words = f"SELECT DISTINCT unnest([{', '.join(few)}]) AS word FROM ({both})"
        with (
            prepared(self.con, both, table) as view,
            in_order(self.con, view, ", ".join(table.key), few, words) as ordered,
        ):
            return self.store.write_view(self.con, ordered, table, day, self.as_of)


def _captured_span(store: Store, con: Backend, day: str) -> list[str]:
    """First and last UTC day on which receipts of a partition were captured; empty if unknown."""
    path = quote(str(store.path(RECEIPTS, day)))
    span = con.con.execute(
        f"SELECT min(captured_at)::TIMESTAMP::DATE, max(captured_at)::TIMESTAMP::DATE "
        f"FROM read_parquet({path})"
    ).fetchone()
    return [str(d) for d in span] if span and span[0] else []
