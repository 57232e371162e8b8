"""Explains single messages: what is known of each, what the rules saw, what would change it.

Only the rows of the messages asked for are read, and they are judged by the same core that judges
whole days.
"""

# ruff: noqa: S608 - SQL is put together from names of our own; texts of others are quoted

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, date, datetime, timedelta

from reconcile import engine
from reconcile.engine import quote
from reconcile.errors import InputError
from reconcile.explaining.core import Case, Core
from reconcile.explaining.gather import (
    MESSAGE_KEY,
    Found,
    asked_of,
    bench_of,
    gather,
    key_of,
    parts_in_reach,
    published_of,
)
from reconcile.explaining.held import cell_of, rules_held
from reconcile.explaining.might_be import changes_of, might_be, once_later
from reconcile.explaining.timeline import ms_between, time_line
from reconcile.explaining.told import Alone, Explained, Explanation, Given, Key, OnlySent, Row
from reconcile.run import Run
from reconcile.store import Store
from reconcile.tables import RECORDS, SENT, VERDICTS
from reconcile.vocabulary import SENT_ACCEPTED

_EPOCH = datetime.fromtimestamp(0, UTC)


def explain(this: Run, given: Given, as_of: datetime | None) -> Explanation:
    """Explains messages from what the store holds.

    Args:
        this: the store, which is only read.
        given: which messages.
        as_of: the moment to judge at; None: that of each day's last judging, so that what was
            published is explained (where a day has none, this run's).

    Raises:
        UsageError: there is no store, or what was given can be no message.
        InputError: a number or a client_ref has no message.
    """
    Store.open(this.store.root)  # says so where there is none
    asked, core = asked_of(this, given), Core(this)
    # The engine finds the rows while Python compiles the core.
    with ThreadPoolExecutor(1) as aside:
        gathering = aside.submit(gather, this, engine.beside(this.con), asked)
        core.compile()
        found = gathering.result()
    if not found.ids:
        raise InputError(
            f"no message of this {asked.column} is in the store: see `reconcile status`"
        )
    told: dict[str, list[Explained | Alone | OnlySent]] = {}
    for at, messages in found.by_moment(this, as_of).items():
        for each in _explain_all(this, core, found, messages, at):
            told.setdefault(each.message_id, []).append(each)
    for message_id in found.ids:
        if message_id in told:
            continue
        if alone := _alone(this, found, message_id) or _only_sent(found, message_id):
            told[message_id] = [alone]
    return Explanation(
        [each for message_id in found.ids for each in told.get(message_id, [])],
        [message_id for message_id in found.ids if message_id not in told],
        found.are_more,
    )


def _explain_all(
    this: Run, core: Core, found: Found, messages: list[tuple[str, str]], as_of: datetime
) -> list[Explained]:
    """Explains messages at one moment: they, and what might have been, are judged at once."""
    cases: dict[tuple[str, str], Case] = {}
    others: dict[tuple[str, str, Key], list[tuple[str, Case]]] = {}
    for message_id, day in messages:
        records = [row for row in found.records[message_id] if row["part"] == day]
        reach = set(parts_in_reach(this, day))
        receipts = [row for row in found.receipts.get(message_id, []) if row["part"] in reach]
        case = cases[message_id, day] = Case(
            f"{message_id} {day}", records, receipts, _unsent(this, day, records, as_of)
        )
        for record in records:
            others[message_id, day, key_of(record)] = list(might_be(case, record, as_of))
    might = [each for many in others.values() for _, each in many]
    judged = core.judge([*cases.values(), *might], as_of)
    _mask_outages(this, found, judged, cases, as_of)
    told = []
    for (message_id, day), case in cases.items():
        for record in sorted(case.records, key=key_of):
            row = judged.get((case.name, record["account_id"], record["product"]))
            ways = [
                (what, judged[other.name, record["account_id"], record["product"]])
                for what, other in others[message_id, day, key_of(record)]
                if row
            ]
            facts = _facts(this, row, as_of) if row else {}
            later = once_later(core, case, record, facts, as_of) if row else []
            told.append(_explained(this, found, case, record, row, facts, [*later, *ways], as_of))
    return told


def _explained(
    this: Run, found: Found, case: Case, record: Row, row: Row | None, facts: Row,
    ways: list[tuple[str, Row]], as_of: datetime,
) -> Explained:  # fmt: skip
    heard = time_line(case, record, row, as_of)
    return Explained(
        record={name: record[name] for name in RECORDS.names},
        currency=record["currency"] or this.settings.currency,
        as_of=as_of,
        receipts=heard,
        judged=row,
        cell=cell_of(row) if row else None,
        rules=rules_held(row, facts, heard) if row else [],
        changes=changes_of(row, ways) if row else [],
        published=published_of(this, found, record),
    )


