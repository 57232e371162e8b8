"""The nightly job: `run` reads as its table of contents, each stage is one function below it."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from typing import TYPE_CHECKING, Any

from reconcile import __version__
from reconcile.days import (
    DAY,
    day_of,
    day_window,
    days_between,
    end_of,
    iso,
    parse_moment,
    start_of,
)  # fmt: skip
from reconcile.engine import quote
from reconcile.errors import (
    DONE,
    INCOMPLETE,
    AuthError,
    BudgetError,
    ReconcileError,
    UsageError,
    VonageError,
)
from reconcile.settings import Account, Settings
from reconcile.store import UNDATED, Ledger, Store
from reconcile.tables import RECEIPTS, RECORDS
from reconcile.vocabulary import FINAL, RULES_VERSION, VERDICTS

if TYPE_CHECKING:
    from ibis.backends.duckdb import Backend

Progress = Callable[[str, int], None]
# lines = receipts + rejects + blank
CAPTURED = ("lines", "receipts", "rejects", "blank")
# messages = the six verdicts; receipts of messages = attached + duplicates
JUDGED = ("messages", *VERDICTS, "receipts", "duplicates", "orphans", "uncovered")


@dataclass(frozen=True)
class Asked:
    """The days a run is asked for, `end` excluded; both None: what the nightly cron wants."""

    start: date | None = None
    end: date | None = None


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

    def hole(self, day: date | str, reason: str, account_id: str = "") -> None:
        """Notes that a day is incomplete, and why."""
        self.holes.append({"day": str(day), "account_id": account_id, "reason": reason})

    def note(self, kind: str, entry: dict[str, Any]) -> None:
        """Adds an entry to a list of the manifest."""
        self.manifest.setdefault(kind, []).append(entry)

    @property
    def exit_code(self) -> int:
        """What the run's end means to whoever started it."""
        return INCOMPLETE if self.holes else DONE


def run(
    settings: Settings, asked: Asked, as_of: datetime, progress: Progress, *, given: bool = True
) -> Run:
    """Downloads, ingests, judges and publishes; the manifest is its last act.

    Args:
        settings: as loaded.
        asked: the days.
        as_of: the only clock.
        progress: told of each step: what, and how many rows more.
        given: whether somebody chose this as_of; if not, a run of the same day that was stopped
            lends its own, so that it is finished rather than begun again.

    Raises:
        ReconcileError: nothing could be judged, or something is broken; what was published before
            stays as it was.
    """
    accounts = settings.credentials()
    with opened(settings, as_of, progress, given=given) as this:
        days = plan(this, asked, accounts)
        with _stage(this, "fetch"):
            fetch(this, days, accounts)
        with _stage(this, "ingest"):
            heard = ingest(this, settings.dlr)
        with _stage(this, "judge"):
            if heard:
                judge(this, days)
            else:
                for day in days:
                    this.hole(day, "not judged: captures are missing")
        finish(this, "run")
    return this


@contextmanager
def opened(
    settings: Settings, as_of: datetime, progress: Progress, *, given: bool = True
) -> Iterator[Run]:
    """A locked store, an engine within its limits, and the ledger."""
    from reconcile import border, engine

    store = Store.open(settings.store, create=True)
    with store.lock():
        stopped = store.unfinished()
        if stopped and not given and stopped["as_of"][:10] == iso(as_of)[:10]:
            as_of = parse_moment(stopped["as_of"])
        memory = settings.memory_limit or engine.half_of_memory()
        spill = settings.temp_directory or store.work / "spill"
        con = engine.connect(memory, settings.threads, spill)
        try:
            border.set_key(con, settings)
            yield Run(settings, store, con, store.ledger(), as_of, progress)
        except ReconcileError:
            store.forget()  # an orderly end: only a run that was stopped hands down its days
            raise
        finally:
            con.disconnect()


