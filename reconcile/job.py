"""The nightly job: `run` reads as its table of contents, each stage is one function below it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import TYPE_CHECKING, Any

from reconcile.days import DAY, day_of, days_between, end_of, iso, start_of
from reconcile.errors import InputError, UsageError
from reconcile.reports.plan import Step, days_lacking, sources_of
from reconcile.reports.slices import Source, days_with, is_whole
from reconcile.run import Progress as Progress
from reconcile.run import Run as Run
from reconcile.run import finish as finish
from reconcile.run import opened as opened
from reconcile.run import stage
from reconcile.settings import Settings
from reconcile.store import UNDATED, Ledger
from reconcile.tables import NETWORKS, ORPHANS, RECEIPTS, UNRECORDED

if TYPE_CHECKING:
    from reconcile.judging import Bench
    from reconcile.receipts.intake import Wishes

# Networks are judged with so many days before: see `judge.networks.SPANS`.
LONGEST_SPAN = 7


@dataclass(frozen=True)
class Asked:
    """The days a run is asked for, `end` excluded; both None: what the nightly cron wants."""

    start: date | None = None
    end: date | None = None


@dataclass(frozen=True)
class Foreseen:
    """What a run would ask: slices, and how many messages of each source by id."""

    steps: list[Step]
    by_id: dict[Source, int]


def run(
    settings: Settings, asked: Asked, as_of: datetime, progress: Progress, *, given: bool = True
) -> Run:
    """Downloads and beside it ingests, judges and publishes; the manifest is its last act.

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
    from reconcile.fetching import connected
    from reconcile.meanwhile import meanwhile
    from reconcile.refreshing import ask_again

    accounts = settings.credentials()
    refuse_engine(settings)
    with opened(settings, as_of, progress, given=given) as this:
        days = plan(this, asked)
        with meanwhile(this, take_in) as taken_in, connected(this, accounts) as vonage:
            with stage(this, "fetch"):
                fetch(this, vonage, days)
            heard = taken_in()
            if this.unread:
                raise InputError("; ".join(this.unread))
            if heard:
                with bench_of(this) as bench:
                    with stage(this, "judge"):
                        days = judge(this, bench, days, heal=asked.start is None)
                    with stage(this, "ask again"):
                        doubtful = ask_again(this, vonage, days)
                    if doubtful:
                        with stage(this, "judge again"):
                            judge(this, bench, doubtful)
            else:
                for day in days:
                    this.hole(day, "not judged: captures are missing")
        assess(this)
        finish(this, "run")
    return this


def plan(this: Run, asked: Asked, *, offline: bool = False) -> list[date]:
    """The days to work on, in order; days that have not settled are named as holes.

    Offline nothing can be downloaded, so no day is wanted that is not here. A run that was stopped
    hands down its days, whatever this one was asked for.
    """
    days = wanted_days(this, asked, offline=offline)
    stopped = this.store.unfinished() or {}
    handed = (day for day in stopped.get("days", []) if day >= this.ledger.pruned)
    days |= set(map(date.fromisoformat, handed))
    settled = sorted(day for day in days if end_of(day) + this.settings.settle <= this.as_of)
    for day in sorted(days.difference(settled)):
        this.hole(day, f"skipped: it settles at {iso(end_of(day) + this.settings.settle)}")
    this.store.begin({"as_of": iso(this.as_of), "days": [str(day) for day in settled]})
    return settled


def wanted_days(this: Run, asked: Asked, *, offline: bool = False) -> set[date]:
    """The days that are asked for; without dates what the night wants.

    That is every day that is not whole since the first that was downloaded (at first those of
    `lookback`), and every open day.
    """
    if asked.start is not None and asked.end is not None:
        days = set(days_between(asked.start, asked.end))
    else:
        today, days = day_of(this.as_of), open_days(this.ledger)
        for source in [] if offline else sources_of(this.settings, this.ledger):
            days.update(days_lacking(this.ledger, this.settings, source, today))
    ahead = sorted(day for day in days if start_of(day) > this.as_of)
    if ahead:
        raise UsageError(f"{ahead[0]} lies in the future of {iso(this.as_of)}: ask for past days")
    refuse_pruned(this, days)
    return days


def refuse_pruned(this: Run, days: set[date]) -> None:
    """Lets no day come back that was dropped: what it is judged with is gone, too.

    Raises:
        UsageError: one of these days was pruned.
    """
    for day in sorted(days)[:1]:
        if str(day) < this.ledger.pruned:
            raise UsageError(
                f"{day} was pruned, {this.ledger.pruned} is the first day of this store: ask for "
                "later days, or name another store with --store"
            )


def foresee(this: Run, asked: Asked) -> Foreseen:
    """What a run would ask of Vonage now. Asks nothing, and changes nothing."""
    from reconcile import fetching, refreshing

    days = sorted(day for day in wanted_days(this, asked)
                  if end_of(day) + this.settings.settle <= this.as_of)  # fmt: skip
    sources = sources_of(this.settings, this.ledger)
    by_id = refreshing.not_final(this, days)
    for source, messages in refreshing.contradicted(this, days).items():
        by_id.setdefault(source, []).extend(messages)
    return Foreseen(
        fetching.steps_of(this, sources, days),
        {source: len(messages) for source, messages in by_id.items()},
    )


