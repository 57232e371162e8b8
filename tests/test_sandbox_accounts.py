"""What an account of the sandbox may see: its subaccounts, late records, product MESSAGES."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from test_sandbox_server import KEY, SCHEMA, Client, message, write_day

from reconcile.errors import InputError, UsageError
from reconcile.sandbox.generate import generate
from reconcile.sandbox.server import Sandbox

NOW = datetime(2026, 1, 6, 12, tzinfo=UTC)
FIRST, SECOND, STRANGER = "sub00001", "sub00002", "other001"
UUIDS = [f"aaaaaaaa-bbbb-4ccc-8ddd-00000000000{n}" for n in range(4)]
DATES = {"date_start": "2026-01-05T00:00:00Z", "date_end": "2026-01-06T00:00:00Z"}
SMS = {"product": "SMS", "direction": "outbound"} | DATES
MESSAGES = {"account_id": KEY, "product": "MESSAGES", "direction": "outbound"}
WORLD = f"""\
account_id,product,id,message_id,direction,date_received,date_finalized,status_before,status,visible_from,provider,total_price,error_code,currency
{KEY},SMS,R1,OWN,outbound,2026-01-05T09:00:00Z,2026-01-05T09:00:06Z,accepted,delivered,,,0.04,0,
{FIRST},SMS,R2,SUB1,outbound,2026-01-05T10:00:00Z,2026-01-05T10:00:06Z,accepted,delivered,,,0.04,0,
{SECOND},SMS,R3,SUB2,outbound,2026-01-05T11:00:00Z,2026-01-05T11:00:06Z,accepted,failed,,,0.04,0,
{STRANGER},SMS,R4,STRANGE,outbound,2026-01-05T12:00:00Z,,accepted,,,,,,
{KEY},SMS,R5,LATE,outbound,2026-01-05T08:00:00Z,2026-01-05T08:00:06Z,accepted,delivered,2026-01-06T18:00:00Z,,0.04,0,
{KEY},MESSAGES,{UUIDS[0]},{UUIDS[0]},outbound,2026-01-05T09:00:00Z,2026-01-05T09:01:00Z,submitted,read,,whatsapp,0.0058,,EUR
{KEY},MESSAGES,{UUIDS[1]},{UUIDS[1]},outbound,2026-01-05T10:00:00Z,2026-01-05T10:01:00Z,submitted,undeliverable,,sms,0.21982,,EUR
{KEY},MESSAGES,{UUIDS[2]},{UUIDS[2]},outbound,2026-01-05T11:00:00Z,2026-01-05T11:01:00Z,submitted,rejected,,sms,0,1300,EUR
{KEY},MESSAGES,{UUIDS[3]},{UUIDS[3]},outbound,2026-01-05T12:00:00Z,,submitted,,,viber_service_msg,0,,EUR
"""
# The header of a real archive of 2025.
# fmt: off
HEADER = [
    "account_id", "message_id", "client_ref", "direction", "from", "to", "country", "country_name",
    "provider", "network", "network_name", "session_type", "session_id", "date_received",
    "date_finalized", "latency", "status", "error_code", "currency", "estimated_price",
    "total_price", "id",
]
# fmt: on


def account(key: str, **more: str) -> dict[str, str]:
    return {"api_key": key, "api_secret": "sub", **more}


def write_accounts(folder: Path, accounts: list[dict[str, str]]) -> None:
    content = {"format": 1, "accounts": accounts}
    (folder / "sandbox.json").write_text(json.dumps(content), "utf-8")


@pytest.fixture
def client(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Client]:
    """A primary with two subaccounts, and a stranger, none of them held to a rate."""
    monkeypatch.setattr("reconcile.sandbox.protocol.ASYNC_PER_SECOND", 1001)
    subs = [account(key, parent=KEY) for key in (FIRST, SECOND)]
    write_accounts(tmp_path, [account(KEY), *subs, account(STRANGER)])
    (tmp_path / "world.csv").write_text(WORLD, "utf-8")
    with Sandbox(tmp_path, now=NOW, pending_seconds=0, seconds_per_million=0) as sandbox:
        client = Client(sandbox)
        with client.session:
            yield client


def be(client: Client, key: str) -> None:
    client.session.auth = (key, "sub")


def listed(client: Client, account_id: str) -> list[dict[str, Any]]:
    """The account's reports that have ended well."""
    given = {"account_id": account_id, "status": "SUCCESS"}
    answer = client.send("GET", "/v2/reports", params=given)
    assert answer.status_code == 200
    reports: list[dict[str, Any]] = answer.json()["reports"]
    return reports


