"""What is new in files, added to the store: each line once, however a run ends.

Receipts and send logs are taken in alike; a `Kind` says where each of them stands. What is to be
published stands in the ledger first, so that a run stopped in between is undone, and done again, by
the next.
"""

# ruff: noqa: S608 - SQL is put together from names of our own; texts of others are quoted

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import pyarrow as pa

from reconcile.days import iso
from reconcile.errors import InputError
from reconcile.receipts.formats import Reading
from reconcile.receipts.identity import Known, Place, entry_of
from reconcile.receipts.lines import CutError, GoneError, is_quiet
from reconcile.store import Ledger, Staged, Store, prepared
from reconcile.tables import REJECTED_LINES, REJECTS, Table

if TYPE_CHECKING:
    from ibis.backends.duckdb import Backend


@dataclass
class FileRead:
    """What a run read of one file; lines = those that were kept + rejects + blank.

    Attributes:
        source: its name in the tables.
        path: where it lay.
        format: which it is in.
        lines, rejects, blank: what was read now; `strangers` of the rejects are by nature not what
            is looked for, the others are errors.
        days: the partitions of what was kept.
        waits: bytes of a last line that has no end yet.
        damage: why it could not be read to its end.
    """

    source: str
    path: str
    format: str = ""
    lines: int = 0
    rejects: int = 0
    strangers: int = 0
    blank: int = 0
    days: set[str] = field(default_factory=set)
    waits: int = 0
    damage: str = ""

    @property
    def kept(self) -> int:
        """How many lines were neither rejected nor blank."""
        return self.lines - self.rejects - self.blank


R = TypeVar("R", bound=FileRead)
R_co = TypeVar("R_co", bound=FileRead, covariant=True)


class Reader(Protocol[R_co]):
    """Reads files into tables of the engine, from which they are published or dropped."""

    def read(self, place: Place) -> tuple[R_co, Reading]: ...

    def stands_in(self, place: Place, other: str, kept: str, rejected: str) -> bool: ...

    def drop(self, place: Place) -> None: ...

    def days(self) -> tuple[set[str], bool]: ...


@dataclass(frozen=True)
class Kind:
    """What is taken in, and where it stands.

    Attributes:
        table: its table.
        known, intent, changed: fields of the ledger: its files, what a run set out to publish, and
            the partitions that no run has judged since.
        counted: what the ledger counts of each file.
        parts: the engine's table of what is read; its `day` names the partition.
        bad_parts, bad: that of the rejects, and which of its rows they are.
        raw_parts: that of their bytes.
    """

    table: Table
    known: str
    intent: str
    changed: str
    counted: tuple[str, ...]
    parts: str
    bad_parts: str
    bad: str
    raw_parts: str


@dataclass(frozen=True)
class Problem:
    """What is wrong with a file; `unread`: none of it was taken in."""

    reason: str
    unread: bool


def known_of(
    ledger: Ledger, kind: Kind, prefix: str = "", urls: Mapping[str, str] | None = None
) -> Known:
    """The files that the ledger knows; new ones are named with this prefix, by path or URL."""
    found: dict[str, dict[str, Any]] = getattr(ledger, kind.known)
    return Known({source: dict(entry) for source, entry in found.items()}, prefix, dict(urls or {}))


def read_new(
    store: Store, reader: Reader[R], kind: Kind, known: Known, files: list[Path]
) -> tuple[list[R], list[Problem]]:
    """Reads what is new of each file; one that cannot be read stops no other."""
    taken, problems = [], []
    for path in known.own_first(files):
        place = None
        try:
            place = known.place(path)
            if place and (found := _take(store, reader, kind, known, place)):
                taken.append(found)
                if found.damage and is_quiet(path):
                    problems.append(Problem(f"{path}: {found.damage}", unread=False))
        except (GoneError, CutError) as error:
            if place:
                reader.drop(place)
            if is_quiet(path):  # nobody has rotated it, so the next run would end the same way
                problems.append(Problem(str(error), unread=True))
        except InputError as error:
            if place:
                reader.drop(place)
            problems.append(Problem(str(error), unread=True))
    return taken, problems