def open_days(ledger: Ledger) -> set[date]:
    """Days that were downloaded and not judged since everything in them was mature."""
    return {day for day in days_with(ledger) if not ledger.judged.get(str(day), {}).get("closed")}


def fetch(this: Run, vonage: Any, days: list[date]) -> None:
    """Downloads what is not whole, and asks again by id for what was not final.

    What fails is a hole. Where nothing is left that could be judged, the failure is raised.
    """
    from reconcile import fetching

    failure = fetching.fetch(this, vonage, days)
    if failure and not any(is_here(this, day) for day in days):
        raise failure


def is_here(this: Run, day: date) -> bool:
    """Whether anything of a day was downloaded."""
    return bool(this.ledger.of_day(day))


def is_all_here(this: Run, day: date) -> bool:
    """Whether every source's records of a day were downloaded whole."""
    sources = sources_of(this.settings, this.ledger)
    return bool(sources) and all(is_whole(this.ledger, source, day) for source in sources)


def take_in(this: Run) -> bool:
    """Reads what is new on this machine: captures, of which it says whether all could be read, and
    send logs."""
    with stage(this, "ingest"):
        heard = ingest(this)
        ingest_send_logs(this)
    return heard


def ingest(this: Run, patterns: Sequence[str] = (), *, allow_empty: bool = False) -> bool:
    """Reads the captures that are new; says whether all were there and could be read.

    What can be read is taken in, whatever else cannot.

    Args:
        this: the run.
        patterns: files, folders and globs; none: those of the settings.
        allow_empty: whether a pattern may match nothing.
    """
    from reconcile.receipts import ingest as captures
    from reconcile.receipts.away import brought, settled
    from reconcile.receipts.database import queries_of
    from reconcile.receipts.intake import COUNTED

    queries = [] if patterns else queries_of(this.settings)
    with brought(patterns or this.settings.dlr, this.ledger.objects, this.fetched) as given:
        nothing = [] if allow_empty else given.nothing
        for pattern in nothing:
            this.hole("*", f"{pattern} matches no file: are the captures there?")
        taken = captures.ingest(this.store, this.con, this.ledger, given.files, queries, this.as_of,
                                wishes(this.settings), this.progress, given.urls)  # fmt: skip
        for capture in taken.captures:
            this.note("captures", {
                "source": capture.source, "path": given.called(capture.path),
                "format": capture.format,
                **{name: getattr(capture, name) for name in COUNTED},
                "strangers": capture.strangers, "waits": capture.waits,
            })  # fmt: skip
        for problem in taken.problems:
            this.hole("*", given.called(problem.reason))
        this.unread = [given.called(p.reason) for p in taken.problems if p.unread]
        _remember_objects(this, settled(given, this.ledger.captures, taken.problems))
    return not nothing and not this.unread


def _remember_objects(this: Run, read: dict[str, str]) -> None:
    """Enters the objects that were read to their end: they are not fetched again."""
    if read:
        with this.store.alone():
            this.ledger.objects |= read
            this.store.save(this.ledger)


def ingest_send_logs(this: Run) -> None:
    """Reads what is new of the logs of what the SMS API answered at sending."""
    from reconcile.receipts.away import brought, settled
    from reconcile.sendlog import ingest as logs

    with brought(this.settings.send_log, this.ledger.objects, this.fetched) as given:
        for pattern in given.nothing:
            this.hole("*", f"{pattern} matches no file: is the send log there?")
        taken = logs.ingest(this.store, this.con, this.ledger, given.files, this.as_of,
                            this.settings.pii, this.progress, given.urls)  # fmt: skip
        for log in taken.logs:
            this.note("send_logs", {
                "source": log.source, "path": given.called(log.path), "format": log.format,
                **{name: getattr(log, name) for name in (*logs.COUNTED, "strangers", "waits")},
            })  # fmt: skip
        for problem in taken.problems:
            this.hole("*", given.called(problem.reason))
        _remember_objects(this, settled(given, this.ledger.send_logs, taken.problems))
    this.log_is_whole = not given.nothing and not taken.problems


def wishes(settings: Settings) -> Wishes:
    """How captures are read."""
    from reconcile.receipts.intake import Wishes
    from reconcile.receipts.signature import Secret

    secrets = {account: Secret(*own) for account, own in settings.signature_secrets().items()}
    return Wishes(settings.pii, secrets)


def refuse_engine(settings: Settings) -> None:
    """Lets no night begin whose engine is not there to judge it.

    Raises:
        SettingsError, ClusterError: see `cluster.session.refuse`.
    """
    if settings.engine == "spark":
        from reconcile.cluster import session

        session.refuse(str(settings.spark), settings.campaign)


