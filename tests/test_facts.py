"""The tables of facts: mobile country codes and countries.

Compiled by hand and compared by script with public sources:

* ITU-T, list of mobile country codes (E.212), annex to Operational Bulletin
  1117 (1.II.2017) and its amendments in bulletins 1156, 1161, 1214 and 1252,
  as text in github.com/P1sec/MCC_MNC; its table drawn from Wikipedia as well;
* github.com/pbakondy/mcc-mnc-list (2023);
* github.com/musalbas/mcc-mnc-table (2024);
* github.com/datasets/country-codes for ISO 3166-1 codes and dial codes.

Not in the ITU list, yet kept: 001 (test), 289 (Abkhazia), 534 and 535 (Northern
Mariana Islands and Guam, where networks use the codes of the United States).
In the ITU list, yet left out, for no country's network uses them: 902, 991.
"""

import csv
import re
from pathlib import Path

import pytest

FACTS = Path(__file__).resolve().parent.parent / "reconcile" / "facts"


def read(name: str) -> list[list[str]]:
    with (FACTS / name).open(encoding="utf-8", newline="") as handle:
        return list(csv.reader(handle))


MCC = read("mcc.csv")
COUNTRIES = read("countries.csv")
MCCS = {row[0]: row[1].split() for row in MCC[1:]}
DIAL = {row[0]: row[2] for row in COUNTRIES[1:]}


@pytest.mark.parametrize("name", ["mcc.csv", "countries.csv"])
def test_file_is_plain(name: str) -> None:
    raw = (FACTS / name).read_bytes()
    assert raw.endswith(b"\n")
    assert b"\r" not in raw
    assert not raw.startswith(b"\xef\xbb\xbf")
    rows = read(name)
    assert all(len(row) == 3 for row in rows)
    assert not any(row[0].startswith("#") for row in rows)
    assert all(cell == cell.strip() for row in rows for cell in row)


def test_headers() -> None:
    assert MCC[0] == ["mcc", "countries", "note"]
    assert COUNTRIES[0] == ["country", "name", "dial_code"]


@pytest.mark.parametrize("rows", [MCC, COUNTRIES], ids=["mcc", "countries"])
def test_sorted_and_unique(rows: list[list[str]]) -> None:
    keys = [row[0] for row in rows[1:]]
    assert keys == sorted(set(keys))


def test_mcc_format() -> None:
    for mcc, countries, _ in MCC[1:]:
        assert re.fullmatch(r"[0-9]{3}", mcc)
        assert re.fullmatch(r"([A-Z]{2}( [A-Z]{2})*)?", countries)
        assert len(set(MCCS[mcc])) == len(MCCS[mcc])


def test_countries_format() -> None:
    for country, name, dial_code in COUNTRIES[1:]:
        assert re.fullmatch(r"[A-Z]{2}", country)
        assert name
        assert re.fullmatch(r"(1|[2-9][0-9]{0,2})?", dial_code)
    names = [row[1] for row in COUNTRIES[1:]]
    assert len(set(names)) == len(names)


def test_every_country_is_known() -> None:
    assert {c for countries in MCCS.values() for c in countries} <= set(DIAL)


def test_only_shared_codes_have_no_country() -> None:
    assert {mcc for mcc, countries in MCCS.items() if not countries} == {"001", "901", "999"}


def test_only_uninhabited_places_have_no_dial_code() -> None:
    assert {c for c, dial in DIAL.items() if not dial} == {"BV", "HM", "TF", "UM"}


def test_every_place_without_a_code_of_its_own_is_meant() -> None:
    # No network there, or none under a code of its own that ITU lists.
    served = {c for countries in MCCS.values() for c in countries}
    assert set(DIAL) - served == {"AQ", "BV", "GS", "HM", "IO", "PN", "TF", "UM"}


def test_counts() -> None:
    assert len(DIAL) == 250  # 249 of ISO 3166-1, and Kosovo
    assert len(MCCS) == 244
    first = {d: sum(m[0] == d for m in MCCS) for d in "0123456789"}
    assert first == {
        "0": 1, "1": 0, "2": 54, "3": 34, "4": 46, "5": 30, "6": 56, "7": 21, "8": 0, "9": 2,
    }  # fmt: skip


