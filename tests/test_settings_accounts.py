"""Several accounts, their subaccounts, and two products in one store."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import date
from pathlib import Path
from typing import Any

import pytest
from test_refreshing import DAY, KEY, World, message, receipt, world_of

from reconcile.errors import SettingsError
from reconcile.reports.slices import Source, is_whole
from reconcile.settings import Owner, load
from reconcile.tables import ORPHANS, RECORDS

SUB, OTHER = "sub00001", "b0b0b0b0"
ACCOUNTS = [
    {"api_key": KEY, "api_secret": "one"},
    {"api_key": SUB, "api_secret": "sub", "parent": KEY},
    {"api_key": OTHER, "api_secret": "two"},
]
NIGHT = "2026-01-06T02:00:00Z"
UUID = "aaaaaaaa-bbbb-4ccc-8ddd-000000000001"
ROWS = [
    message("0A"), message("0B", "2026-01-05T11:00:00Z", account_id=SUB),
    message("0C", account_id=OTHER), message("0D", "2026-01-05T12:00:00Z", None, account_id=SUB),
]  # fmt: skip


@pytest.fixture
def make(configure: Any, tmp_path: Path) -> Iterator[Callable[..., World]]:
    """Worlds of three accounts, whose secrets are in files."""
    for name in ("one", "two", "wrong"):
        (tmp_path / name).write_text(name + "\n")
    with ExitStack() as stack:

        def build(rows: list[dict[str, str]], *receipts: Any, **more: Any) -> World:
            settings = {"accounts": [entry(KEY, "one")], "via": "async"} | more
            world = stack.enter_context(
                world_of(configure, tmp_path / "w", rows, *receipts, accounts=ACCOUNTS)
            )
            world.settings = configure(
                base_url=world.sandbox.base_url, dlr=world.settings.dlr, **settings
            )
            return world

        yield build


def entry(key: str, secret: str, **more: Any) -> dict[str, Any]:
    """An `[[accounts]]` entry whose secret is in a file."""
    return {"api_key": key, "api_secret_file": secret, **more}


def owners(world: World, day: date = DAY) -> dict[str, str]:
    """Each message's account."""
    return {name: row["account_id"] for name, row in world.rows(RECORDS, day).items()}


# Several accounts


@pytest.mark.slow
def test_each_with_its_own_secret(make: Any) -> None:
    """Two accounts are downloaded in one run, each with its own credentials."""
    accounts = [entry(KEY, "one"), entry(OTHER, "two")]
    world = make(ROWS, accounts=accounts, via="sync")
    assert world.fetch(NIGHT).holes == []
    assert owners(world) == {"0A": KEY, "0C": OTHER}
    asked = {(r.credentials[0], r.query["account_id"]) for r in world.sandbox.requests}
    assert asked == {(KEY, KEY), (OTHER, OTHER)}


@pytest.mark.slow
@pytest.mark.parametrize("via", ["sync", "async"])
def test_one_is_refused(make: Any, via: str) -> None:
    """Where one account is refused the other's day is whole; the hole names whose is not (3)."""
    accounts = [entry(KEY, "one"), entry(OTHER, "wrong")]
    world = make(ROWS, accounts=accounts, via=via)
    this = world.fetch(NIGHT)
    assert this.exit_code == 3
    assert {hole["account_id"] for hole in this.holes} == {OTHER}
    assert "401" in this.holes[0]["reason"]
    assert owners(world) == {"0A": KEY}
    known = world.store.ledger()
    assert is_whole(known, Source(KEY), DAY)
    assert not is_whole(known, Source(OTHER), DAY)
    refused = [r for r in world.sandbox.requests if r.credentials[0] == OTHER]
    assert len(refused) <= 8  # those under way, and none after the first answer


@pytest.mark.slow
def test_the_next_night_fills_the_hole(make: Any) -> None:
    """Once its secret is right, only the account that was refused is downloaded."""
    accounts = [entry(KEY, "one"), entry(OTHER, "wrong")]
    world = make(ROWS, accounts=accounts, via="sync")
    world.fetch(NIGHT)
    before = len(world.sandbox.requests)
    Path("wrong").write_text("two")
    assert world.fetch("2026-01-06T12:00:00Z").exit_code == 0
    later = world.sandbox.requests[before:]
    assert {r.query["account_id"] for r in later if "date_start" in r.query} == {OTHER}
    assert owners(world) == {"0A": KEY, "0C": OTHER}


