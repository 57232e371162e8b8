"""The networks whose receipts are odd, each with the one sentence that says why."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date
from typing import TYPE_CHECKING, Any

from reconcile.engine import quote
from reconcile.present.text import printable
from reconcile.present.worst import money
from reconcile.store import Store
from reconcile.tables import CONCENTRATIONS, NETWORKS
from reconcile.where import checked

if TYPE_CHECKING:
    import duckdb

# Worst first.
ODD = ("contradictory", "suspect", "watch")
COLUMNS = (
    "date", "span", "country", "network_code", "network_name", "network_verdict", "is_alert",
    "reasons", "evidence", "n", "k", "rate", "rate_low", "rate_high", "baseline", "baseline_n",
    "effect", "p", "q", "spend_at_stake", "currency", "samples", "outages",
)  # fmt: skip


@dataclass(frozen=True)
class Odd:
    """What is odd about some days.

    Attributes:
        rows: the rows of `networks` that are odd, the worst first; of a network each span's own.
        outages: spans in which our own capture was down.
        rises: verdict and sentence of each place where a rise concentrates.
    """

    rows: list[dict[str, Any]]
    outages: list[str]
    rises: list[tuple[str, str]]


def odd_networks(
    store: Store, con: duckdb.DuckDBPyConnection, days: Iterable[date | str],
    where: str | None = None,
) -> Odd | None:  # fmt: skip
    """The networks that are odd; None where nothing is published for these days.

    Args:
        where: a condition on the columns of `networks`.
    """
    days = [str(day) for day in days if store.files(NETWORKS, day)]
    if not days:
        return None
    rows = store.query(NETWORKS, days)
    rank = " ".join(f"WHEN {quote(verdict)} THEN {n}" for n, verdict in enumerate(ODD))
    order = f"date, CASE network_verdict {rank} END, NOT is_alert, country, network_code, span"
    named = ", ".join(map(quote, ODD))
    only = f" AND {checked(where, NETWORKS)}" if where is not None else ""
    found = con.execute(
        f"SELECT {', '.join(COLUMNS)} FROM ({rows}) "  # noqa: S608 - our own names
        f"WHERE network_verdict IN ({named}){only} "
        f"ORDER BY {order}"
    ).fetchall()
    silent = con.execute(
        f"SELECT DISTINCT unnest(outages) AS o FROM ({rows}) WHERE span = '1d' ORDER BY o"  # noqa: S608
    ).fetchall()
    rises = con.execute(
        f"SELECT verdict, sentence FROM ({store.query(CONCENTRATIONS, days)}) "  # noqa: S608
        "ORDER BY date, verdict, rank"
    ).fetchall()
    told = [dict(zip(COLUMNS, row, strict=True)) for row in found]
    return Odd(told, [row[0] for row in silent], rises)


def one_each(rows: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """Of each network and day the first of its spans."""
    found: dict[tuple[Any, ...], dict[str, Any]] = {}
    for row in rows:
        found.setdefault((row["date"], row["country"], row["network_code"]), row)
    return list(found.values())


def odd_ones(found: Odd, days: list[str]) -> str:
    """One line a network, its worst span first; then outages of ours, and where a rise is."""
    lines = [odd_line(row) for row in one_each(found.rows)]
    if not lines:
        lines.append(f"No network is odd on {', '.join(days)}.")
    lines += [f"Our own capture was down: {span} UTC" for span in found.outages]
    lines += [f"{verdict} rises: {sentence}." for verdict, sentence in found.rises]
    return "".join(f"{printable(line)}\n" for line in lines)


def odd_line(row: dict[Any, Any]) -> str:
    """One network in one sentence."""
    what = "the whole country" if row["network_code"] == "*" else row["network_code"]
    name = f" {row['network_name']}" if isinstance(row["network_name"], str) else ""
    alert = ", alert" if row["is_alert"] else ""
    spent = money(row["spend_at_stake"], row["currency"])
    stake = f" At stake: {spent}." if row["spend_at_stake"] else ""
    return (
        f"{row['network_verdict']}{alert}: {row['country']} {what}{name} "
        f"({row['span']} to {row['date']}): {row['evidence']}.{stake}"
    )
