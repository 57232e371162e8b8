"""What a run found, in numbers: added up from what it published, for those who watch it."""

# ruff: noqa: S608 - SQL is put together from names of our own; texts of others are quoted

from __future__ import annotations

import hashlib
import json
from typing import Any

from reconcile import fail_on
from reconcile.run import Run
from reconcile.tables import NETWORKS, SUMMARY, Table
from reconcile.vocabulary import VERDICTS

WORST = 20
# The parts of a rate's denominator, and what it counts.
COUNTS = ("messages", *VERDICTS, "orphans", "uncovered")
WORSE = ("missing", "unknown", "suspect")
IN_SUMMARY = ("date", "account_id", "country", "network_code", "network_name", "currency",
              "network_verdict", *fail_on.COUNTS, *fail_on.MONEY)  # fmt: skip


def assess(this: Run) -> None:
    """Fills `found` and `exceeded` of a run that judged; without a judged day both stay empty."""
    days = sorted(entry["day"] for entry in this.manifest.get("judged", []))
    if not days:
        return
    rows = _rows(this, SUMMARY, days, IN_SUMMARY)
    this.exceeded = fail_on.exceeded(map(fail_on.parse, this.settings.fail_on), rows)
    this.found = of_days(days, rows, _suspects(this, days))


def of_days(
    days: list[str], rows: list[dict[str, Any]], suspects: list[dict[str, Any]]
) -> dict[str, Any]:
    """Counts, rates, the worst networks and the suspect ones; plain JSON values, money as text.

    `digest` tells whether two runs found the same: it knows days and numbers, and no time of run.
    """
    networks: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for row in rows:
        networks.setdefault((row["country"], row["network_code"]), []).append(row)
    found = {
        "days": days,
        "counts": _counts(rows),
        "rates": _rates(rows),
        "worst_networks": _worst(networks),
        "suspect_networks": suspects,
    }
    text = json.dumps([found, [_counts(networks[name]) for name in sorted(networks)]])
    return found | {"digest": hashlib.sha256(text.encode()).hexdigest()[:16]}


def _worst(networks: dict[tuple[str, str], list[dict[str, Any]]]) -> list[dict[str, Any]]:
    """The networks with most messages missing, unknown or suspect, the worst first."""
    told: list[dict[str, Any]] = [
        {
            "country": country,
            "network_code": code,
            "network_name": next((r["network_name"] for r in rows if r["network_name"]), None),
            **_counts(rows),
            **_rates(rows),
        }
        for (country, code), rows in networks.items()
    ]
    odd = [network for network in told if any(network[name] for name in WORSE)]
    odd.sort(key=lambda n: (-sum(n[name] for name in WORSE), n["country"], n["network_code"]))
    return odd[:WORST]


def _counts(rows: list[dict[str, Any]]) -> dict[str, int]:
    return {name: sum(row[name] for row in rows) for name in COUNTS}


def _rates(rows: list[dict[str, Any]]) -> dict[str, float | None]:
    """Each rate as `summary` defines it; None where nothing can be divided."""
    parts = {name: fail_on.rate(rows, name) for name in fail_on.RATES}
    return {name: round(k / n, 6) if n else None for name, (k, n) in parts.items()}


def _suspects(this: Run, days: list[str]) -> list[dict[str, Any]]:
    """The networks that are suspect on one of these days, each as it was last found so."""
    wanted = ("date", "span", "country", "network_code", "network_name", "is_alert", "evidence",
              "spend_at_stake", "currency")  # fmt: skip
    latest = "date DESC, is_alert DESC, span DESC"
    rows = _rows(this, NETWORKS, days, wanted, (
        "WHERE network_verdict = 'suspect' QUALIFY row_number() OVER ("
        f"PARTITION BY country, network_code ORDER BY {latest}) = 1 ORDER BY country, network_code"
    ))  # fmt: skip
    return [
        row | {"date": str(row["date"]), "spend_at_stake": f"{row['spend_at_stake']:f}"}
        for row in rows
    ]


def _rows(
    this: Run, table: Table, days: list[str], columns: tuple[str, ...], rest: str = ""
) -> list[dict[str, Any]]:
    rows = f"SELECT {', '.join(columns)} FROM ({this.store.query(table, days)}) {rest}"
    found = this.con.con.execute(rows).fetchall()
    return [dict(zip(columns, row, strict=True)) for row in found]
