"""What captures hold, told without taking them in: what `ingest --dry-run` shows."""

# ruff: noqa: S608 - SQL is put together from names of our own; texts of others are quoted

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from reconcile.engine import quote
from reconcile.errors import InputError
from reconcile.receipts.identity import Known, Place
from reconcile.receipts.intake import PARTS, Capture, Intake, Progress, Wishes
from reconcile.receipts.lines import Mark, compression
from reconcile.store import Ledger, Store
from reconcile.tables import RECORDS

if TYPE_CHECKING:
    from ibis.backends.duckdb import Backend


@dataclass(frozen=True)
class Rejected:
    """Lines that were rejected for one reason, and the number of the first of them."""

    kind: str
    reason: str
    lines: int
    first_line: int


@dataclass
class Preview:
    """What one file holds.

    Attributes:
        path: the file.
        capture: the counts of its lines; none if it could not be read.
        compressed: by what.
        taken: how many of its lines an ingest has taken in already.
        rejected: the rejects by reason.
        first, last: the span of its receipts' times.
        ids, known_ids: how many messages it speaks of, and of how many the store has a record.
        problem: why it could not be read.
    """

    path: str
    capture: Capture | None = None
    compressed: str = ""
    taken: int = 0
    rejected: list[Rejected] = field(default_factory=list)
    first: datetime | None = None
    last: datetime | None = None
    ids: int = 0
    known_ids: int = 0
    problem: str = ""


def preview(
    store: Store,
    con: Backend,
    ledger: Ledger,
    files: list[Path],
    wishes: Wishes,
    progress: Progress,
    urls: Mapping[str, str] | None = None,
) -> list[Preview]:
    """Reads each file whole, and keeps nothing of it; `urls`: where some were fetched from."""
    intake = Intake(con, wishes, progress)
    known = Known({source: dict(entry) for source, entry in ledger.captures.items()})
    found = []
    for path in files:
        told = Preview((urls or {}).get(str(path), str(path)))
        try:
            place = known.place(path)
            told.taken = place.start.line if place else known.lines_of(path)
            told.compressed = compression(path).name
            whole = Place(path, told.path, Mark(), {}, "")
            told.capture, _reading = intake.read(whole)
            _look(store, con, told)
            intake.drop(whole)
        except InputError as error:
            told.problem = str(error).replace(str(path), told.path)
        found.append(told)
    intake.all_read()
    intake.close()
    return found


def _look(store: Store, con: Backend, told: Preview) -> None:
    own = f"FROM {PARTS} WHERE source = {quote(told.path)}"
    told.rejected = [
        Rejected(*row)
        for row in con.con.execute(
            f"SELECT kind, reason, count(*), min(line) {own} AND kind IS NOT NULL "
            "GROUP BY ALL ORDER BY 3 DESC, 4"
        ).fetchall()
    ]
    moment = "epoch_ms(coalesce(pushed_at, captured_at))"
    first, last, told.ids = con.con.execute(
        f"SELECT min({moment}), max({moment}), count(DISTINCT message_id) {own} AND kind IS NULL"
    ).fetchone() or (None, None, 0)
    if first is not None and last is not None:
        told.first, told.last = (datetime.fromtimestamp(ms / 1000, UTC) for ms in (first, last))
        days = _days_about(store, told.first.date(), told.last.date())
        [told.known_ids] = con.con.execute(
            f"SELECT count(*) FROM (SELECT DISTINCT message_id {own} AND kind IS NULL) "
            f"SEMI JOIN ({store.query(RECORDS, days)}) USING (message_id)"
        ).fetchone() or (0,)


def _days_about(store: Store, first: date, last: date) -> list[str]:
    """The days whose records receipts of this span can belong to."""
    start, end = str(first - timedelta(days=8)), str(last + timedelta(days=1))
    return [day for day in store.days(RECORDS) if start <= day <= end]