def plan(this: Run, asked: Asked, accounts: list[Account]) -> list[date]:
    """The days to work on, in order; days that have not settled are named as holes.

    Without dates: from the last whole day to yesterday, at most `lookback`, and every open day. A
    run that was stopped hands down its days, whatever this one was asked for.
    """
    if asked.start is not None and asked.end is not None:
        days = set(days_between(asked.start, asked.end))
    else:
        today = day_of(this.as_of)
        oldest = today - timedelta(days=max(this.settings.lookback // DAY, 1))
        whole = [_last_whole(this.ledger, account.account_id) for account in accounts]
        starts = [max(day + DAY, oldest) if day else oldest for day in whole]
        days = {*days_between(min(starts, default=today), today), *open_days(this.ledger)}
    ahead = sorted(day for day in days if start_of(day) > this.as_of)
    if ahead:
        raise UsageError(f"{ahead[0]} lies in the future of {iso(this.as_of)}: ask for past days")
    stopped = this.store.unfinished() or {}
    days |= {date.fromisoformat(day) for day in stopped.get("days", [])}
    settled = sorted(day for day in days if end_of(day) + this.settings.settle <= this.as_of)
    for day in sorted(days.difference(settled)):
        this.hole(day, f"skipped: it settles at {iso(end_of(day) + this.settings.settle)}")
    this.store.begin({"as_of": iso(this.as_of), "days": [str(day) for day in settled]})
    return settled


def open_days(ledger: Ledger) -> set[date]:
    """Days that were downloaded and not judged since everything in them was mature."""
    fetched = {date.fromisoformat(d["start"][:10]) for d in ledger.downloads}
    return {day for day in fetched if not ledger.judged.get(str(day), {}).get("closed")}


def _last_whole(ledger: Ledger, account_id: str) -> date | None:
    from reconcile.reports.download import is_whole

    fetched = {date.fromisoformat(d["start"][:10]) for d in ledger.downloads}
    return max((day for day in fetched if is_whole(ledger, account_id, day)), default=None)


def fetch(this: Run, days: list[date], accounts: list[Account]) -> None:
    """Downloads what is not whole, and asks again by id for what was not final.

    What fails is a hole. Where nothing is left that could be judged, the failure is raised.
    """
    from reconcile.reports.client import Client
    from reconcile.reports.download import Budget, is_whole

    budget, failure = Budget(this.settings.max_billed_records), None
    for account in accounts:
        client = Client(account, this.settings)
        try:
            for day in days:
                whole = is_whole(this.ledger, account.account_id, day)
                work = _refresh_day if whole else _fetch_day
                try:
                    work(this, client, account.account_id, day, budget)
                except VonageError as error:
                    failure = failure or error
                    this.hole(day, str(error), account.account_id)
                    if isinstance(error, (AuthError, BudgetError)):
                        break
        finally:
            client.close()
    this.manifest["billed"] = {"run": budget.spent, "store": this.ledger.billed}
    if failure and not any(day_is_here(this, day) for day in days):
        raise failure


def day_is_here(this: Run, day: date) -> bool:
    """Whether some account's records of a day were downloaded whole."""
    return any(d["start"] <= iso(start_of(day)) and d["end"] >= iso(end_of(day))
               for d in this.ledger.downloads)  # fmt: skip


def _fetch_day(this: Run, client: Any, account_id: str, day: date, budget: Any) -> None:
    from reconcile.reports import download

    part = download.Slice(account_id, day_window(day))
    via = download.choose_via(this.settings, this.ledger, part)
    folder = this.store.work / "slices"
    begun = download.begun_at(part, folder, this.as_of)
    got = download.fetch_slice(client, part, via, this.settings, folder, budget, this.progress)
    bad = download.take_in(
        this.store, this.con, this.ledger, got, this.as_of, this.settings.pii, fetched_at=begun
    )
    this.note("downloads", {
        "day": str(day), "account_id": account_id, "via": via, "request_id": got.request_id,
        "records": got.rows - bad, "rejects": bad, "billed": got.billed,
        "new_columns": got.new_columns,
    })  # fmt: skip


def _refresh_day(this: Run, client: Any, account_id: str, day: date, budget: Any) -> None:
    """Asks by id for the messages of a whole day that are neither final nor mature."""
    from reconcile.reports import download

    grace = round(this.settings.grace.total_seconds() * 1000)
    default = round(this.settings.validity.total_seconds() * 1000)
    mature = f"epoch_ms(received_at) + coalesce(validity_ms, {default}) + {grace}"
    final = ", ".join(map(quote, FINAL))
    found = this.con.con.execute(
        f"""
        SELECT message_id FROM ({this.store.query(RECORDS, [day])})
        WHERE account_id = $account AND (status IS NULL OR status NOT IN ({final}))
            AND fetched_at < TIMESTAMPTZ '{iso(this.as_of)}' AND epoch_ms(fetched_at) < {mature}
        ORDER BY message_id
        """,  # noqa: S608 - built from our own names only
        {"account": account_id},
    ).fetchall()
    ids = [row[0] for row in found]
    room = this.settings.refresh_limit - sum(r["asked"] for r in this.manifest.get("refreshes", []))
    asked = ids[: max(room, 0)]
    if not ids:
        return
    before = len(this.ledger.refreshes)
    try:
        if asked:
            download.refresh(
                this.store, this.con, client, this.ledger, day, asked, account_id,
                this.as_of, this.settings.pii, budget, this.progress,
            )  # fmt: skip
    finally:
        done = this.ledger.refreshes[before:]
        answered = sum(entry["asked"] for entry in done)
        this.note("refreshes", {
            "day": str(day), "account_id": account_id, "asked": answered,
            "found": sum(entry["billed"] for entry in done), "left_out": len(ids) - answered,
        })  # fmt: skip


def ingest(this: Run, patterns: list[str]) -> bool:
    """Reads the captures that are new; says whether every glob named one."""
    from reconcile.receipts import ingest as captures

    files, nothing = captures.find(patterns)
    for pattern in nothing:
        this.hole("*", f"--dlr {pattern} matches no file: are the captures there?")
    read = captures.ingest(this.store, this.con, this.ledger, files, this.as_of,
                           this.settings.pii, this.progress)  # fmt: skip
    for capture in read:
        this.note("captures", {
            "source": capture.source, "digest": capture.digest, "format": capture.format,
            "bytes": capture.bytes, "lines": capture.lines, "receipts": capture.receipts,
            "rejects": capture.rejects, "blank": capture.blank,
        })  # fmt: skip
    return not nothing


def judge(this: Run, days: list[date]) -> None:
    """Judges and publishes each day whose records are here; a deaf day is a hole."""
    from reconcile import judging

    ours = this.settings.account_ids() | {d["account_id"] for d in this.ledger.downloads}
    named = {hole["day"] for hole in this.holes}
    with judging.Bench(
        this.store, this.con, this.ledger, this.settings, this.as_of, frozenset(ours)
    ) as bench:
        for day in days:
            if day_is_here(this, day):
                _judge_day(this, bench, day)
            elif str(day) not in named:
                this.hole(day, "not downloaded")
        alone = _days_of_receipts_alone(this)
        for lone in alone:
            this.store.publish([judging.judge_orphans(bench, lone, covered=False)])
    looked_at = {*map(str, days), *(str(lone or UNDATED) for lone in alone)}
    this.ledger.changed = [day for day in this.ledger.changed if day not in looked_at]
    this.store.save(this.ledger)


def _days_of_receipts_alone(this: Run) -> list[date | None]:
    """Past days without records, but with receipts that no run has judged; None: the undated."""
    past = [d for d in this.ledger.changed if d != UNDATED and d < str(day_of(this.as_of))]
    days = [day for day in map(date.fromisoformat, past) if not day_is_here(this, day)]
    return [*days, *([None] if UNDATED in this.store.days(RECEIPTS) else [])]


def _judge_day(this: Run, bench: Any, day: date) -> None:
    from reconcile import judging

    covered = all(day_is_here(this, d) for d in judging.covering_days(bench, day))
    judged = judging.judge_day(bench, day, covered=covered)
    this.progress(f"judged {day}", judged.counts["messages"])
    if judged.deaf:
        this.hole(day, "records ended and not one receipt came: are the captures whole?")
    else:
        this.note("judged", {"day": str(day), "closed": judged.closed, **judged.counts})


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
        # Each was held against its parts before anything was published.
        "sums": {
            "captured": {k: sum(c[k] for c in captures) for k in CAPTURED},
            "judged": {k: sum(d[k] for d in judged) for k in JUDGED},
        },
    }
    this.manifest = facts | this.manifest
    this.store.finish(this.manifest)


@contextmanager
def _stage(this: Run, name: str) -> Iterator[None]:
    begun = time.monotonic()
    try:
        yield
    finally:
        seconds = this.manifest.setdefault("seconds", {})
        seconds[name] = round(time.monotonic() - begun, 3)
