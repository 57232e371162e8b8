"""Numbers as the report writes them: grouped as in the terminal, never broken over lines."""

from __future__ import annotations

from datetime import date
from decimal import Decimal
from typing import Any

from reconcile.present.text import NOTHING
from reconcile.vocabulary import UNKNOWN

THIN = "\u202f"  # narrow, and no line ends at it


def count(number: Any) -> str:
    """A whole number, as 1,234."""
    return f"{int(number):,}"


def percent(rate: float | None, digits: int = 1) -> str:
    """A rate as 4.0 %; what is not 0 is never shown as 0."""
    if rate is None or rate != rate:
        return NOTHING
    least = 10.0 ** -(digits + 2)
    if 0 < rate < least:
        return f"<{THIN}{least * 100:.{digits}f}{THIN}%"
    return f"{rate * 100:.{digits}f}{THIN}%"


def between(low: float, high: float) -> str:
    """An interval of rates, as 2.1–7.5."""
    return f"{low * 100:.1f}–{high * 100:.1f}"


def money(amount: Decimal, currency: str) -> str:
    """An amount with its currency, or with the words that nobody knows which."""
    named = currency if currency != UNKNOWN else "of unknown currency"
    return f"{amount:,.2f}\u00a0{named}"


def seconds(ms: float | None) -> str:
    """A time of delivery, as 0.84 s, 12 s, 3.5 min or 2.1 h."""
    if ms is None or ms != ms:
        return NOTHING
    for unit, name in ((3_600_000, "h"), (120_000, "min")):
        if ms >= unit:
            return f"{ms / (60_000 if name == 'min' else unit):.1f}{THIN}{name}"
    return f"{ms / 1000:.2f}{THIN}s" if ms < 9_995 else f"{ms / 1000:.0f}{THIN}s"


def grown(now: float, before: float) -> str:
    """How a count changed, as +4.2 % or −1.0 %."""
    if not before:
        return "none before" if now else "none, as before"
    return f"{_signed((now - before) / before * 100)}{THIN}%"


def points(now: float | None, before: float | None) -> str:
    """How a rate changed, in percentage points."""
    if now is None or before is None:
        return "no rate before" if before is None else "no rate now"
    return f"{_signed((now - before) * 100, 2)} points"


def day(value: date) -> str:
    """A day as 31 Jan 2026, in English whatever the machine speaks."""
    return f"{value.day}\u00a0{MONTHS[value.month - 1]}\u00a0{value.year}"


def _signed(number: float, digits: int = 1) -> str:
    text = f"{abs(number):,.{digits}f}"
    if not float(text.replace(",", "")):
        return f"±{text}"
    return ("+" if number > 0 else "−") + text


def plural(number: int, one: str, many: str = "") -> str:
    """A count with its noun, as 1 day or 2 days."""
    return f"{number:,} {one if number == 1 else many or one + 's'}"


MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