# Subaccounts


@pytest.mark.parametrize("parent", ["nobody00", FIRST])
def test_no_primary(tmp_path: Path, parent: str) -> None:
    """A primary is an account of the folder, and no subaccount itself."""
    accounts = [account(KEY), account(FIRST, parent=KEY), account(SECOND, parent=parent)]
    write_accounts(tmp_path, accounts)
    with pytest.raises(InputError, match=rf"a subaccount {SECOND} of {parent}, which is no"):
        Sandbox(tmp_path)


@pytest.mark.parametrize(("asked", "expected"), [(KEY, "OWN"), (FIRST, "SUB1"), (SECOND, "SUB2")])
def test_primary_asks_for_each(client: Client, asked: str, expected: str) -> None:
    """A primary lists its own records, or those of one subaccount."""
    assert client.ids(SMS | {"account_id": asked}) == [expected]
    assert [line["message_id"] for line in client.lines(SMS | {"account_id": asked})] == [expected]
    by_id = {"account_id": asked, "product": "SMS", "direction": "outbound", "id": "SUB1"}
    assert client.records(by_id)["items_count"] == (asked == FIRST)


@pytest.mark.parametrize(
    ("asker", "asked"), [(FIRST, KEY), (FIRST, SECOND), (STRANGER, FIRST), (STRANGER, KEY)]
)
def test_others_may_not(client: Client, asker: str, asked: str) -> None:
    """A subaccount asks for itself alone, and a stranger for nobody else."""
    be(client, asker)
    given = SMS | {"account_id": asked}
    client.refusal(given, 403)
    assert client.send("POST", "/v2/reports", json=given).status_code == 403
    of = {"account_id": asked, "status": "SUCCESS"}
    assert client.send("GET", "/v2/reports", params=of).status_code == 403


def test_report_with_subaccounts(client: Client) -> None:
    """A report may hold the subaccounts' records too; account_id tells whose each is."""
    lines = client.lines(SMS | {"account_id": KEY, "include_subaccounts": True})
    assert [(line["message_id"], line["account_id"]) for line in lines] == [
        *(("SUB2", SECOND), ("SUB1", FIRST), ("OWN", KEY))
    ]
    assert client.sandbox.billed_records == 3


def test_subaccount_has_none(client: Client) -> None:
    """A subaccount's report with its own subaccounts holds its own records."""
    be(client, FIRST)
    lines = client.lines(SMS | {"account_id": FIRST, "include_subaccounts": "true"})
    assert [line["message_id"] for line in lines] == ["SUB1"]


def test_report_belongs_to_who_asked(client: Client) -> None:
    """A report on a subaccount that its primary created is the primary's: list, status and file."""
    body = client.report(SMS | {"account_id": FIRST})
    assert listed(client, KEY) == listed(client, FIRST) == [body]
    assert listed(client, SECOND) == []
    be(client, FIRST)
    assert listed(client, FIRST) == []
    for link in (body["_links"]["self"]["href"], body["_links"]["download_report"]["href"]):
        assert client.send("GET", link).status_code == 404


# Late records


def test_late_record(client: Client) -> None:
    """Before its time a late record is nowhere; from then on it is in its day, in its place."""
    late = SMS | {"account_id": KEY}
    by_id = {"account_id": KEY, "product": "SMS", "direction": "outbound", "id": "LATE"}
    client.sandbox.now = datetime(2026, 1, 6, 17, 59, 59, tzinfo=UTC)
    assert client.ids(late) == ["OWN"]
    assert client.records(by_id)["ids_not_found"] == "LATE"
    assert [line["message_id"] for line in client.lines(late)] == ["OWN"]
    client.sandbox.now = datetime(2026, 1, 6, 18, tzinfo=UTC)
    assert client.ids(late) == ["OWN", "LATE"]
    assert client.records(by_id)["items_count"] == 1
    assert [line["message_id"] for line in client.lines(late)] == ["OWN", "LATE"]