def bench_of(this: Run) -> Bench:
    """What judging works with: what it compiles serves all days of the run."""
    from reconcile.judging import Bench

    kind = Bench
    if this.settings.engine == "spark":
        from reconcile.cluster.bench import ClusterBench

        kind = ClusterBench
    ours = frozenset(this.settings.account_ids() | this.ledger.accounts)
    return kind(
        this.store, this.con, this.ledger, this.settings, this.as_of, ours, this.log_is_whole
    )


def judge(this: Run, bench: Bench, days: list[date], *, heal: bool = False) -> list[date]:
    """Judges and publishes each day whose records are here; a deaf day is a hole.

    Args:
        this, bench: the run, and what `bench_of` made for it.
        days: which days.
        heal: whether to judge closed days too whose inputs changed since.

    Returns:
        The days that were to be judged.
    """
    from reconcile import healing, judging
    from reconcile.sendlog import judging as sendlog

    named = {hole["day"] for hole in this.holes}
    if heal:
        again = healing.touched(
            bench, lambda day: _is_covered(this, bench, day), lambda day: _is_recorded(this, day)
        )
        days = sorted(again.union(days))
    for day in days:
        if is_here(this, day):
            _judge_day(this, bench, day)
            if not is_all_here(this, day) and str(day) not in named:
                this.hole(day, "judged without records that are not downloaded yet")
        elif str(day) not in named:
            this.hole(day, "not downloaded")
    for day in _held_against(this, days):
        this.store.publish(judging.judge_networks(bench, day))
    alone, logged = _days_of_receipts_alone(this), _days_of_logs_alone(this)
    for lone in alone:
        fresh = days if judging.is_held(bench, ORPHANS, this.ledger.changed) else None
        this.store.publish([judging.judge_orphans(bench, lone, covered=False, fresh=fresh)])
    for sent in logged:
        fresh = days if judging.is_held(bench, UNRECORDED, this.ledger.send_changed) else None
        unrecorded = sendlog.judge_unrecorded(bench, sent, covered=False, fresh=fresh)
        this.store.publish([unrecorded] if unrecorded else [])
    looked_at = {*map(str, days), *(str(lone or UNDATED) for lone in alone)}
    left = set() if heal else set(this.ledger.changed) - looked_at
    this.ledger.changed = sorted(left)
    looked_at = {*map(str, days), *(str(sent or UNDATED) for sent in logged)}
    left = set() if heal else set(this.ledger.send_changed) - looked_at
    this.ledger.send_changed = sorted(left)
    this.store.save(this.ledger)
    return days


def assess(this: Run) -> None:
    """Adds up what the days that were judged published, and holds `fail_on` against it."""
    from reconcile import outcome

    outcome.assess(this)


def _held_against(this: Run, days: list[date]) -> list[date]:
    """Days judged before whose networks are judged with these days, but not with their verdicts."""
    after = {day + n * DAY for day in days for n in range(1, LONGEST_SPAN)}
    return sorted(day for day in after.difference(days) if this.store.has(NETWORKS, day))


def _days_of_receipts_alone(this: Run) -> list[date | None]:
    """Past days without records, but with receipts that no run has judged; None: the undated."""
    undated = this.store.has(RECEIPTS, UNDATED)
    return [*_past_days_not_here(this, this.ledger.changed), *([None] if undated else [])]


def _days_of_logs_alone(this: Run) -> list[date | None]:
    """Past days without records that a send log speaks of; None: what has no time."""
    return [*_past_days_not_here(this, this.ledger.send_changed), None]


def _past_days_not_here(this: Run, partitions: Sequence[str]) -> list[date]:
    past = [d for d in partitions if d != UNDATED and d < str(day_of(this.as_of))]
    return [day for day in map(date.fromisoformat, past) if not is_here(this, day)]


def _is_covered(this: Run, bench: Bench, day: date) -> bool:
    """Whether all days to which a day's receipts can belong were downloaded whole."""
    from reconcile import judging

    return all(is_all_here(this, d) for d in judging.covering_days(bench, day))


def _is_recorded(this: Run, day: date) -> bool:
    """Whether the SMS API's records of a day and of those beside it were downloaded whole."""
    from reconcile.sendlog.judging import covering_days

    sources = [s for s in sources_of(this.settings, this.ledger) if s.product == "SMS"]
    days = covering_days(day)
    return bool(sources) and all(is_whole(this.ledger, s, d) for s in sources for d in days)


def _judge_day(this: Run, bench: Bench, day: date) -> None:
    from reconcile import judging

    judged = judging.judge_day(
        bench, day, covered=_is_covered(this, bench, day), recorded=_is_recorded(this, day)
    )
    this.progress(f"judged {day}", judged.counts["messages"])
    if judged.deaf:
        this.hole(day, "records ended and not one receipt came: are the captures whole?")
    else:
        others = [d for d in this.manifest.get("judged", []) if d["day"] != str(day)]
        this.manifest["judged"] = others  # judged again, it counts once
        this.note("judged", {"day": str(day), "closed": judged.closed, **judged.counts})