# Subaccounts


def test_subaccounts_by_name(make: Any) -> None:
    """Subaccounts that are named are slices of their own, asked for by their primary."""
    world = make(ROWS, accounts=[entry(KEY, "one", subaccounts=[SUB])])
    assert world.fetch(NIGHT).exit_code == 0
    assert owners(world) == {"0A": KEY, "0B": SUB, "0D": SUB}
    assert {r.credentials[0] for r in world.sandbox.requests} == {KEY}
    known = world.store.ledger()
    assert all(is_whole(known, Source(name), DAY) for name in (KEY, SUB))
    assert not is_whole(known, Source(KEY, subaccounts=True), DAY)


def test_subaccounts_in_one_report(make: Any) -> None:
    """With include_subaccounts one report holds all; each record keeps its own account."""
    accounts = [entry(KEY, "one", include_subaccounts=True)]
    world = make(ROWS, accounts=accounts, via="auto")
    assert world.fetch(NIGHT).exit_code == 0
    assert owners(world) == {"0A": KEY, "0B": SUB, "0D": SUB}
    assert world.sandbox.request_counts["POST /v2/reports 200"] == 1
    [download] = world.store.ledger().downloads
    assert (download["account_id"], download["subaccounts"], download["records"]) == (KEY, True, 3)
    # What is not final is asked for as the subaccount's, with the primary's credentials.
    world.fetch("2026-01-07T02:00:00Z")
    asked = [r for r in world.sandbox.requests if "id" in r.query]
    assert [(r.credentials[0], r.query["account_id"], r.query["id"]) for r in asked][-1] == (
        KEY, SUB, "0D")  # fmt: skip


def test_a_refused_subaccount(make: Any) -> None:
    """An account that may not be asked for (403) is a hole of its own; its primary's day comes."""
    accounts = [entry(KEY, "one", subaccounts=[OTHER])]
    world = make(ROWS, accounts=accounts)
    this = world.fetch(NIGHT)
    assert ({hole["account_id"] for hole in this.holes}, this.exit_code) == ({OTHER}, 3)
    assert "403" in this.holes[0]["reason"]
    assert owners(world) == {"0A": KEY}


SHORT = {"validity": "1h", "longest_validity": "1h", "grace": "1h", "lookback": "1d"}


@pytest.mark.slow
def test_late_records_of_subaccounts(make: Any) -> None:
    """A subaccount's record that appears late is found by its receipt."""
    before = [message("01", "2026-01-04T10:00:00Z"),
              message("02", "2026-01-04T10:00:00Z", account_id=SUB),
              message("0F", account_id=SUB)]  # fmt: skip
    late = message("0E", account_id=SUB, visible_from="2026-01-06T14:00:00Z")
    receipts = receipt("0A"), receipt("0E", **{"api-key": SUB})
    world = make([*before, message("0A"), late], *receipts, via="auto", **SHORT,
                 accounts=[entry(KEY, "one", include_subaccounts=True)])  # fmt: skip
    days = date(2026, 1, 4), DAY
    world.run(NIGHT, *days)
    assert world.rows(ORPHANS).keys() == {"0E"}
    world.run("2026-01-07T02:00:00Z", *days)
    assert owners(world) == {"0A": KEY, "0E": SUB, "0F": SUB}


# Settings


@pytest.mark.parametrize(
    ("more", "via", "words"),
    [
        ({"subaccounts": [SUB], "include_subaccounts": True}, "auto", "subaccounts name the same"),
        ({"include_subaccounts": True}, "sync", "pages hold one account's only"),
    ],
)
def test_both_ways_together(configure: Any, more: dict[str, Any], via: str, words: str) -> None:
    """Subaccounts by name and together exclude each other, as do pages and together."""
    with pytest.raises(SettingsError, match=f"account {KEY}: .*{words}"):
        configure(accounts=[entry(KEY, "one", **more)], via=via)