def test_late_record_in_parquet(tmp_path: Path) -> None:
    """A day of parquet may have late records too."""
    write_accounts(tmp_path, [account(KEY)])
    received = datetime(2026, 1, 5, 8, tzinfo=UTC)
    row = message("LATE", received) | {"visible_from": datetime(2026, 1, 6, 18, tzinfo=UTC)}
    schema = SCHEMA.append(pa.field("visible_from", pa.timestamp("us", tz="UTC")))
    write_day(tmp_path, "2026-01-05", pa.Table.from_pylist([row], schema))
    with Sandbox(tmp_path, now=NOW) as sandbox:
        client = Client(sandbox)
        with client.session:
            assert client.ids(SMS | {"account_id": KEY}) == []
            sandbox.now = datetime(2026, 1, 6, 18, tzinfo=UTC)
            assert client.ids(SMS | {"account_id": KEY}) == ["LATE"]


def test_generated_late_records(tmp_path: Path) -> None:
    """The generator makes a share late, by hours after their day, and nothing else differs."""
    some, none = (
        generate(tmp_path / name, messages=2000, days=2, seed=5, late_records=share).folder
        for name, share in (("some", 0.2), ("none", 0.0))
    )
    late = 0
    for file in sorted(some.glob("world/day=*/*.parquet")):
        rows = pq.ParquetFile(file).read()
        shown = rows.column("visible_from").drop_null().to_pylist()
        day = datetime.fromisoformat(file.parent.name.removeprefix("day=")).replace(tzinfo=UTC)
        assert all(25 <= (moment - day).total_seconds() / 3600 <= 36 for moment in shown)
        late += len(shown)
        before = pq.ParquetFile(none / file.relative_to(some)).read()
        assert rows.drop_columns(["visible_from"]).equals(before)
    assert 300 < late < 500
    for file in (some / "truth.parquet", *some.glob("dlr/*")):
        assert file.read_bytes() == (none / file.relative_to(some)).read_bytes()


def test_late_share(tmp_path: Path) -> None:
    """What is no share is refused."""
    with pytest.raises(UsageError, match="late_records"):
        generate(tmp_path / "new", messages=10, days=1, seed=5, late_records=1.1)


# MESSAGES


def test_messages_header(client: Client) -> None:
    """A file of product MESSAGES has the header of a real one, and is named after the product."""
    with client.archive(MESSAGES | DATES) as archive:
        (name,) = archive.namelist()
        header = archive.read(name).decode().partition("\n")[0]
    assert name == f"report_MESSAGES_{KEY}_20260106.csv"
    assert header == ",".join(f'"{each}"' for each in HEADER)


def test_messages_records(client: Client) -> None:
    """Ids are uuids, the same twice; statuses and providers are the product's; a file agrees."""
    records = client.records(MESSAGES | DATES)["records"]
    assert [list(record) for record in records] == [HEADER] * 4
    shown = [(r["message_id"], r["id"], r["provider"], r["status"]) for r in records]
    assert shown == [
        (UUIDS[3], UUIDS[3], "viber_service_msg", "submitted"),
        (UUIDS[2], UUIDS[2], "sms", "rejected"),
        (UUIDS[1], UUIDS[1], "sms", "undeliverable"),
        (UUIDS[0], UUIDS[0], "whatsapp", "read"),
    ]
    assert [r["error_code"] for r in records] == ["", "1300", "", ""]
    assert [r["total_price"] for r in records] == ["0", "0", "0.21982", "0.0058"]
    assert client.lines(MESSAGES | DATES) == records


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("provider", "sms", [2, 1]),
        ("provider", "whatsapp", [0]),
        ("provider", "mms", []),
        ("status", "undeliverable", [1]),
        ("status", "read", [0]),
        ("status", "submitted", [3]),
    ],
)
def test_messages_filters(client: Client, name: str, value: str, expected: list[int]) -> None:
    """Pages and reports keep the records of a provider, or of a status of the product."""
    given = MESSAGES | DATES | {name: value}
    assert client.ids(given) == [UUIDS[n] for n in expected]
    assert [line["message_id"] for line in client.lines(given)] == [UUIDS[n] for n in expected]


def test_messages_by_id(client: Client) -> None:
    """Messages are found by their uuids."""
    page = client.records(MESSAGES | {"id": f"{UUIDS[1]},{UUIDS[0]},nope"})
    assert [record["message_id"] for record in page["records"]] == [UUIDS[1], UUIDS[0]]
    assert page["ids_not_found"] == "nope"


def test_messages_until_final(client: Client) -> None:
    """Until its end a message of the product shows the status before it."""
    client.sandbox.now = datetime(2026, 1, 5, 9, 0, 30, tzinfo=UTC)
    (record,) = client.records(MESSAGES | DATES)["records"]
    assert (record["status"], record["date_finalized"]) == ("submitted", "")
