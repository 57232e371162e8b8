"""The capability table: what the user knows of a country's or a network's receipts.

A small CSV with a header: `country` (ISO 3166-1 alpha-2), `network_code` (MCC and MNC; `*` or blank
for all networks of the country), `receipts` and `note`. A network's line outranks its country's.
"""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path

from reconcile.errors import SettingsError, trouble
from reconcile.vocabulary import countries, home_countries, mcc_countries

RECEIPTS = {
    "handset": "receipts come from the handset",
    "carrier": "receipts come from the carrier, which took the message over",
    "none": "no receipts are to be expected",
    "untrusted": "receipts are not to be believed",
}
COLUMNS = ("country", "network_code", "receipts", "note")
ALL_NETWORKS = "*"


@dataclass(frozen=True)
class Capability:
    """What is known of the receipts of a network, or (`*`) of a whole country."""

    country: str
    network_code: str
    receipts: str
    note: str = ""


def load(path: Path) -> tuple[Capability, ...]:
    """Reads and checks a capability table.

    Raises:
        SettingsError: it cannot be read, or a line of it is wrong; it says which and why.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file)
            lacks = [name for name in COLUMNS[:3] if name not in (reader.fieldnames or ())]
            if lacks:
                raise SettingsError(
                    f"{path} lacks the column {', '.join(lacks)}: it has {', '.join(COLUMNS)}"
                )
            found = [(reader.line_num, _capability(row)) for row in reader]
    except OSError as error:
        raise SettingsError(f"capabilities {path} cannot be read: {trouble(error)}") from None
    except (UnicodeDecodeError, csv.Error) as error:
        raise SettingsError(f"capabilities {path} is no CSV in UTF-8: {error}") from None
    seen: dict[tuple[str, str], int] = {}
    for line, one in found:
        if problem := _problem(one):
            raise SettingsError(f"{path}, line {line}: {problem}")
        before = seen.setdefault((one.country, one.network_code), line)
        if before != line:
            raise SettingsError(f"{path}, line {line}: line {before} says that already: keep one")
    return tuple(one for _, one in found)


def _capability(row: dict[str, str | None]) -> Capability:
    country, network, receipts, note = ((row.get(name) or "").strip() for name in COLUMNS)
    return Capability(country.upper(), network or ALL_NETWORKS, receipts.lower(), note)


def _problem(one: Capability) -> str:
    """What is wrong with a line; empty if nothing is."""
    if one.country not in countries():
        return f"{one.country or 'blank'} is no country: use its ISO 3166-1 code, as GB"
    if one.receipts not in RECEIPTS:
        return f"receipts is {one.receipts or 'blank'}: use {', '.join(RECEIPTS)}"
    if one.network_code == ALL_NETWORKS:
        return ""
    homes = home_countries()
    owners = [homes.get(own, own) for own in mcc_countries().get(one.network_code[:3], ())]
    if owners and homes.get(one.country, one.country) not in owners:
        return f"the network {one.network_code} is of {owners[0]}, not of {one.country}"
    return ""
