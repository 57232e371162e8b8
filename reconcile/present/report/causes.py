"""Why messages are not confirmed: who lost receipts, the reasons, error codes and what to do."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from reconcile.present import numbers
from reconcile.present.catalogue import rules_frame
from reconcile.present.rates import MEASURES, rate, totals
from reconcile.present.report.gather import LOST, Gathered
from reconcile.present.report.headline import LOSERS
from reconcile.vocabulary import ERROR_CODES

SHOWN_CODES = 20
NO_ERROR = "0"


@dataclass(frozen=True)
class Loss:
    """A day's missing receipts by who lost them; None where the day is a hole."""

    day: Any
    lost: dict[str, int] | None


@dataclass(frozen=True)
class Reason:
    """A reason with its rule's sentence, and how many messages have it first."""

    verdict: str
    name: str
    sentence: str
    messages: int


@dataclass(frozen=True)
class Code:
    """A status and err-code of receipts, with the guide's words."""

    status: str
    code: str
    meaning: str
    advice: str
    lasting: str
    messages: int


def losses(found: Gathered) -> list[Loss]:
    """For each day how many receipts each has lost."""
    by_day = {day: totals(rows, LOST) for day, rows in found.summary.groupby("date", sort=True)}
    none = dict.fromkeys(LOST, 0)
    return [Loss(s.day, by_day.get(s.day, none) if s.is_published else None) for s in found.states]


def losers(found: Gathered) -> list[tuple[str, int, str]]:
    """Who lost receipts, how many, and which part of all; the most first."""
    sums = totals(found.summary, LOST)
    whole = sum(sums.values())
    rows = [(LOSERS[name], k, numbers.percent(k / whole)) for name, k in sums.items() if k]
    return sorted(rows, key=lambda row: -row[1])


def rates_by_day(found: Gathered) -> list[dict[str, Any]]:
    """For each day and measure its rate; None where there is none."""
    names = ("messages", "pending", "not_expected", *MEASURES, "missing_capture_outage")
    by_day = {day: totals(rows, names) for day, rows in found.summary.groupby("date", sort=True)}
    return [
        {"day": state.day, "measure": measure,
         "rate": rate(measure, by_day[state.day]).value if state.day in by_day else None,
         "is_published": state.is_published}
        for state in found.states for measure in MEASURES
    ]  # fmt: skip


def reasons(found: Gathered) -> tuple[list[Reason], list[Reason]]:
    """What made verdicts other than confirmed; then what is context only."""
    rules = rules_frame().to_dict("records")
    sentences = {row["reason"]: row["holds when"] for row in rules}
    rows = found.reasons.to_dict("records")
    made = [
        Reason(r["verdict"], r["reason"], sentences.get(r["reason"], ""), int(r["messages_first"]))
        for r in rows if not r["is_context"] and r["reason"] != "none" and r["messages_first"]
    ]  # fmt: skip
    context: dict[str, int] = {}
    for row in rows:
        if row["is_context"]:
            context[row["reason"]] = context.get(row["reason"], 0) + int(row["messages"])
    beside = [Reason("", n, sentences.get(n, ""), k) for n, k in context.items()]
    return (sorted(made, key=lambda r: (-r.messages, r.verdict, r.name)),
            sorted(beside, key=lambda r: (-r.messages, r.name)))  # fmt: skip


def error_codes(found: Gathered) -> tuple[list[Code], int, int]:
    """Codes that name an error, the most frequent first; how many name none; how many are told."""
    rows = found.error_codes.to_dict("records")
    told = sum(int(row["messages"]) for row in rows)
    fine = sum(int(row["messages"]) for row in rows if row["receipt_error_code"] == NO_ERROR)
    return [_code(r) for r in rows if r["receipt_error_code"] != NO_ERROR], fine, told


def _code(row: dict[Any, Any]) -> Code:
    known = ERROR_CODES.get(row["receipt_error_code"])
    meaning = row["meaning"] if isinstance(row["meaning"], str) else "not in Vonage's guide"
    return Code(
        row["receipt_status"], row["receipt_error_code"], known.meaning if known else meaning,
        known.advice if known else "", known.lasting if known else "", int(row["messages"]),
    )  # fmt: skip
