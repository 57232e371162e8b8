"""Facts of the domain as data: statuses, error codes, mobile country codes. Knows nothing else.

Sources: Vonage's delivery-receipt guide (statuses, err-codes 0–15, 50–54, 99), its support articles
(16, the SMPP spellings) and the Messages API reference (1000 and up); ITU-T E.212 for the mobile
country codes in `facts/mcc.csv`, ISO 3166-1 for the countries in `facts/countries.csv`.
"""

from __future__ import annotations

import csv
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

RULES_VERSION = "2"
UNKNOWN = "unknown"
# Every message has exactly one.
VERDICTS = ("confirmed", "pending", "missing", "unknown", "suspect", "not_expected")

# A definite status says what became of the message; `unknown` is final but says nothing.
DEFINITE = ("delivered", "read", "failed", "rejected", "expired", "undeliverable", "deleted")
NOT_FINAL = ("accepted", "buffered", "submitted")
FINAL = (*DEFINITE, UNKNOWN)
STATUSES = (*FINAL, *NOT_FINAL)
# What the SMS API answers at sending; every other status is a refusal.
SENT_ACCEPTED = "0"
# Between products the same end has several names: a receipt of one, a record of the other.
NOT_DELIVERED_ANYWHERE = ("failed", "rejected", "undeliverable", "expired")


@dataclass(frozen=True)
class ErrorCode:
    """An err-code of a delivery receipt.

    `lasting`: "temporary", "permanent" or "" where the guide does not say.
    """

    code: str
    meaning: str
    advice: str
    lasting: str = ""


ERROR_CODES: dict[str, ErrorCode] = {
    e.code: e
    for e in (
        ErrorCode("0", "Delivered", "None: also sent with accepted, buffered and expired."),
        ErrorCode("1", "Unknown", "Check the number if the status is rejected."),
        ErrorCode("2", "Absent subscriber, temporary", "Try again later.", "temporary"),
        ErrorCode("3", "Absent subscriber, permanent", "Remove the number.", "permanent"),
        ErrorCode("4", "Call barred by user", "Remove the number.", "permanent"),
        ErrorCode("5", "Portability error", "Ask the operator: the number was ported."),
        ErrorCode("6", "Anti-spam rejection", "Change the content or the sender.", "permanent"),
        ErrorCode("7", "Handset busy", "Try again later.", "temporary"),
        ErrorCode("8", "Network error", "Try again later.", "temporary"),
        ErrorCode("9", "Illegal number", "Remove it: the user opted out.", "permanent"),
        ErrorCode("10", "Illegal message", "Mend the parameters or the encoding.", "permanent"),
        ErrorCode("11", "Unroutable", "Contact Vonage support."),
        ErrorCode("12", "Destination unreachable", "Check the number."),
        ErrorCode("13", "Subscriber age restriction", "Do not send this there.", "permanent"),
        ErrorCode("14", "Number blocked by carrier", "Ask the carrier.", "permanent"),
        ErrorCode("15", "Prepaid, insufficient funds", "The recipient has no credit.", "temporary"),
        ErrorCode("16", "Gateway quota exceeded", "Send slower, try again.", "temporary"),
        ErrorCode("50", "Entity filter", "Register the sending entity.", "permanent"),
        ErrorCode("51", "Header filter", "Register the sender ID.", "permanent"),
        ErrorCode("52", "Content filter", "Register the template.", "permanent"),
        ErrorCode("53", "Consent filter", "The recipient gave no consent.", "permanent"),
        ErrorCode("54", "Regulation error", "Check the country's regulations.", "permanent"),
        ErrorCode("99", "General error", "Contact Vonage support: it concerns the route."),
    )
}
# A failure whose code says nothing of its cause.
UNTELLING_ERROR_CODES = ("1", "99")
# From here on a code is one of the Messages API (1000 throttled, 1300 not allowed …).
MESSAGES_ERROR_CODES_FROM = 1000


@dataclass(frozen=True)
class Country:
    """A country by ISO 3166-1 alpha-2 (`NA` is Namibia), with its English short name."""

    code: str
    name: str


@cache
def countries() -> dict[str, Country]:
    """Every country by its code."""
    return {row["country"]: Country(row["country"], row["name"]) for row in _facts("countries.csv")}


@cache
def mcc_countries() -> dict[str, tuple[str, ...]]:
    """Mobile country code → the countries whose networks use it, the main one first."""
    return {row["mcc"]: tuple(row["countries"].split()) for row in _facts("mcc.csv")}


@cache
def home_countries() -> dict[str, str]:
    """Country → the country whose mobile country code its networks use, mostly itself.

    A number of Guernsey is on 234 as all of Britain is: the two are not foreign to each other.
    """
    homes = {code: code for code in countries()}
    used = [sharing for sharing in mcc_countries().values() if sharing]
    for sharing in reversed(used):
        homes |= dict.fromkeys(sharing, sharing[0])
    return homes | {own[0]: own[0] for own in used}


def mcc_table() -> list[tuple[str, str]]:
    """Rows (mcc, country) of every code that belongs to a country, shared ones to the main one."""
    return [(mcc, own[0]) for mcc, own in mcc_countries().items() if own]


def _facts(name: str) -> list[dict[str, str]]:
    text = files("reconcile").joinpath("facts", name).read_text(encoding="utf-8")
    return list(csv.DictReader(text.splitlines()))