def test_owners(configure: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whose records are ours is known without a secret."""
    accounts = [entry(KEY, "nowhere", subaccounts=[SUB]), entry("cccccccc", "x", account_id=OTHER),
                entry("dddddddd", "x", include_subaccounts=True)]  # fmt: skip
    settings = configure(accounts=accounts)
    assert settings.owners() == [Owner(KEY), Owner(SUB), Owner(OTHER), Owner("dddddddd", True)]
    assert settings.account_ids() == {KEY, SUB, OTHER, "dddddddd"}
    monkeypatch.setenv("VONAGE_API_KEY", KEY)
    assert configure().owners() == [Owner(KEY)]
    assert configure(account_id=SUB).owners() == [Owner(SUB)]


def test_secrets(configure: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Secrets come from files and from the environment, and show in no repr."""
    (tmp_path / "one").write_text("hidden-1\n")
    monkeypatch.setenv("SECRET_TWO", "hidden-2")
    accounts = [entry(KEY, str(tmp_path / "one")),
                {"api_key": OTHER, "api_secret_env": "SECRET_TWO"}]  # fmt: skip
    found = configure(accounts=accounts).credentials()
    assert [(each.account_id, each.api_secret) for each in found] == [
        (KEY, "hidden-1"), (OTHER, "hidden-2")]  # fmt: skip
    assert "hidden" not in repr(found)


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({}, "name its secret with api_secret_env or api_secret_file"),
        ({"api_secret_file": "nowhere"}, "nowhere cannot be read"),
        ({"api_secret_env": "NO_SUCH"}, "NO_SUCH is not set"),
    ],
)
def test_secrets_that_are_not_there(configure: Any, more: dict[str, str], words: str) -> None:
    """A secret that is nowhere is told by the name of its place."""
    with pytest.raises(SettingsError, match=words):
        configure(accounts=[{"api_key": KEY, **more}]).credentials()


def test_products(configure: Any) -> None:
    """Products are named in a list or with commas, and no others than the two."""
    assert configure(products="SMS, MESSAGES").products == ["SMS", "MESSAGES"]
    assert configure(products=["MESSAGES"]).products == ["MESSAGES"]
    with pytest.raises(SettingsError, match="products"):
        configure(products="VOICE")


# Two products


def test_two_products(make: Any) -> None:
    """SMS and MESSAGES lie in one store; what both show counts once, as SMS; no other channel."""
    other = UUID[:-1] + "2"
    chat = UUID[:-1] + "3"
    of_messages = {"product": "MESSAGES", "status_before": "submitted"}
    rows = [
        message("0A"), message(UUID, id=UUID.upper()),
        message(UUID, id=UUID, provider="sms", status="read", **of_messages),
        message(other, id=other, provider="sms", **of_messages),
        message(chat, id=chat, provider="whatsapp", **of_messages),
    ]  # fmt: skip
    world = make(rows, products=["SMS", "MESSAGES"])
    assert world.fetch(NIGHT).exit_code == 0
    found = {name: row["product"] for name, row in world.rows(RECORDS).items()}
    assert found == {"0A": "SMS", UUID: "SMS", other: "MESSAGES"}
    assert world.rows(RECORDS)[UUID]["status"] == "delivered"
    assert world.sandbox.billed_records == world.store.ledger().billed == 4
    # A second night brings nothing new, whichever product comes last.
    world.fetch("2026-01-06T12:00:00Z")
    assert world.sandbox.billed_records == 4


def test_messages_alone(make: Any) -> None:
    """A store may hold MESSAGES alone, whose states are final by their own names."""
    rows = [
        message(UUID[:-1] + str(n), id=UUID[:-1] + str(n), product="MESSAGES", provider="sms",
                status_before="submitted", status=status)
        for n, status in enumerate(["delivered", "read", "rejected", "undeliverable"])
    ]  # fmt: skip
    world = make(rows, products=["MESSAGES"])
    world.fetch(NIGHT)
    world.fetch("2026-01-07T02:00:00Z")
    assert {row["product"] for row in world.rows(RECORDS).values()} == {"MESSAGES"}
    assert len(world.rows(RECORDS)) == 4
    not_final = [r for r in world.sandbox.requests
                 if "id" in r.query and r.query["product"] == "MESSAGES"]  # fmt: skip
    assert not_final == []


def test_credentials_in_a_url_are_not_shown(tmp_path: Path) -> None:
    """A URL with credentials is refused, and they are not repeated."""
    file = tmp_path / "reconcile.toml"
    file.write_text('base_url = "https://me:hidden@api.nexmo.com"')
    with pytest.raises(SettingsError, match="without credentials") as told:
        load(file)
    assert "hidden" not in str(told.value)