# Written down once more, from the list of ITU-T E.212 alone; 901, 902 and 991 are of no country.
ASSIGNED = """
202 204 206 208 212 213 214 216 218 219 220 221 222 225 226 228 230 231 232 234 235 238 240 242 244
246 247 248 250 255 257 259 260 262 266 268 270 272 274 276 278 280 282 283 284 286 288 290 292 293
294 295 297
302 308 310 311 312 313 314 315 316 330 332 334 338 340 342 344 346 348 350 352 354 356 358 360 362
363 364 365 366 368 370 372 374 376
400 401 402 404 405 406 410 412 413 414 415 416 417 418 419 420 421 422 424 425 426 427 428 429 430
431 432 434 436 437 438 440 441 450 452 454 455 456 457 460 461 466 467 470 472
502 505 510 514 515 520 525 528 530 536 537 539 540 541 542 543 544 545 546 547 548 549 550 551 552
553 554 555
602 603 604 605 606 607 608 609 610 611 612 613 614 615 616 617 618 619 620 621 622 623 624 625 626
627 628 629 630 631 632 633 634 635 636 637 638 639 640 641 642 643 645 646 647 648 649 650 651 652
653 654 655 657 658 659
702 704 706 708 710 712 714 716 722 724 730 732 734 736 738 740 742 744 746 748 750
"""


def test_every_assigned_code_has_its_country() -> None:
    """Each code that ITU gave to a country is here with one; what is here beside those is named."""
    assigned = set(ASSIGNED.split())
    assert all(MCCS.get(mcc) for mcc in assigned)
    assert set(MCCS) - assigned == {"001", "289", "423", "534", "535", "901", "999"}


def test_countries_with_several_codes() -> None:
    """They are one country each, whichever of their codes a network has."""
    several: dict[str, set[str]] = {}
    for mcc, (main, *_) in ((m, c) for m, c in MCCS.items() if c):
        several.setdefault(main, set()).add(mcc)
    found = {country: mccs for country, mccs in several.items() if len(mccs) > 1}
    assert found == {
        "AE": {"424", "430", "431"}, "CN": {"460", "461"}, "GB": {"234", "235"},
        "GE": {"282", "289"}, "IN": {"404", "405", "406"}, "JP": {"440", "441"},
        "US": {str(n) for n in range(310, 317)},
    }  # fmt: skip


def test_namibia_is_two_letters() -> None:
    assert MCCS["649"] == ["NA"]
    assert ["NA", "Namibia", "264"] in COUNTRIES


@pytest.mark.parametrize(
    ("mcc", "countries"),
    [
        ("208", "FR"), ("221", "XK"), ("234", "GB GG JE IM"), ("235", "GB GG JE IM"),
        ("250", "RU"), ("262", "DE"), ("289", "GE"), ("294", "MK"), ("297", "ME"),
        ("302", "CA"), ("312", "US GU PR VI MP"), ("340", "GP MQ GF BL MF"),
        ("362", "CW BQ SX"), ("401", "KZ"), ("404", "IN"), ("405", "IN"), ("406", "IN"),
        ("423", "PS"), ("425", "IL PS"), ("440", "JP"), ("454", "HK"), ("455", "MO"),
        ("460", "CN"), ("466", "TW"), ("505", "AU CX CC NF"), ("604", "MA EH"),
        ("629", "CG"), ("630", "CD"), ("647", "RE YT"), ("659", "SS"), ("750", "FK"),
    ],
)  # fmt: skip
def test_some_codes(mcc: str, countries: str) -> None:
    assert MCCS[mcc] == countries.split()


@pytest.mark.parametrize("mcc", [str(n) for n in range(310, 317)])
def test_united_states(mcc: str) -> None:
    assert MCCS[mcc][0] == "US"
    assert {"GU", "PR", "VI", "MP"} <= set(MCCS[mcc])


@pytest.mark.parametrize(
    ("country", "dial_code"),
    [
        ("BQ", "599"), ("CA", "1"), ("CD", "243"), ("CG", "242"), ("DE", "49"), ("DO", "1"),
        ("GB", "44"), ("JE", "44"), ("JM", "1"), ("KZ", "7"), ("PR", "1"), ("PS", "970"),
        ("RU", "7"), ("SS", "211"), ("SX", "1"), ("TL", "670"), ("US", "1"), ("XK", "383"),
        ("YT", "262"),
    ],
)  # fmt: skip
def test_some_dial_codes(country: str, dial_code: str) -> None:
    assert DIAL[country] == dial_code
