"""The invented world: real countries and codes, networks of no such name, numbers of nobody.

A recipient's number is the dial code, `000` and six digits, which no numbering plan gives out.
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal


@dataclass(frozen=True)
class Country:
    """A country by ISO 3166-1 alpha-2, with its dial code."""

    code: str
    name: str
    dial: str


@dataclass(frozen=True)
class Network:
    """A network, and how honest traffic goes on it.

    Attributes:
        code: mobile country and network code, or a word such as `US-FIXED`.
        weight: its part of the traffic, relative to the others.
        median_s, spread: of its lognormal delivery times.
        failing: share of its messages that are not delivered.
        errors: err-codes of its failures, all equally likely.
        sender: the sender that is put in place of ours, "" where it stays.
    """

    country: Country
    code: str
    name: str
    price: Decimal
    weight: float
    median_s: float
    spread: float
    failing: float
    errors: tuple[str, ...]
    sender: str = ""


GB = Country("GB", "United Kingdom", "44")
US = Country("US", "United States", "1")
DE = Country("DE", "Germany", "49")
FR = Country("FR", "France", "33")
IN = Country("IN", "India", "91")
BR = Country("BR", "Brazil", "55")
NG = Country("NG", "Nigeria", "234")
NA = Country("NA", "Namibia", "264")
KE = Country("KE", "Kenya", "254")
AR = Country("AR", "Argentina", "54")
IL = Country("IL", "Israel", "972")
JP = Country("JP", "Japan", "81")


def _network(
    country: Country, code: str, name: str, price: str, weight: float, median_s: float,
    spread: float, failing: float, errors: str, sender: str = "",
) -> Network:  # fmt: skip
    cost = Decimal(price).quantize(Decimal("1e-8"))
    return Network(
        country, code, name, cost, weight, median_s, spread, failing, tuple(errors.split()), sender
    )


# fmt: off
NETWORKS = (
    _network(GB, "23410", "Albion Mobile", "0.0333", 12, 3.2, 0.8, 0.03, "2 3 4 7 9"),
    _network(GB, "23415", "Harbour Telecom", "0.0333", 9, 2.6, 0.7, 0.025, "2 3 7"),
    _network(GB, "23430", "Northmoor", "0.0341", 4, 4.0, 0.9, 0.04, "2 3 5 9"),
    _network(US, "310004", "Prairie Wireless", "0.00845", 9, 2.2, 0.7, 0.05, "6 9 12 14"),
    _network(US, "310260", "Sequoia Cellular", "0.00845", 8, 2.4, 0.8, 0.06, "6 9 14 16"),
    _network(US, "US-FIXED", "Fixed lines", "0.0081", 2, 5.0, 0.6, 0.12, "11 12", "10000001234"),
    _network(DE, "26201", "Rheinfunk", "0.0728", 7, 2.9, 0.7, 0.02, "2 3 4"),
    _network(DE, "26202", "Alpennetz", "0.0716", 6, 3.1, 0.7, 0.02, "2 3 7"),
    _network(DE, "26203", "Heidefunk", "0.0719", 3, 3.7, 0.8, 0.03, "2 3 15"),
    _network(FR, "20801", "Hexa Mobile", "0.0652", 5, 3.3, 0.7, 0.03, "2 3 4 7"),
    _network(FR, "20810", "Lumière Télécom", "0.0661", 4, 3.0, 0.8, 0.03, "2 3 12"),
    _network(IN, "40445", "Deccan Cell", "0.0028", 9, 5.5, 1.0, 0.09, "50 51 52 53 8", "VM-ACMEIN"),
    _network(IN, "40410", "Yamuna Mobile", "0.0028", 7, 6.0, 1.0, 0.08, "50 51 52 2"),
    _network(IN, "40554", "Malabar Voice", "0.0029", 5, 6.5, 1.1, 0.10, "51 52 54 2 7"),
    _network(BR, "72405", "Ipê Celular", "0.0412", 5, 4.4, 0.9, 0.05, "2 3 8"),
    _network(BR, "72411", "Cerrado Móvel", "0.0405", 4, 4.9, 0.9, 0.06, "2 8 12"),
    _network(NG, "62130", "Savanna Link", "0.0385", 4, 8.0, 1.2, 0.11, "2 8 12 15"),
    _network(NG, "62120", "Delta Cell", "0.0392", 3, 9.5, 1.2, 0.12, "2 3 8 15"),
    _network(NG, "62150", "Jos Plateau Mobile", "0.0388", 2, 9.0, 1.1, 0.12, "2 7 8"),
    _network(NA, "64901", "Etosha Mobile", "0.0297", 2, 7.0, 1.0, 0.08, "2 3 8"),
    _network(NA, "64903", "Fish River Telecom", "0.0301", 1, 7.5, 1.0, 0.08, "2 8"),
    _network(KE, "63902", "Tana Mobile", "0.0524", 4, 6.0, 1.0, 0.07, "2 3 8 15"),
    _network(KE, "63903", "Mara Cell", "0.0519", 2, 6.6, 1.0, 0.08, "2 8 12"),
    _network(KE, "63907", "Swift Line", "0.0483", 0, 0.3, 0.01, 0.0, ""),
    _network(AR, "722020", "Pampa Móvil", "0.0476", 3, 5.2, 0.9, 0.06, "2 3 12"),
    _network(AR, "722310", "Aconcagua Celular", "0.0470", 3, 4.8, 0.9, 0.05, "2 7 12"),
    _network(IL, "42502", "Galil Cellular", "0.2198", 3, 3.0, 0.6, 0.02, "2 3"),
    _network(IL, "42501", "Negev Mobile", "0.2172", 2, 3.2, 0.7, 0.03, "2 3 4"),
    _network(JP, "44010", "Sakura Denwa", "0.0681", 4, 2.1, 0.6, 0.015, "2 3 13"),
    _network(JP, "44020", "Fuji Keitai", "0.0690", 3, 2.3, 0.6, 0.015, "2 4"),
)
# fmt: on

# The one whose receipts are too good; honest traffic, ported numbers and wrong networks avoid it.
FAKE_LOOKING = next(n for n, network in enumerate(NETWORKS) if network.weight == 0)
SENDERS = ("Acme", "Acme, Ltd", "Café Bleu", "10000005678", "VERIFY")
# How many messages an hour, relative to the others, from 00:00 UTC on.
HOURS = (2, 1, 1, 1, 2, 3, 5, 8, 10, 11, 11, 10, 10, 11, 11, 10, 9, 9, 8, 8, 7, 5, 4, 3)