def _take(store: Store, reader: Reader[R], kind: Kind, known: Known, place: Place) -> R | None:
    """Reads what is new of one file, and remembers how far; None: nothing was new."""
    before = place.entry
    found, reading = reader.read(place)
    for other in place.perhaps if found.kept + found.rejects else ():
        # Perhaps a copy that was not finished, or an older state of a longer file.
        kept = store.query(kind.table, known.captures[other]["days"])
        rejected = store.query(REJECTED_LINES, store.days(REJECTED_LINES))
        if reader.stands_in(place, other, kept, rejected):
            reader.drop(place)
            known.note_part(other, place)
            return None
    if not found.kept + found.rejects and not before:
        return found if found.lines else None  # a header alone is no identity
    known.remember(place.source, {
        "path": str(place.path), "print": place.fingerprint, "format": found.format,
        "mark": entry_of(reading.mark), "state": reading.state, "waits": found.waits,
        "first": place.first, "damage": found.damage, "copies": before.get("copies", []),
        "days": sorted(found.days.union(before.get("days", []))),
        **{n: getattr(found, n) + before.get(n, 0) for n in kind.counted},
    })  # fmt: skip
    return found if found.lines or found.damage != before.get("damage", "") else None


def publish(
    store: Store, con: Backend, ledger: Ledger, kind: Kind, known: Known, reader: Reader[R],
    read_now: list[R], as_of: datetime, note: Callable[[Staged], None] = lambda _part: None,
) -> None:  # fmt: skip
    """Adds what was read to its days, without what a run before began to add and did not finish.

    Args:
        store, con, ledger: where to.
        kind: what was read.
        known: the files, as they are known now.
        reader: which holds what was read.
        read_now: what was read.
        as_of: the run's.
        note: told of each partition once it is published, before the ledger is saved.
    """
    staged: list[Staged] = []
    days, rejects = reader.days()
    reject_day, broken = str(as_of.date()), getattr(ledger, kind.intent)
    if days or rejects or broken:
        days |= set(broken.get("days", []))
        reject_days = {*broken.get("reject_days", []), *([reject_day] if rejects else [])}
        cuts = {each.source: _before(ledger, kind, each.source) for each in read_now}
        with store.alone():
            setattr(ledger, kind.intent, {
                "cuts": cuts | broken.get("cuts", {}), "days": sorted(days),
                "reject_days": sorted(reject_days),
            })  # fmt: skip
            setattr(ledger, kind.changed, sorted(days.union(getattr(ledger, kind.changed))))
            store.save(ledger)  # the intent: whatever happens now, the next run knows what to undo
        add = _Addition(store, con, as_of, broken.get("cuts", {}))
        staged = [add.to(kind.table, day, kind.parts, f"day = '{day}'") for day in sorted(days)]
        with store.alone():  # a download has rejects, too
            for day in sorted(reject_days):
                today = day == reject_day
                staged.append(add.to(REJECTS, day, kind.bad_parts, kind.bad if today else "false"))
                staged.append(add.to(REJECTED_LINES, day, kind.raw_parts, str(today)))
            store.publish(staged)
        for each in read_now:
            if entry := known.captures.get(each.source):
                entry["as_of"] = iso(as_of)
    with store.alone():
        for part in staged:
            note(part)
        setattr(ledger, kind.known, known.captures)
        setattr(ledger, kind.intent, {})
        store.save(ledger)


def _before(ledger: Ledger, kind: Kind, source: str) -> int:
    """The last line of a file that is published."""
    entry = getattr(ledger, kind.known).get(source)
    return -1 if entry is None else int(entry.get("last_key", entry["mark"]["line"]))


@dataclass(frozen=True)
class _Addition:
    """Adds rows to partitions; `cuts`: behind which line of a source nothing may be there yet."""

    store: Store
    con: Backend
    as_of: datetime
    cuts: dict[str, int]

    def to(self, table: Table, day: str, parts: str, condition: str) -> Staged:
        """Stages a partition with what it has and what these parts add.

        Only rejects, which people read, are in order: sorting the others takes half as long as
        writing them, for nobody.
        """
        columns = ", ".join(table.names)
        old = self.store.query(table, [day])
        if self.cuts:
            cut = pa.table({"cut_source": list(self.cuts), "cut": list(self.cuts.values())})
            self.con.con.register("cuts", cut)
            old = (f"SELECT {columns} FROM ({old}) LEFT JOIN cuts ON source = cut_source "
                   "WHERE cut IS NULL OR line <= cut")  # fmt: skip
        both = f"({old}) UNION ALL (SELECT {columns} FROM {parts} WHERE {condition})"
        if table in (REJECTS, REJECTED_LINES):
            both += f" ORDER BY {', '.join(table.key)}"
        with prepared(self.con, both, table) as view:
            return self.store.write_view(self.con, view, table, day, self.as_of)