def _facts(this: Run, row: Row, as_of: datetime) -> Row:
    """A judged message's columns, and what the core derives from them without keeping it."""
    from reconcile.judge import rules

    received, validity = row["received_at"], timedelta(milliseconds=row["validity"])
    begun = row["finalized_at"] or received
    return row | {
        "as_of": as_of,
        "validity_ms": row["validity"],
        "within_ms": min(rules.DEADLINE_MS, row["validity"] // 10),
        "expires_at": received + validity,
        "matures_at": received + validity + this.settings.grace,
        "grace_ends_at": begun + this.settings.grace,
        "captured_after_ms": ms_between(row["receipt_captured_at"], received),
        "too_fast_ms": round(this.settings.too_fast.total_seconds() * 1000),
    }


def _unsent(this: Run, day: str, records: list[Row], as_of: datetime) -> frozenset[tuple[str, str]]:
    """Account and product of the records that the day's send log should know and does not."""
    import pyarrow as pa

    from reconcile.judge.pair import Scope
    from reconcile.judge.sendlog import with_unsent
    from reconcile.sendlog import judging as sendlog

    bench, of = bench_of(this), date.fromisoformat(day)
    told = this.ledger.judged.get(day, {})
    if not told.get("logged", True) or not sendlog.has_log(bench, of):
        return frozenset()  # a log that was half here said nothing
    sendlog.lay(bench, of)
    names = [*MESSAGE_KEY, "received_at"]
    rows = pa.Table.from_pylist(records, schema=RECORDS.schema).select(names)
    con, table = this.con.con, this.con.table
    con.register("explained_asked", rows)
    con.execute("CREATE OR REPLACE TABLE explained_sent AS FROM explained_asked")
    con.unregister("explained_asked")
    pairs = with_unsent(table("explained_sent"), table("sent_of_day"), table("sent_around"),
                       Scope(as_of, several_owners=True))  # fmt: skip
    lacking = pairs.filter(pairs.unsent_by_us).select("account_id", "product")
    return frozenset(con.execute(str(this.con.compile(lacking))).fetchall())


def _mask_outages(
    this: Run, found: Found, judged: dict[Key, Row], cases: dict[tuple[str, str], Case],
    as_of: datetime,
) -> None:  # fmt: skip
    """Lets webhooks that were lost in an outage of ours say so, as the judging of a day does.

    An outage is seen in all messages of its minutes, so the published verdicts are asked.
    """
    from reconcile.judge import outages, rules

    for (_, day), case in cases.items():
        for record in case.records:
            row = judged.get((case.name, record["account_id"], record["product"]))
            if not row or row["reasons"][:1] != [outages.REPLACES]:
                continue
            published = published_of(this, found, record)
            if published and published.as_of == as_of:
                ours = published.reasons[:1] == [rules.OUTAGE.name]
            else:
                since = ms_between(row["finalized_at"] or row["received_at"], _EPOCH) or 0
                ours = since // outages.BIN_MS in _outages(this, day, as_of)
            if ours:
                row["reasons"] = [rules.OUTAGE.name, *row["reasons"][1:]]


def _outages(this: Run, day: str, as_of: datetime) -> set[int]:
    from reconcile.judge import outages

    view = "explained_neighbours"
    this.con.con.execute(f"CREATE OR REPLACE VIEW {view} AS {this.store.query(VERDICTS, [day])}")
    bins = outages.outages(this.con.table(view), as_of, this.settings.grace)
    return {row[0] for row in this.con.con.execute(str(this.con.compile(bins))).fetchall()}


def _alone(this: Run, found: Found, message_id: str) -> Alone | None:
    from reconcile.judge.orphans import KINDS

    orphans, receipts = found.orphans.get(message_id, []), found.receipts.get(message_id, [])
    if not orphans and not receipts:
        return None
    kind = orphans[0]["kind"] if orphans else None
    sentence = KINDS.get(kind, "") if kind else "No run has judged these receipts yet."
    heard = time_line(Case("", [], orphans or receipts), {}, None, datetime.max.replace(tzinfo=UTC))
    resembles = _resembling(this, orphans) if kind == "near_match" else []
    return Alone(message_id, kind, sentence, heard, resembles)


def _only_sent(found: Found, message_id: str) -> OnlySent | None:
    from reconcile.judge.sendlog import KINDS

    lines = sorted(found.sent.get(message_id, []), key=lambda row: (row["source"], row["line"]))
    if not lines:
        return None
    asked = found.unrecorded.get(message_id)
    kind = asked[0]["kind"] if asked else None
    if kind:
        sentence = KINDS.get(kind, "")
    elif all(row["status"] != SENT_ACCEPTED for row in lines):
        sentence = "The API refused it: it was never sent, and no receipt is to come."
    else:
        sentence = "No run has looked yet whether Reports knows it."
    rows = [{name: row[name] for name in SENT.names} for row in lines]
    return OnlySent(message_id, kind, sentence, rows)


def _resembling(this: Run, orphans: list[Row]) -> list[str]:
    """The ids of the records that these receipts resemble: alike but for leading zeros."""
    row = orphans[0]
    at = row["pushed_at"] or row["captured_at"]
    if at is None:
        return []
    days = [(at + timedelta(days=n)).date() for n in range(-3, 4)]
    bare = quote(row["message_id"].lstrip("0"))
    rows = this.con.con.execute(
        f"SELECT DISTINCT message_id FROM ({this.store.query(RECORDS, days)}) "
        f"WHERE ltrim(message_id, '0') = {bare} AND recipient = {quote(row['recipient'] or '')} "
        "ORDER BY message_id"
    ).fetchall()
    return [str(each[0]) for each in rows]
