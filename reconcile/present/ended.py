"""What a run says at its end on a terminal: the worst networks, then what to look at first."""

# ruff: noqa: S608 - SQL is put together from names of our own

from __future__ import annotations

from collections.abc import Iterator
from datetime import date
from typing import TYPE_CHECKING, Any

from reconcile import engine
from reconcile.days import basic_iso
from reconcile.engine import quote
from reconcile.present.catalogue import all_rules
from reconcile.present.numbers import plural
from reconcile.present.odd import odd_line, odd_networks, one_each
from reconcile.present.rates import MEASURES
from reconcile.present.text import printable
from reconcile.present.worst import worst_networks
from reconcile.store import Store
from reconcile.tables import CHANGES, REASONS, SUMMARY

if TYPE_CHECKING:
    import duckdb

# At most so many lines of one kind.
NETWORKS_SHOWN, RISES_SHOWN = 3, 2
NOTHING_STANDS_OUT = "Nothing stands out: every receipt is here, or is not due.\n"


def after_run(ended: Any) -> str:
    """The worst networks of the days that a run judged, and in a line each what needs a look."""
    days = sorted(date.fromisoformat(entry["day"]) for entry in ended.manifest["judged"])
    if not days:
        return ""
    store, settings = ended.store, ended.settings
    con = engine.bare(*engine.limits_of(settings, store.work))
    table = worst_networks(store, con, days)
    lines = [f"- {printable(line)}\n" for line in first_looks(ended, con, days)]
    looks = f"Look first at:\n{''.join(lines)}" if lines else NOTHING_STANDS_OUT
    return "\n".join(filter(None, (table, looks)))


def first_looks(ended: Any, con: duckdb.DuckDBPyConnection, days: list[date]) -> Iterator[str]:
    """A line for each thing, the weightiest first: holes, outages, networks, reasons, changes."""
    store = ended.store
    if ended.holes:
        lacking = sorted({hole["day"] for hole in ended.holes})
        named = "all days" if "*" in lacking else _first_of(lacking, "day")
        yield f"what is incomplete, {named}: `reconcile status`"
    yield from _networks(store, con, days[-1])
    yield from _reasons(store, con, days)
    yield from _orphans(store, con, days)
    yield from _changes(store, con, basic_iso(ended.as_of))


def _networks(store: Store, con: duckdb.DuckDBPyConnection, day: date) -> Iterator[str]:
    """Outages of ours, networks whose receipts are not to be believed, where a rise is."""
    odd = odd_networks(store, con, [day])
    if odd is None:
        return
    for span in odd.outages:
        yield f"our own capture, which was down {span} UTC: these losses are in no rate"
    bad = [row for row in one_each(odd.rows) if row["network_verdict"] != "watch"]
    yield from map(odd_line, bad[:NETWORKS_SHOWN])
    if len(bad) > NETWORKS_SHOWN:
        yield f"{len(bad) - NETWORKS_SHOWN} more such networks: `reconcile show --networks`"
    for verdict, sentence in odd.rises[:RISES_SHOWN]:
        yield f"{verdict} rises: {sentence}"


def _reasons(store: Store, con: duckdb.DuckDBPyConnection, days: list[date]) -> Iterator[str]:
    """Of each verdict the reason that most messages have, and the network that has most."""
    sentences = dict(rule[1:] for rule in all_rules())
    named = ", ".join(map(quote, MEASURES))
    rows = con.execute(
        "SELECT verdict, reason, sum(n)::BIGINT AS messages, count(*), "
        "arg_max(struct_pack(country, network_code, n), n) FROM (SELECT verdict, reason, country, "
        "network_code, sum(messages_first)::BIGINT AS n "
        f"FROM ({store.query(REASONS, days)}) WHERE NOT is_context AND reason <> 'none' "
        f"AND verdict IN ({named}) GROUP BY ALL HAVING n > 0) "
        "GROUP BY verdict, reason "
        "QUALIFY row_number() OVER (PARTITION BY verdict ORDER BY messages DESC, "
        "reason) = 1 ORDER BY messages DESC, verdict"
    ).fetchall()
    for verdict, reason, messages, networks, most in rows:
        of = f"; {most['n']:,} of them on" if networks > 1 else ", all on"
        yield (
            f"{messages:,} {verdict} by {reason}{of} {most['country']} {most['network_code']}. "
            f"{sentences.get(reason, '')} `reconcile show --table verdicts --where "
            f"\"list_contains(reasons, '{reason}')\"`"
        )


def _orphans(store: Store, con: duckdb.DuckDBPyConnection, days: list[date]) -> Iterator[str]:
    [lone] = con.execute(
        f"SELECT sum(orphans)::BIGINT FROM ({store.query(SUMMARY, days)})"
    ).fetchall()[0]
    if lone:
        receipts = plural(lone, "receipt that joins", "receipts that join")
        yield f"{receipts} no record: `reconcile show --table orphans`"


def _changes(store: Store, con: duckdb.DuckDBPyConnection, name: str) -> Iterator[str]:
    """What was confirmed when its day was judged before, and is so no longer."""
    condition = "from_verdict = 'confirmed' AND to_verdict <> 'confirmed'"
    [turned] = con.execute(
        f"SELECT count(*) FROM ({store.query(CHANGES, [name])}) WHERE {condition}"
    ).fetchall()[0]
    if turned:
        yield (
            f"what was confirmed before and is not now, {plural(turned, 'message')}: "
            f'`reconcile show --table changes --where "{condition}"`'
        )


def _first_of(names: list[str], what: str) -> str:
    """A few names, and how many more there are."""
    return names[0] if len(names) == 1 else f"{len(names)} {what}s from {names[0]} to {names[-1]}"
