"""Asks Vonage for the newest state of single messages by id, and takes the answers in."""

from __future__ import annotations

from typing import TYPE_CHECKING

from reconcile.explaining.gather import Asked, Found, asked_of, gather, key_of
from reconcile.explaining.told import Given, Key, Refreshed, Row
from reconcile.run import Run, finish

if TYPE_CHECKING:
    from reconcile.refreshing import Messages, Vonage


def refresh(this: Run, given: Given) -> Refreshed:
    """Asks Vonage for the newest state of messages by id, and takes the answers in.

    A day whose records tell something new is open again, so that the next run judges it.
    """
    from reconcile import fetching, refreshing
    from reconcile.reports import keep

    refreshing.take_in_what_was_left(this)
    asked, stopped = asked_of(this, given), this.store.unfinished()
    before = gather(this, this.con.con, asked)
    with fetching.connected(this, this.settings.credentials()) as vonage:
        answers = refreshing.ask(this, vonage, _wanted(this, before, vonage))
    for of, parts in refreshing.parts_of(this, answers).items():
        keep.publish(this.store, this.con, of, parts, this.as_of, this.settings.pii)
    after = gather(this, this.con.con, Asked(tuple(before.ids)))
    reopened = [day for day in _days_with_news(before, after) if day in this.ledger.judged]
    for day in reopened:
        this.ledger.judged[day]["closed"] = False
    refreshing.enter(this, answers)
    finish(this, "explain")
    if stopped:
        this.store.begin(stopped)  # a run that was stopped still hands down its days
    return Refreshed(before.ids, reopened, sum(each.billed for each in answers),
                     next((each.failure for each in answers if each.failure), None))  # fmt: skip


def _wanted(this: Run, found: Found, vonage: Vonage) -> Messages:
    """Whom to ask for what: a record's account; of an id without a record, whoever may have it."""
    from reconcile.reports.refresh import Wanted
    from reconcile.reports.slices import Source

    ours = {Source(source.account_id, source.product) for source in vonage.sources}
    together = {source.product for source in vonage.sources if source.subaccounts}
    ours |= {Source(name, product) for name in this.ledger.accounts for product in together}
    wanted: Messages = {}
    for message_id in found.ids:
        known = found.records.get(message_id, [])
        heard = [*found.orphans.get(message_id, []), *found.receipts.get(message_id, [])]
        named = {row["account_id"] for row in heard if row["account_id"]}
        asked = {(Source(row["account_id"], row["product"]), row["record_id"]) for row in known}
        asked = asked or {(each, None) for each in ours if each.account_id in named} or {
            (each, None) for each in ours
        }  # fmt: skip
        for source, record_id in sorted(asked, key=lambda each: each[0].name):
            wanted.setdefault(source, []).append(Wanted(message_id, record_id))
    return wanted


def _days_with_news(before: Found, after: Found) -> list[str]:
    """The days of records that are other than before, and of orphans that have a record now."""
    asking = ("fetched_at", "asked_at")

    def told(found: Found) -> dict[tuple[str, Key], Row]:
        return {
            (row["part"], key_of(row)): {n: row[n] for n in row if n not in asking}
            for rows in found.records.values() for row in rows
        }  # fmt: skip

    old, new = told(before), told(after)
    days = {place[0] for place in {*old, *new} if old.get(place) != new.get(place)}
    homeless = [row for name in after.records for row in before.orphans.get(name, [])]
    return sorted(days | {row["part"] for row in homeless})
