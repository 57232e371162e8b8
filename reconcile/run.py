"""One run: the store that it holds, what it works with, and what it has to tell at its end."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import date, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from reconcile import __version__
from reconcile.days import iso, parse_moment
from reconcile.engine import limits_of
from reconcile.errors import DONE, EXCEEDED, INCOMPLETE, ReconcileError
from reconcile.settings import Settings
from reconcile.store import Ledger, Store
from reconcile.vocabulary import RULES_VERSION, VERDICTS

if TYPE_CHECKING:
    from ibis.backends.duckdb import Backend

Progress = Callable[[str, int], None]
# lines = receipts + rejects + blank
CAPTURED = ("lines", "receipts", "rejects", "blank")
# messages = the six verdicts; receipts of messages = attached + duplicates
JUDGED = ("messages", *VERDICTS, "receipts", "duplicates", "orphans", "uncovered")


@dataclass
class Run:
    """One run: what it works with, and what it has to tell at its end."""

    settings: Settings
    store: Store
    con: Backend
    ledger: Ledger
    as_of: datetime
    progress: Progress
    manifest: dict[str, Any] = field(default_factory=dict)
    holes: list[dict[str, str]] = field(default_factory=list)
    unread: list[str] = field(default_factory=list)
    exceeded: list[str] = field(default_factory=list)  # sentences of `--fail-on`
    found: dict[str, Any] = field(default_factory=dict)  # what it published (outcome.of_days)
    log_is_whole: bool = True  # the send log: what is not in one that is half here says nothing

    def hole(self, day: date | str, reason: str, account_id: str = "") -> None:
        """Notes that a day (`*`: every day) is incomplete, and why."""
        found = {"day": str(day), "account_id": account_id, "reason": reason}
        if found not in self.holes:
            self.holes.append(found)

    def note(self, kind: str, entry: dict[str, Any]) -> None:
        """Adds an entry to a list of the manifest."""
        self.manifest.setdefault(kind, []).append(entry)

    @property
    def slices(self) -> Path:
        """Where slices under way lie."""
        return self.store.work / "slices"

    @property
    def fetched(self) -> Path:
        """Where captures lie that were fetched from a bucket, while they are read."""
        return self.store.work / "captures"

    @property
    def exit_code(self) -> int:
        """What the run's end means to whoever started it."""
        if self.holes:
            return INCOMPLETE
        return EXCEEDED if self.exceeded else DONE


@contextmanager
def opened(
    settings: Settings, as_of: datetime, progress: Progress, *, given: bool = True
) -> Iterator[Run]:
    """A locked store, an engine within its limits, and the ledger."""
    from reconcile import aside, border, damage

    store = Store.open(settings.store, create=True)
    with (
        store.lock(settings.lock_expiry), aside.room(store, settings.temp_directory) as room,
        _engine(settings.memory_limit, settings.threads, room / "spill") as con,
    ):  # fmt: skip
        stopped = store.unfinished()
        if stopped and not given and stopped["as_of"][:10] == iso(as_of)[:10]:
            as_of = parse_moment(stopped["as_of"])
        try:
            border.set_key(con, settings)
            with damage.named(store, con, as_of):
                yield Run(settings, store, con, store.ledger(), as_of, progress)
        except ReconcileError:
            store.forget()  # an orderly end: only a run that was stopped hands down its days
            raise


@contextmanager
def looked_at(settings: Settings, as_of: datetime) -> Iterator[Run]:
    """A store to read, be there one or not; nothing is locked, and nothing may be written."""
    store = Store(settings.store)
    if store.is_begun:
        store = Store.open(settings.store)
    with _engine(*limits_of(settings, store.work)) as con:
        yield Run(settings, store, con, store.ledger(), as_of, lambda *_: None)


@contextmanager
def _engine(memory_limit: str | None, threads: int | None, spill: Path) -> Iterator[Backend]:
    from reconcile import engine

    con = engine.connect(memory_limit or engine.half_of_memory(), threads, spill)
    try:
        with engine.within_limits(spill):
            yield con
    finally:
        con.disconnect()


def finish(this: Run, command: str) -> None:
    """Writes the manifest, the last act of a run."""
    judged, captures = this.manifest.get("judged", []), this.manifest.get("captures", [])
    facts = {
        "run_id": uuid.uuid4().hex[:12],
        "command": command,
        "as_of": iso(this.as_of),
        "package_version": __version__,
        "rules_version": RULES_VERSION,
        "settings": this.settings.model_dump(mode="json", exclude={"accounts"}, exclude_unset=True),
        "exit_code": this.exit_code,
        "incomplete": this.holes,
        "exceeded": this.exceeded,
        # Each was held against its parts before anything was published.
        "sums": {
            "captured": {k: sum(c[k] for c in captures) for k in CAPTURED},
            "judged": {k: sum(d[k] for d in judged) for k in JUDGED},
        },
    }
    this.manifest = facts | this.manifest
    this.store.finish(this.manifest)


@contextmanager
def stage(this: Run, name: str) -> Iterator[None]:
    begun = time.monotonic()
    try:
        yield
    finally:
        seconds = this.manifest.setdefault("seconds", {})
        seconds[name] = round(time.monotonic() - begun, 3)
