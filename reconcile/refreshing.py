"""Asks again by id: for what is not final, for what contradicts, for receipts without a record."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from concurrent.futures import Future
from dataclasses import dataclass, field
from datetime import date
from typing import Any

from reconcile.days import Window, day_window, iso
from reconcile.engine import quote
from reconcile.reports import download, keep, refresh
from reconcile.reports.client import Client
from reconcile.reports.keep import Part
from reconcile.reports.refresh import Answers, Wanted
from reconcile.reports.slices import Source, days_with
from reconcile.run import Run
from reconcile.tables import ORPHANS, RECORDS, VERDICTS
from reconcile.vocabulary import FINAL

# These are concluded only after the record was asked for once more.
ASKED_AGAIN = ("status_conflict", "record_never_final")
# Receipts whose records may have appeared late.
LATE = ("unknown_message", "near_match")


@dataclass
class Vonage:
    """Access to the Reports API for one run.

    Attributes:
        sources: what is downloaded, each by its client.
        desk, submit: what downloads work with, and how they work beside each other.
        refused_by_id: sources of which Vonage does not tell by id.
        room: how many more messages may be asked for by id.
    """

    sources: dict[Source, Client]
    desk: download.Desk
    submit: Callable[..., Future[Any]]
    refused_by_id: set[Source] = field(default_factory=set)
    room: int = field(init=False)

    def __post_init__(self) -> None:
        self.room = self.desk.settings.refresh_limit

    def client_of(self, account_id: str) -> Client | None:
        """Who may ask for an account: whoever downloads it, else a primary with subaccounts."""
        own = [c for source, c in self.sources.items() if source.account_id == account_id]
        primaries = [client for source, client in self.sources.items() if source.subaccounts]
        return next(iter((*own, *primaries)), None)


Messages = dict[Source, list[Wanted]]


def not_final(this: Run, days: Iterable[date]) -> Messages:
    """Messages of these days that are neither final nor were asked for since they were mature."""
    grace = round(this.settings.grace.total_seconds() * 1000)
    default = round(this.settings.validity.total_seconds() * 1000)
    mature = f"epoch_ms(received_at) + coalesce(validity_ms, {default}) + {grace}"
    final = ", ".join(map(quote, FINAL))
    return _messages(
        this,
        f"""
        SELECT account_id, product, message_id, record_id
        FROM ({this.store.query(RECORDS, days)})
        WHERE (status IS NULL OR status NOT IN ({final}))
            AND fetched_at < TIMESTAMPTZ '{iso(this.as_of)}' AND epoch_ms(fetched_at) < {mature}
        ORDER BY received_at::DATE, message_id
        """,  # noqa: S608 - built from our own names only
    )


def contradicted(this: Run, days: Iterable[date]) -> Messages:
    """Messages whose verdict wants the record to be asked for once since its receipt came."""
    days = list(days)
    reasons = ", ".join(map(quote, ASKED_AGAIN))
    return _messages(
        this,
        f"""
        SELECT v.account_id, v.product, v.message_id, r.record_id
        FROM ({this.store.query(VERDICTS, days)}) AS v
        JOIN ({this.store.query(RECORDS, days)}) AS r USING (account_id, product, message_id)
        WHERE list_has_any(v.reasons, [{reasons}])
            AND (r.asked_at IS NULL OR r.asked_at < coalesce(v.captured_at, v.pushed_at))
        ORDER BY r.received_at::DATE, v.message_id
        """,  # noqa: S608 - built from our own names only
    )


def orphaned(this: Run, days: Iterable[date], sources: Collection[Source]) -> Messages:
    """Messages of which receipts came and no record, though all days were downloaded.

    A receipt that names no account may be any account's: each is asked.
    """
    kinds = ", ".join(map(quote, LATE))
    accounts = {(source.account_id, source.product) for source in sources}
    together = {source.product for source in sources if source.subaccounts}
    accounts |= {(name, product) for name in this.ledger.accounts for product in together}
    ours = ", ".join(f"({quote(a)}, {quote(p)})" for a, p in sorted(accounts)) or "(NULL, NULL)"
    return _messages(
        this,
        f"""
        SELECT DISTINCT s.account_id, s.product, o.message_id, NULL
        FROM ({this.store.query(ORPHANS, days)}) AS o
        JOIN (VALUES {ours}) AS s (account_id, product)
            ON s.product = o.product AND s.account_id = coalesce(o.account_id, s.account_id)
        WHERE o.kind IN ({kinds})
        ORDER BY s.account_id, s.product, o.message_id
        """,  # noqa: S608 - built from our own names only
    )


def _messages(this: Run, query: str) -> Messages:
    found: Messages = {}
    for account_id, product, message_id, record_id in this.con.con.execute(query).fetchall():
        found.setdefault(Source(account_id, product), []).append(Wanted(message_id, record_id))
    return found


def ask_again(this: Run, vonage: Vonage, days: list[date]) -> list[date]:
    """Asks for what judging these days has left in doubt, and takes the answers in.

    Returns:
        The days that must be judged again.
    """
    doubtful = contradicted(this, days)
    for source, messages in orphaned(this, days, vonage.sources).items():
        doubtful.setdefault(source, []).extend(messages)
    answers = ask(this, vonage, doubtful)
    parts = parts_of(this, answers)
    touched = {day for day, each in parts.items() if _tells_news(this, day, each)}
    for day, each in parts.items():
        keep.publish(this.store, this.con, day, each, this.as_of, this.settings.pii)
    enter(this, answers)
    touched.update(_days_that_found(this, days, list(parts)))
    return sorted(touched & days_with(this.ledger))


def _tells_news(this: Run, day: date, parts: Iterable[Part]) -> bool:
    """Whether an answer differs from what the store holds of its message, in what is judged."""
    columns = ", ".join(name for name in RECORDS.names if name not in ("fetched_at", "asked_at"))
    fresh = " UNION ALL ".join(f"FROM ({part.records(day, this.settings.pii)})" for part in parts)
    held = f"({this.store.query(RECORDS, [day])}) SEMI JOIN ({fresh}) USING (message_id)"
    news = f"SELECT {columns} FROM ({fresh}) EXCEPT SELECT {columns} FROM {held}"  # noqa: S608 - built from our own names only
    # No time may come out of the engine: as Python's it would need a package more.
    return this.con.con.execute(f"SELECT 1 FROM ({news}) LIMIT 1").fetchone() is not None  # noqa: S608 - ours


def _days_that_found(this: Run, days: list[date], fresh: list[date]) -> list[date]:
    """The days among whose orphans there are some that have a record now."""
    records = f"SELECT message_id FROM ({this.store.query(RECORDS, fresh)})"  # noqa: S608 - our own names
    return [
        day for day in days
        if this.con.con.execute(
            f"SELECT 1 FROM ({this.store.query(ORPHANS, [day])}) "  # noqa: S608 - our own names
            f"WHERE message_id IN ({records}) LIMIT 1"
        ).fetchone()
    ]  # fmt: skip


def ask(this: Run, vonage: Vonage, wanted: Messages) -> list[Answers]:
    """Asks for messages by id, as many as `refresh_limit` allows, the first first."""
    answers = []
    for source, messages in wanted.items():
        client = vonage.client_of(source.account_id)
        if client is None or source in vonage.refused_by_id:
            continue
        each = Answers(source, this.slices, this.as_of, kept=this.store.keep_slices)
        each.ask(client, messages[: max(vonage.room, 0)], vonage.submit, vonage.desk.progress)
        each.left_out = len(messages) - len(each.asked)
        vonage.room -= len(each.asked)
        if each.is_refused:
            vonage.refused_by_id.add(source)
        answers.append(each)
    return answers


def parts_of(this: Run, answers: Iterable[Answers]) -> dict[date, list[Part]]:
    """What came by id, for each day that it is of."""
    parts: dict[date, list[Part]] = {}
    for each in answers:
        if not each.billed:
            continue
        each.write()
        days = keep.days_of(this.con, each.raw) or [this.as_of.date()]
        asked = Window(day_window(days[0]).start, day_window(days[-1]).end)
        of = each.source
        source = f"by-id:{of.product}:{of.account_id}:{iso(each.as_of)}"
        for day in days:
            part = Part(each.raw, of.product, of.account_id, day_window(day), each.as_of, source,
                        asked, by_id=True)  # fmt: skip
            parts.setdefault(day, []).append(part)
    return parts


def enter(this: Run, answers: Iterable[Answers]) -> None:
    """Enters in the ledger what was asked for by id, now that the answers are in the store."""
    with this.store.alone():
        for each in answers:
            entry = {"account_id": each.source.account_id, "product": each.source.product,
                     "asked": len(each.asked), "billed": each.billed}  # fmt: skip
            if each.asked:
                this.ledger.refreshes.append(entry | {"as_of": iso(each.as_of)})
            this.note("refreshes", entry | {"left_out": each.left_out})
            if each.failure:
                what = "Vonage refuses to tell by id" if each.is_refused else "asking by id ended"
                this.hole("*", f"{what}: {each.failure}", each.source.account_id)
        this.store.save(this.ledger)
    for each in answers:
        each.forget()


def take_in_what_was_left(this: Run) -> None:
    """Takes in what a stopped run had asked for by id: it is paid for."""
    answers = list(refresh.left(this.slices, this.store.keep_slices))
    for day, parts in parts_of(this, answers).items():
        keep.publish(this.store, this.con, day, parts, this.as_of, this.settings.pii)
    if answers:
        enter(this, answers)
