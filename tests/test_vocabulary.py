"""The facts of the domain hang together. (What the files of facts hold: test_facts.py.)"""

from __future__ import annotations

import re

import pytest

from reconcile import vocabulary as words


def test_final_is_definite_or_unknown() -> None:
    """Final means definite, or `unknown`: the platform ended with no answer."""
    assert set(words.FINAL) - set(words.DEFINITE) == {words.UNKNOWN}


def test_each_status_is_one_thing() -> None:
    """A status is definite, `unknown` or not final, never two of them."""
    assert len(words.STATUSES) == len(set(words.STATUSES))
    assert set(words.STATUSES) == {*words.DEFINITE, words.UNKNOWN, *words.NOT_FINAL}


def test_statuses_are_those_of_the_guide() -> None:
    """The eleven statuses that Vonage documents."""
    assert set(words.STATUSES) == {
        "delivered", "read", "failed", "rejected", "expired", "undeliverable", "deleted",
        "unknown", "accepted", "buffered", "submitted",
    }  # fmt: skip


def test_not_delivered_statuses_are_definite() -> None:
    """The ends that products name differently are definite, and none of them is delivery."""
    assert set(words.NOT_DELIVERED_ANYWHERE) < set(words.DEFINITE) - {"delivered", "read"}


@pytest.mark.parametrize("code", sorted(words.ERROR_CODES))
def test_error_code_says_what_it_means(code: str) -> None:
    """Each code is known by itself, is below those of the Messages API, and has advice."""
    error = words.ERROR_CODES[code]
    assert error.code == code
    assert int(code) < words.MESSAGES_ERROR_CODES_FROM
    assert error.meaning
    assert error.advice.endswith(".")
    assert error.lasting in {"temporary", "permanent", ""}


def test_error_codes_of_the_guide_are_here() -> None:
    """0–16, 50–54 and 99."""
    assert {int(code) for code in words.ERROR_CODES} == {*range(17), *range(50, 55), 99}


def test_codes_that_tell_nothing_are_codes() -> None:
    """1 and 99 are documented, and say nothing of the cause."""
    assert set(words.UNTELLING_ERROR_CODES) == {"1", "99"} <= set(words.ERROR_CODES)


def test_namibia_is_a_country() -> None:
    """`NA` is a code, not a blank."""
    assert words.countries()["NA"].name == "Namibia"
    assert words.mcc_countries()["649"] == ("NA",)


def test_mcc_table_has_one_country_a_code() -> None:
    """A shared code belongs to its main country; one of no country is left out."""
    table = dict(words.mcc_table())
    assert len(table) == len(words.mcc_table())
    assert table["234"] == "GB"
    assert "901" not in table
    assert set(table.values()) <= set(words.countries())


@pytest.mark.parametrize(
    ("country", "codes"),
    [
        ("US", ("310", "311", "312", "313", "314", "315", "316")),
        ("IN", ("404", "405", "406")), ("JP", ("440", "441")), ("CN", ("460", "461")),
    ],
)  # fmt: skip
def test_country_with_several_codes(country: str, codes: tuple[str, ...]) -> None:
    """Codes that are one country's each lead to it."""
    table = dict(words.mcc_table())
    assert {table[code] for code in codes} == {country}


def test_home_is_where_a_countrys_code_belongs() -> None:
    """Guernsey's networks are on Britain's code; most countries are at home in themselves."""
    homes = words.home_countries()
    assert (homes["GG"], homes["GB"], homes["DE"], homes["NA"]) == ("GB", "GB", "DE", "NA")
    assert set(homes) == set(words.countries())


def test_home_is_at_home() -> None:
    """The home of a home is itself, so that a record and a receipt are compared alike."""
    homes = words.home_countries()
    assert {home for home in homes.values() if homes[home] != home} == set()


def test_country_with_its_own_code_is_its_own_home() -> None:
    """A country that is the main one of some code is not taken for a neighbour's."""
    homes = words.home_countries()
    assert {own for _, own in words.mcc_table() if homes[own] != own} == set()


def test_rules_version_is_a_word() -> None:
    """It stands in file metadata and in each summary row."""
    assert re.fullmatch(r"\d+(\.\d+)*", words.RULES_VERSION)
