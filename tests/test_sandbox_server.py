"""The sandbox is held to what Vonage documents, over real HTTP on loopback."""

from __future__ import annotations

import csv
import http.client
import io
import json
import re
import socket
import time
import zipfile
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import requests

from reconcile.errors import InputError, UsageError
from reconcile.sandbox.server import Sandbox

NOW = datetime(2026, 1, 6, 12, tzinfo=UTC)
KEY, SECRET, OTHER = "abcd1234", "s:cret", "efgh5678"
REQUIRED = {"account_id": KEY, "product": "SMS", "direction": "outbound"}
BULK = 2500
BULK_START = datetime(2026, 1, 5, tzinfo=UTC)
BULK_DAY = REQUIRED | {"date_start": "2026-01-05T00:00:00Z", "date_end": "2026-01-06T00:00:00Z"}
FEW_DAY = REQUIRED | {"date_start": "2026-01-03T00:00:00Z", "date_end": "2026-01-04T00:00:00Z"}
BARE_DAY = REQUIRED | {"date_start": "2026-01-02T00:00:00Z", "date_end": "2026-01-03T00:00:00Z"}
RECORDS = "/v2/reports/records"

SMS_FIELDS = (
    "account_id id message_id client_ref account_ref direction from to changed_from forced_from "
    "country country_name network network_name date_received date_finalized latency status "
    "error_code error_code_description currency total_price tier_volume udh dcs validity_period "
    "ip_address workflow_id"
)
SCHEMA = pa.schema(
    [
        *((name, pa.string()) for name in ("account_id", "product", "id", "message_id")),
        *((name, pa.string()) for name in ("client_ref", "account_ref", "direction", "from", "to")),
        *((name, pa.string()) for name in ("changed_from", "forced_from", "country")),
        *((name, pa.string()) for name in ("country_name", "network", "network_name")),
        ("date_received", pa.timestamp("us", tz="UTC")),
        ("date_finalized", pa.timestamp("us", tz="UTC")),
        ("status_before", pa.string()),
        ("status", pa.string()),
        ("latency", pa.int64()),
        *((name, pa.string()) for name in ("error_code", "error_code_description", "currency")),
        ("total_price", pa.decimal128(18, 8)),
        ("concatenated", pa.bool_()),
        ("validity_period", pa.int64()),
        ("hidden_from", pa.timestamp("us", tz="UTC")),
    ]
)


def message(message_id: str, received: datetime, **other: Any) -> dict[str, Any]:
    """A row of the world: delivered after six seconds, unless something else is said."""
    return {
        "account_id": KEY,
        "product": "SMS",
        "id": message_id,
        "message_id": message_id,
        "direction": "outbound",
        "from": "ACME",
        "to": "41790000001",
        "country": "CH",
        "country_name": "Switzerland",
        "network": "22801",
        "network_name": "Swisscom",
        "date_received": received,
        "date_finalized": received + timedelta(seconds=6),
        "status_before": "accepted",
        "status": "delivered",
        "latency": 6357,
        "error_code": "0",
        "error_code_description": "Delivered",
        "currency": "",
        "total_price": Decimal("0.03330000"),
        "concatenated": False,
        "validity_period": 259_200_000,
    } | other


def few() -> list[dict[str, Any]]:
    """The day of which each message is there for a test."""
    nine, ten = datetime(2026, 1, 3, 9, tzinfo=UTC), datetime(2026, 1, 3, 10, tzinfo=UTC)
    final = datetime(2026, 1, 5, 10, tzinfo=UTC)
    odd = 'A"b, é\nc'
    price = Decimal("0E-8")
    return [
        message("S1", ten, id="R1", client_ref="order-1", account_ref="shop", concatenated=True),
        message("S2", nine, status="failed", status_before="buffered", date_finalized=final),
        message("S3", ten, date_finalized=None, status=None, latency=None, total_price=price)
        | {"from": odd, "to": "4915100000001", "country": "DE", "network": "26201"},
        message("IN1", ten, direction="inbound"),
        message("B1", ten, account_id=OTHER),
        message("M1", ten, product="MESSAGES", currency="EUR"),
    ]


def write_day(folder: Path, day: str, table: pa.Table) -> None:
    """Writes one day of a world."""
    place = folder / "world" / f"day={day}"
    place.mkdir(parents=True)
    pq.write_table(table, place / "messages.parquet")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny world: 2,500 messages of one day in pairs of one second, some odd ones, a bare day."""
    folder = tmp_path_factory.mktemp("world's")
    accounts = [{"api_key": KEY, "api_secret": SECRET}, {"api_key": OTHER, "api_secret": "other"}]
    (folder / "sandbox.json").write_text(json.dumps({"format": 1, "accounts": accounts, "seed": 7}))
    bulk = [message(f"M{n:05}", BULK_START + timedelta(seconds=n // 2 * 60)) for n in range(BULK)]
    bulk[0]["date_finalized"] = NOW - timedelta(hours=1)
    write_day(folder, "2026-01-05", pa.Table.from_pylist(bulk[::-1], SCHEMA))
    write_day(folder, "2026-01-03", pa.Table.from_pylist(few(), SCHEMA))
    needed = ["account_id", "product", "message_id", "direction", "date_received"]
    needed += ["date_finalized", "status_before", "status"]
    bare = pa.Table.from_pylist([message("X1", datetime(2026, 1, 2, tzinfo=UTC))], SCHEMA)
    write_day(folder, "2026-01-02", bare.select(needed))
    return folder


class Client:
    """Speaks to a sandbox as its first account."""

    def __init__(self, sandbox: Sandbox) -> None:
        self.sandbox = sandbox
        self.session = requests.Session()
        self.session.auth = (sandbox.api_key, sandbox.api_secret)

    def send(self, method: str, target: str, **options: Any) -> requests.Response:
        """Sends a request, to a path or along a link."""
        parts = urlsplit(target)
        path = f"{parts.path}?{parts.query}" if parts.query else parts.path
        return self.session.request(method, self.sandbox.base_url + path, timeout=10, **options)

    def records(self, given: dict[str, str], **more: str) -> dict[str, Any]:
        """A page that must come."""
        answer = self.send("GET", RECORDS, params=given | more)
        assert answer.status_code == 200, answer.text
        body: dict[str, Any] = answer.json()
        return body

    def refusal(self, given: dict[str, str], status: int = 422) -> dict[str, Any]:
        """A problem that must come; each one names its instance."""
        answer = self.send("GET", RECORDS, params=given)
        assert answer.status_code == status, answer.text
        body: dict[str, Any] = answer.json()
        assert re.fullmatch("[0-9a-f]{32}", body.pop("instance"))
        return body

    def reasons(self, given: dict[str, str]) -> dict[str, str]:
        """The parameters that a request was refused for."""
        body = self.refusal(given)
        assert body.keys() == {"title", "invalid_parameters"}
        assert body["title"] == "Unprocessable entity"
        return {each["name"]: each["reason"] for each in body["invalid_parameters"]}

    def ids(self, given: dict[str, str], **more: str) -> list[str]:
        """The ids of one page."""
        return [record["message_id"] for record in self.records(given, **more)["records"]]

    def listing(self, given: dict[str, str]) -> Iterator[dict[str, Any]]:
        """The pages of a listing, along the links."""
        page = self.records(given)
        yield page
        while page["request_status"] == "TRUNCATED":
            page = self.send("GET", page["_links"]["next"]["href"]).json()
            yield page

    def report(self, given: dict[str, Any]) -> dict[str, Any]:
        """Creates a report and waits until it has ended."""
        answer = self.send("POST", "/v2/reports", json=given)
        assert answer.status_code == 200, answer.text
        return self.ended(answer.json())

    def ended(self, report: dict[str, Any]) -> dict[str, Any]:
        """A report once it has ended, at a pace that the API allows."""
        pause = 0.08  # most have ended by then
        while report["request_status"] in ("PENDING", "PROCESSING"):
            time.sleep(pause)
            pause = 0.21
            report = self.send("GET", report["_links"]["self"]["href"]).json()
        return report

    def archive(self, given: dict[str, Any]) -> zipfile.ZipFile:
        """The file of a new report."""
        link = self.report(given)["_links"]["download_report"]["href"]
        return zipfile.ZipFile(io.BytesIO(self.send("GET", link).content))

    def lines(self, given: dict[str, Any]) -> list[dict[str, str]]:
        """The records in the file of a new report."""
        with self.archive(given) as archive:
            text = archive.read(archive.namelist()[0]).decode()
        return list(csv.DictReader(io.StringIO(text, newline="")))


@pytest.fixture
def client(data: Path) -> Iterator[Client]:
    """A sandbox of its own for each test, so that no test meets another's rate limit."""
    with Sandbox(data, now=NOW, pending_seconds=0, seconds_per_million=0) as sandbox:
        client = Client(sandbox)
        with client.session:
            yield client


# The folder


def test_missing_folder(tmp_path: Path) -> None:
    """A folder without sandbox.json is refused in one line."""
    with pytest.raises(InputError, match=r"^[^\n]*no data folder[^\n]*cannot be read[^\n]*$"):
        Sandbox(tmp_path / "nowhere")


@pytest.mark.parametrize(
    "content",
    [
        *("{", "[]", "{}", '{"format": 2, "accounts": []}', '{"format": 1, "accounts": []}'),
        '{"format": 1, "accounts": [{"api_key": "abcd1234"}]}',
    ],
)
def test_malformed_folder(tmp_path: Path, content: str) -> None:
    """A sandbox.json that is not one is refused."""
    (tmp_path / "sandbox.json").write_text(content)
    with pytest.raises(InputError, match=r"sandbox\.json"):
        Sandbox(tmp_path)


@pytest.mark.parametrize("name", ["day=2026-01-05", "day=someday"])
def test_malformed_day(tmp_path: Path, name: str) -> None:
    """A file that is no parquet, or a folder that is no day, is refused by name."""
    accounts = {"format": 1, "accounts": [{"api_key": KEY, "api_secret": "s"}]}
    (tmp_path / "sandbox.json").write_text(json.dumps(accounts))
    (tmp_path / "world" / name).mkdir(parents=True)
    (tmp_path / "world" / name / "a.parquet").write_text("no")
    with pytest.raises(InputError, match=name):
        Sandbox(tmp_path)


def test_lacking_column(tmp_path: Path) -> None:
    """A file without a column that every message needs is refused, naming it."""
    accounts = {"format": 1, "accounts": [{"api_key": KEY, "api_secret": "s"}]}
    (tmp_path / "sandbox.json").write_text(json.dumps(accounts))
    table = pa.Table.from_pylist([message("X1", NOW)], SCHEMA)
    write_day(tmp_path, "2026-01-06", table.drop_columns(["message_id"]))
    with pytest.raises(InputError, match="lacks the columns message_id"):
        Sandbox(tmp_path)


def test_port_taken(client: Client, data: Path) -> None:
    """A port that another server has is refused in one line."""
    port = int(client.sandbox.base_url.rpartition(":")[2])
    with pytest.raises(InputError, match=f"cannot listen on 127.0.0.1:{port}"):
        Sandbox(data, port=port)


def test_empty_world(tmp_path: Path) -> None:
    """A folder without days answers with no records."""
    accounts = {"format": 1, "accounts": [{"api_key": KEY, "api_secret": "s"}]}
    (tmp_path / "sandbox.json").write_text(json.dumps(accounts))
    with Sandbox(tmp_path, now=NOW) as sandbox:
        client = Client(sandbox)
        with client.session:
            assert client.ids(BULK_DAY) == []
            assert client.records(REQUIRED, id="S1")["ids_not_found"] == "S1"


# A world written by hand


HEADER = "account_id,product,message_id,direction,country,date_received,date_finalized,"
HEADER += "status_before,status,latency,error_code,total_price,concatenated,hidden_from"
BY_HAND = """\
abcd1234,SMS,0001E5,outbound,NA,2026-10-12T00:10:00Z,2026-10-12T00:10:04Z,,delivered,4210,1,0.0333,true,
abcd1234,SMS,"a ""b"",
c",outbound,,2026-10-12T23:59:59.900Z,,accepted,,,,,,2026-10-13T12:00:00Z
abcd1234,SMS,later,outbound,CH,2026-10-13T01:30:00+02:00,,accepted,,,,,,
abcd1234,SMS,next,outbound,CH,2026-10-13T00:00:00Z,,accepted,,,,,,
"""
HAND_DAY = REQUIRED | {"date_start": "2026-10-12T00:00:00Z", "date_end": "2026-10-13T00:00:00Z"}
HAND_NOW = datetime(2026, 10, 13, 2, 30, tzinfo=UTC)


def write_by_hand(folder: Path, text: str) -> Path:
    """A folder with a world.csv."""
    accounts = {"format": 1, "accounts": [{"api_key": KEY, "api_secret": SECRET}]}
    (folder / "sandbox.json").write_text(json.dumps(accounts))
    (folder / "world.csv").write_text(text, "utf-8")
    return folder


@pytest.fixture
def by_hand(tmp_path: Path) -> Iterator[Client]:
    """A sandbox of a world.csv."""
    folder = write_by_hand(tmp_path, f"{HEADER}\n{BY_HAND}")
    with Sandbox(folder, now=HAND_NOW, pending_seconds=0, seconds_per_million=0) as sandbox:
        client = Client(sandbox)
        with client.session:
            yield client


def test_by_hand(by_hand: Client) -> None:
    """All is text: a code is kept as it is, NA is Namibia, blank is nothing, times are UTC."""
    odd, later, first = by_hand.records(HAND_DAY, show_concatenated="true")["records"]
    assert [each["message_id"] for each in (odd, later, first)] == ['a "b",\nc', "later", "0001E5"]
    assert (first["country"], first["error_code"], first["total_price"]) == ("NA", "1", "0.0333")
    assert (first["latency"], first["concatenated"]) == ("4210", "TRUE")
    assert first["date_finalized"] == "2026-10-12T00:10:04+00:00"
    assert (odd["country"], odd["date_finalized"], odd["total_price"]) == ("", "", "")
    assert later["date_received"] == "2026-10-12T23:30:00+00:00"


def test_by_hand_elsewhere(by_hand: Client) -> None:
    """A world.csv is found by id, and in a report, as parquet is."""
    assert by_hand.ids(REQUIRED, id="0001E5") == ["0001E5"]
    assert [line["message_id"] for line in by_hand.lines(HAND_DAY)][1:] == ["later", "0001E5"]


def test_by_hand_without_messages(tmp_path: Path) -> None:
    """A world.csv that is a header alone is a world without messages."""
    with Sandbox(write_by_hand(tmp_path, HEADER), now=HAND_NOW) as sandbox:
        client = Client(sandbox)
        with client.session:
            assert client.ids(HAND_DAY) == []


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (HEADER.replace("message_id,", ""), "lacks the columns message_id"),
        ("", "lacks the columns"),
        (f"{HEADER}\n{BY_HAND}short,SMS\n", "line 7: not as many fields"),
        (f"{HEADER}\n{BY_HAND.replace('2026-10-13T00:00:00Z', 'soon')}", "line 6: 'soon' is no"),
        (f"{HEADER}\n{BY_HAND.replace('2026-10-13T00:00:00Z', '')}", "line 6: no date_received"),
        (f"{HEADER}\n{BY_HAND.replace('4210', 'fast')}", "[^\n]*'fast'[^\n]*"),
    ],
)
def test_malformed_by_hand(tmp_path: Path, text: str, why: str) -> None:
    """A world.csv that is not one is refused in one line, which says where."""
    with pytest.raises(InputError, match=rf"^[^\n]*world\.csv[^\n]*{why}[^\n]*$"):
        Sandbox(write_by_hand(tmp_path, text))


def test_sample_data() -> None:
    """The sample's first day, as its first night sees it: every message, the ends known by then."""
    folder = Path(__file__).parent.parent / "sample_data"
    with (folder / "world.csv").open(encoding="utf-8", newline="") as lines:
        rows = [row for row in csv.DictReader(lines) if row["date_received"] < "2026-10-13"]
    with Sandbox(folder, now=HAND_NOW) as sandbox:
        client = Client(sandbox)
        with client.session:
            records = client.records(HAND_DAY | {"account_id": sandbox.api_key})["records"]
    shown = {record["message_id"]: (record["status"], record["country"]) for record in records}
    expected = {}
    for row in rows:
        is_final = "" < row["date_finalized"] <= "2026-10-13T02:30:00Z"
        if row["direction"] == "outbound" and not "" < row["hidden_from"] <= "2026-10-13T02:30:00Z":
            status = row["status"] if is_final else row["status_before"]
            expected[row["message_id"]] = status, row["country"]
    assert len(records) == len(shown) > 20
    assert shown == expected


# Credentials


@pytest.mark.parametrize("auth", [None, (KEY, "wrong"), ("nobody00", SECRET), (KEY, "s")])
def test_unauthorized(client: Client, auth: tuple[str, str] | None) -> None:
    """No or wrong credentials get a 401 with the documented body."""
    answer = requests.get(client.sandbox.base_url + RECORDS, params=REQUIRED, auth=auth, timeout=10)
    body = answer.json()
    assert answer.status_code == 401
    assert body.pop("instance")
    assert body == {
        "type": "https://developer.nexmo.com/api-errors#unauthorized",
        "title": "Unauthorized",
        "detail": "You did not provide correct credentials.",
    }


def test_broken_authorization(client: Client) -> None:
    """A header that is no Basic authorization is a 401, not a failure."""
    for header in ("Basic !", "Basic /w==", "Bearer abc", "Basic"):
        answer = requests.get(
            client.sandbox.base_url + RECORDS, headers={"Authorization": header}, timeout=10
        )
        assert answer.status_code == 401


def test_forbidden(client: Client) -> None:
    """Another account's records are refused with a 403."""
    assert client.refusal(REQUIRED | {"account_id": OTHER}, 403) == {
        "type": "https://developer.nexmo.com/api-errors#forbidden",
        "title": "Forbidden",
        "detail": "User not authorized to query the requested data.",
    }


def test_second_account(client: Client) -> None:
    """Each account of the folder sees its own records."""
    client.session.auth = (OTHER, "other")
    assert client.ids(FEW_DAY | {"account_id": OTHER}) == ["B1"]


# Records: what is refused


def test_all_missing(client: Client) -> None:
    """A request without parameters is told every one that it needs."""
    missing = "Missing required parameter"
    assert client.reasons({}) == {"account_id": missing, "product": missing}


def test_missing_direction(client: Client) -> None:
    """SMS needs a direction."""
    given = {"account_id": KEY, "product": "SMS"}
    assert client.reasons(given) == {"direction": "Missing required parameter"}


@pytest.mark.parametrize(
    ("given", "missing"), [("date_start", "date_end"), ("date_end", "date_start")]
)
def test_one_date(client: Client, given: str, missing: str) -> None:
    """A date alone is refused, in the documented shape."""
    reasons = client.reasons(REQUIRED | {given: "2026-01-05T00:00:00Z"})
    assert reasons == {missing: "Missing required parameter"}


def test_unknown_product(client: Client) -> None:
    """A product that is none is answered with those that are."""
    reason = client.reasons(REQUIRED | {"product": "FAX"})["product"]
    assert re.match(r"Could not resolve product name\. Please use one of .*\[.*SMS.*\]", reason)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("account_id", "abc"),
        ("direction", "sideways"),
        ("status", "lost"),
        ("include_message", "yes"),
        ("show_concatenated", "1"),
    ],
)
def test_bad_value(client: Client, name: str, value: str) -> None:
    """A value that is not allowed is refused by the parameter's name."""
    assert client.reasons(REQUIRED | {name: value}).keys() == {name}


@pytest.mark.parametrize("bad", ["2026-01-05", "2026-01-05T00:00:00", "2026-02-31T00:00:00Z", "x"])
def test_bad_date(client: Client, bad: str) -> None:
    """A date without a time or an offset, or that does not exist, is refused."""
    assert client.reasons(BULK_DAY | {"date_start": bad}).keys() == {"date_start"}


def test_more_than_a_day(client: Client) -> None:
    """A window of more than 24 hours is refused; one of 24 hours was not."""
    reasons = client.reasons(BULK_DAY | {"date_end": "2026-01-06T00:00:01Z"})
    assert reasons == {"date_end": "Must be no more than 24 hours later than date_start"}


def test_backwards(client: Client) -> None:
    """A window that ends before it starts is refused."""
    assert client.reasons(BULK_DAY | {"date_end": "2026-01-04T00:00:00Z"}).keys() == {"date_end"}


def test_id_with_dates(client: Client) -> None:
    """Ids and dates exclude each other, in the documented words."""
    assert client.refusal(BULK_DAY | {"id": "S1"}) == {
        "type": "https://developer.nexmo.com/api-errors/reports#invalid-filter",
        "title": "Invalid filter",
        "detail": "When using message_id, the following parameters are not supported: "
        "[date_start, date_end]",
    }


def test_id_with_status(client: Client) -> None:
    """Ids and other filters exclude each other too."""
    detail = client.refusal(REQUIRED | {"id": "S1", "status": "failed"})["detail"]
    assert detail.endswith("[status]")


def test_too_many_ids(client: Client) -> None:
    """Twenty ids are the most."""
    assert client.records(REQUIRED, id=",".join(map(str, range(20))))["items_count"] == 0
    assert client.reasons(REQUIRED | {"id": ",".join(map(str, range(21)))}).keys() == {"id"}


# Records: offsets


@pytest.mark.parametrize("offset", ["Z", "%2B00:00", "%2B0000", "-0000", "-00:00", ".000Z"])
def test_offsets(client: Client, offset: str) -> None:
    """Each documented form of an offset is read, and so is the one of next links."""
    dates = f"date_start=2026-01-03T00:00:00{offset}&date_end=2026-01-04T00:00:00{offset}"
    base = f"account_id={KEY}&product=SMS&direction=outbound"
    assert client.send("GET", f"{RECORDS}?{base}&{dates}").json()["items_count"] == 3


def test_offset_moves(client: Client) -> None:
    """An offset other than zero moves the window."""
    given = {"date_start": "2026-01-03T11:00:00+02:00", "date_end": "2026-01-03T11:30:00+02:00"}
    assert client.ids(REQUIRED | given) == ["S2"]


def test_raw_plus(client: Client) -> None:
    """A plus that was not encoded is a space, and refused, as in real life."""
    dates = "date_start=2026-01-03T00:00:00+00:00&date_end=2026-01-04T00:00:00Z"
    base = f"account_id={KEY}&product=SMS&direction=outbound"
    answer = client.send("GET", f"{RECORDS}?{base}&{dates}")
    assert answer.status_code == 422
    assert [each["name"] for each in answer.json()["invalid_parameters"]] == ["date_start"]


# Records: what is shown


def test_envelope(client: Client) -> None:
    """A page says what it is, in the documented fields."""
    body = client.records(FEW_DAY)
    assert body["request_status"] == "SUCCESS"
    assert body["items_count"] == len(body["records"]) == 3
    assert (body["product"], body["account_id"]) == ("SMS", KEY)
    assert body["received_at"] == "2026-01-06T12:00:00+00:00"
    assert re.fullmatch(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", body["request_id"])
    link = urlsplit(body["_links"]["self"]["href"])
    assert (link.scheme, link.netloc, link.path) == ("https", "api.nexmo.com", RECORDS)
    assert body.keys() == {
        *("_links", "request_id", "request_status", "received_at", "items_count", "product"),
        *("account_id", "direction", "include_message", "show_concatenated", "price", "currency"),
        "records",
    }


def test_record(client: Client) -> None:
    """A record holds the documented fields, in order, each a string."""
    (record,) = client.records(REQUIRED, id="S1")["records"]
    assert list(record) == SMS_FIELDS.split()
    assert record == dict.fromkeys(SMS_FIELDS.split(), "") | {
        "account_id": KEY,
        "id": "R1",
        "message_id": "S1",
        "client_ref": "order-1",
        "account_ref": "shop",
        "direction": "outbound",
        "from": "ACME",
        "to": "41790000001",
        "country": "CH",
        "country_name": "Switzerland",
        "network": "22801",
        "network_name": "Swisscom",
        "date_received": "2026-01-03T10:00:00+00:00",
        "date_finalized": "2026-01-03T10:00:06+00:00",
        "latency": "6357",
        "status": "delivered",
        "error_code": "0",
        "error_code_description": "Delivered",
        "total_price": "0.0333",
        "validity_period": "259200000",
    }


def test_never_final(client: Client) -> None:
    """A message without an end shows the status before it, and blanks; its price of 0 is "0"."""
    (record,) = client.records(REQUIRED, id="S3")["records"]
    assert (record["status"], record["date_finalized"], record["latency"]) == ("accepted", "", "")
    assert (record["error_code"], record["error_code_description"]) == ("", "")
    assert record["total_price"] == "0"


def test_inbound_record(client: Client) -> None:
    """An inbound record has no status, for nothing is delivered."""
    (record,) = client.records(FEW_DAY | {"direction": "inbound"})["records"]
    assert record["message_id"] == "IN1"
    assert not record.keys() & {"status", "date_finalized", "latency", "client_ref"}


def test_messages_record(client: Client) -> None:
    """A record of product MESSAGES has the fields of a real archive."""
    (record,) = client.records(FEW_DAY | {"product": "MESSAGES"})["records"]
    assert (record["message_id"], record["currency"]) == ("M1", "EUR")
    assert {"provider", "session_id", "estimated_price"} <= record.keys()


def test_product_without_traffic(client: Client) -> None:
    """A known product that the world has no message of is an empty page."""
    assert client.ids({"account_id": KEY, "product": "VERIFY-API"}) == []


def test_bare_day(client: Client) -> None:
    """Columns that a file lacks are blank."""
    (record,) = client.records(BARE_DAY)["records"]
    assert (record["message_id"], record["status"]) == ("X1", "delivered")
    assert (record["total_price"], record["country"], record["latency"]) == ("", "", "")


def test_concatenated(client: Client) -> None:
    """`concatenated` is there when asked for, as TRUE or FALSE."""
    page = client.records(FEW_DAY, show_concatenated="true")
    assert page["show_concatenated"] is True
    shown = {record["message_id"]: record["concatenated"] for record in page["records"]}
    assert shown == {"S1": "TRUE", "S2": "FALSE", "S3": "FALSE"}


def test_include_message(client: Client) -> None:
    """The body's field is there when asked for."""
    records = client.records(FEW_DAY, include_message="true")["records"]
    assert all("message_body" in record for record in records)


def test_order(client: Client) -> None:
    """Records come newest first, then by message id."""
    assert client.ids(FEW_DAY) == ["S1", "S3", "S2"]


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("status", "delivered", ["S1"]),
        ("status", "accepted", ["S3"]),
        ("from", "ACME", ["S1", "S2"]),
        ("to", "4915100000001", ["S3"]),
        ("country", "DE", ["S3"]),
        ("network", "22801", ["S1", "S2"]),
        ("client_ref", "order-1", ["S1"]),
        ("account_ref", "nobody", []),
    ],
)
def test_filters(client: Client, name: str, value: str, expected: list[str]) -> None:
    """Each filter keeps the records that match it."""
    assert client.ids(FEW_DAY | {name: value}) == expected


def test_window_ends(client: Client) -> None:
    """The start of a window belongs to it, its end does not."""
    nine, ten = "2026-01-03T09:00:00Z", "2026-01-03T10:00:00Z"
    assert client.ids(REQUIRED | {"date_start": nine, "date_end": ten}) == ["S2"]


def test_default_window(client: Client) -> None:
    """Without dates the last seven days are listed."""
    client.sandbox.now = datetime(2026, 1, 10, 9, 30, tzinfo=UTC)
    *_, last = client.listing(REQUIRED)
    assert last["records"][-1]["message_id"] == "S3"


def test_ids(client: Client) -> None:
    """Ids match a message's id or its record's, and those that are not found are listed."""
    page = client.records(REQUIRED, id="nope,S2,R1,B1,IN1,M00001")
    assert [r["message_id"] for r in page["records"]] == ["M00001", "S1", "S2"]
    assert page["ids_not_found"] == "nope,B1,IN1"


def test_ids_all_found(client: Client) -> None:
    """Where every id is found there is no list of the others."""
    assert "ids_not_found" not in client.records(REQUIRED, id="S1")


# Records: time


def test_not_yet_received(client: Client) -> None:
    """What is received later than now does not exist yet, by window or by id."""
    client.sandbox.now = datetime(2026, 1, 3, 9, 59, 59, tzinfo=UTC)
    assert client.ids(FEW_DAY) == ["S2"]
    assert client.records(REQUIRED, id="S1")["ids_not_found"] == "S1"


def test_not_yet_final(client: Client) -> None:
    """Until its end a message shows the status before it; from its very moment on, the end."""
    names = ("status", "date_finalized", "latency", "error_code", "error_code_description")
    client.sandbox.now = datetime(2026, 1, 5, 9, 59, 59, tzinfo=UTC)
    (record,) = client.records(REQUIRED, id="S2")["records"]
    assert [record[name] for name in names] == ["buffered", "", "", "", ""]
    (line,) = (each for each in client.lines(FEW_DAY) if each["message_id"] == "S2")
    assert [line[name] for name in names] == ["buffered", "", "", "", ""]
    client.sandbox.now = datetime(2026, 1, 5, 10, tzinfo=UTC)
    (record,) = client.records(REQUIRED, id="S2")["records"]
    end = "2026-01-05T10:00:00+00:00"
    assert [record[name] for name in names] == ["failed", end, "6357", "0", "Delivered"]


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_hidden(tmp_path: Path, kind: str) -> None:
    """From `hidden_from` on a message is gone: from listings, by id, and from new reports."""
    write_by_hand(tmp_path, f"{HEADER}\n{BY_HAND}".replace('"a ""b"",\nc"', "gone"))
    hidden_from = datetime(2026, 10, 13, 12, tzinfo=UTC)
    if kind == "parquet":
        (tmp_path / "world.csv").unlink()
        received = datetime(2026, 10, 12, 12, tzinfo=UTC)
        rows = [message("gone", received, hidden_from=hidden_from), message("0001E5", received)]
        write_day(tmp_path, "2026-10-12", pa.Table.from_pylist(rows, SCHEMA))
    with Sandbox(tmp_path, pending_seconds=0, seconds_per_million=0) as sandbox:
        client = Client(sandbox)
        with client.session:
            for wait, there in ((timedelta(seconds=-1), True), (timedelta(0), False)):
                sandbox.now = hidden_from + wait
                assert ("gone" in client.ids(HAND_DAY)) is there
                page = client.records(REQUIRED, id="gone,0001E5")
                assert page["items_count"] == 1 + there
                assert page.get("ids_not_found") == (None if there else "gone")
                lines = client.lines(HAND_DAY)
                assert ("gone" in [line["message_id"] for line in lines]) is there


def test_status_filter_sees_its_time(client: Client) -> None:
    """A filter on status means the status that is shown."""
    client.sandbox.now = datetime(2026, 1, 5, 9, tzinfo=UTC)
    assert client.ids(FEW_DAY | {"status": "buffered"}) == ["S2"]
    assert client.ids(FEW_DAY | {"status": "failed"}) == []


def test_retention(client: Client) -> None:
    """After thirteen months a record is gone."""
    client.sandbox.now = datetime(2027, 2, 3, 9, tzinfo=UTC)
    assert client.records(REQUIRED, id="S1")["items_count"] == 1
    client.sandbox.now = datetime(2027, 2, 4, tzinfo=UTC)
    assert client.records(REQUIRED, id="S1")["items_count"] == 0
    assert client.ids(FEW_DAY) == []


def test_naive_now(client: Client) -> None:
    """A time without a zone is refused."""
    with pytest.raises(UsageError):
        client.sandbox.now = NOW.replace(tzinfo=None)


def test_wall_clock(client: Client) -> None:
    """Without a fixed time the clock's is taken."""
    client.sandbox.now = None
    assert abs(client.sandbox.now - datetime.now(UTC)) < timedelta(seconds=5)


# Records: pages


def test_pages(client: Client) -> None:
    """2,500 records come in pages of 1,000, each once, newest first and then by id."""
    pages = list(client.listing(BULK_DAY))
    assert [page["items_count"] for page in pages] == [1000, 1000, 500]
    assert [page["request_status"] for page in pages] == ["TRUNCATED", "TRUNCATED", "SUCCESS"]
    ids = [record["message_id"] for page in pages for record in page["records"]]
    assert ids == sorted((f"M{n:05}" for n in range(BULK)), key=lambda m: (-(int(m[1:]) // 2), m))


def test_exactly_a_page(client: Client) -> None:
    """A listing of 1,000 records has one page, and no next."""
    end = BULK_START + timedelta(seconds=60 * 500)
    page = client.records(BULK_DAY | {"date_end": f"{end:%Y-%m-%dT%H:%M:%SZ}"})
    assert (page["items_count"], page["request_status"]) == (1000, "SUCCESS")
    assert not page.keys() & {"cursor", "iv"}
    assert "next" not in page["_links"]


def test_next_link(client: Client) -> None:
    """The link holds every filter, dates as -0000, cursor and iv, on the real API's host."""
    page = client.records(BULK_DAY, **{"from": "ACME"})
    link = urlsplit(page["_links"]["next"]["href"])
    assert (link.scheme, link.netloc, link.path) == ("https", "api.nexmo.com", RECORDS)
    assert "date_start=2026-01-05T00%3A00%3A00-0000" in link.query
    given = {name: values[0] for name, values in parse_qs(link.query).items()}
    dates = {"date_start": "2026-01-05T00:00:00-0000", "date_end": "2026-01-06T00:00:00-0000"}
    paging = {"cursor": page["cursor"], "iv": page["iv"]}
    assert given == REQUIRED | {"from": "ACME"} | dates | paging
    assert re.fullmatch(r"[\w-]{180}", page["cursor"])
    assert re.fullmatch(r"[\w-]{22}", page["iv"])


def test_link_host(data: Path) -> None:
    """Another host can be put into links."""
    with Sandbox(data, now=NOW, link_host="http://example.test") as sandbox:
        client = Client(sandbox)
        with client.session:
            href = client.records(BULK_DAY)["_links"]["next"]["href"]
    assert href.startswith("http://example.test/v2/reports/records?")


def test_cursor_with_own_parameters(client: Client) -> None:
    """A client may add cursor and iv to its own parameters instead, and again."""
    first = client.records(BULK_DAY)
    paging = {"cursor": first["cursor"], "iv": first["iv"]}
    second = client.ids(BULK_DAY | paging)
    assert len(second) == 1000
    assert second == client.ids(BULK_DAY | paging)
    assert not set(second) & {record["message_id"] for record in first["records"]}


def test_cursor_refused(client: Client) -> None:
    """A cursor counts only with its iv and for the same filters."""
    page = client.records(BULK_DAY)
    paging = {"cursor": page["cursor"], "iv": page["iv"]}
    assert client.reasons(BULK_DAY | {"cursor": page["cursor"]}).keys() == {"cursor"}
    assert client.reasons(BULK_DAY | {"iv": page["iv"]}).keys() == {"cursor"}
    assert client.reasons(BULK_DAY | paging | {"iv": "x" * 22}).keys() == {"cursor"}
    assert client.reasons(BULK_DAY | paging | {"cursor": "x" * 180}).keys() == {"cursor"}
    assert client.reasons(BULK_DAY | paging | {"status": "failed"}).keys() == {"cursor"}
    assert client.reasons(BULK_DAY | paging | {"date_end": "2026-01-05T23:00:00Z"})


def test_paging_stands_still(client: Client) -> None:
    """A listing shows one moment, even where time goes on between its pages."""
    client.sandbox.now = BULK_START + timedelta(seconds=60 * 1000)
    pages = client.listing(BULK_DAY)
    shown = {record["message_id"]: record["status"] for record in next(pages)["records"]}
    client.sandbox.now = NOW
    shown |= {
        record["message_id"]: record["status"] for page in pages for record in page["records"]
    }
    assert list(shown) == sorted(shown, key=lambda m: (-(int(m[1:]) // 2), m))
    assert (len(shown), max(shown)) == (2002, "M02001")
    assert shown["M00000"] == "accepted"


def test_pages_across_days(client: Client) -> None:
    """A page may begin in one day and end in an older one."""
    given = {"date_start": "2026-01-03T10:00:00Z", "date_end": "2026-01-04T10:00:00Z"}
    client.sandbox.now = datetime(2026, 1, 6, tzinfo=UTC)
    *_, last = client.listing(REQUIRED)
    assert [r["message_id"] for r in last["records"]][-4:] == ["S1", "S3", "S2", "X1"]
    assert client.ids(REQUIRED | given) == ["S1", "S3"]


# Rate limits


def test_sync_limit(client: Client) -> None:
    """The eleventh request of a second is refused; a second later all is well."""
    answers = [client.send("GET", RECORDS) for _ in range(11)]
    assert [answer.status_code for answer in answers] == [422] * 10 + [429]
    body = answers[-1].json()
    assert body["type"] == "https://developer.nexmo.com/api-errors/reports#rate-limit"
    assert body.keys() == {"type", "title", "detail", "instance"}
    assert answers[-1].headers["Retry-After"] == "1"
    time.sleep(1.0)
    assert client.send("GET", RECORDS).status_code == 422


def test_async_limit(client: Client) -> None:
    """The sixth request of a second about reports is refused; records have their own limit."""
    codes = [client.send("GET", "/v2/reports/x").status_code for _ in range(6)]
    assert codes == [404] * 5 + [429]
    assert client.send("GET", RECORDS).status_code == 422


def test_limit_is_an_accounts(client: Client) -> None:
    """Another account has a limit of its own."""
    for _ in range(6):
        client.send("GET", "/v2/reports/x")
    client.session.auth = (OTHER, "other")
    assert client.send("GET", "/v2/reports/x").status_code == 404


def test_no_retry_after(data: Path) -> None:
    """The header that says how long to wait can be left out."""
    with Sandbox(data, retry_after=False) as sandbox:
        client = Client(sandbox)
        with client.session:
            answer = [client.send("GET", "/v2/reports/x") for _ in range(6)][-1]
    assert answer.status_code == 429
    assert "Retry-After" not in answer.headers


# Reports


def test_created(client: Client) -> None:
    """A new report is pending, echoes what was asked for, and has no plain uuid."""
    client.sandbox.pending_seconds = 60
    body = client.send("POST", "/v2/reports", json=FEW_DAY | {"status": "failed"}).json()
    assert re.fullmatch(
        r"ri[0-9a-f]{5}-[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", body["request_id"]
    )
    link = f"https://api.nexmo.com/v2/reports/{body.pop('request_id')}"
    assert body == REQUIRED | {
        "request_status": "PENDING",
        "date_start": "2026-01-03T00:00:00+0000",
        "date_end": "2026-01-04T00:00:00+0000",
        "status": "failed",
        "include_subaccounts": False,
        "include_message": False,
        "show_concatenated": False,
        "receive_time": "2026-01-06T12:00:00+0000",
        "_links": {"self": {"href": link}},
    }


def test_lifecycle(client: Client) -> None:
    """A report is pending, then processed, then a success; only then it has a file and a count."""
    sandbox = client.sandbox
    sandbox.pending_seconds, sandbox.seconds_per_million = 0.3, 0.5e6 / 3
    body = client.send("POST", "/v2/reports", json=FEW_DAY).json()
    seen = [body]
    while seen[-1]["request_status"] in ("PENDING", "PROCESSING"):
        time.sleep(0.21)
        seen.append(client.send("GET", body["_links"]["self"]["href"]).json())
    assert list(dict.fromkeys(each["request_status"] for each in seen)) == [
        *("PENDING", "PROCESSING", "SUCCESS")
    ]
    for each in seen:
        is_done = each["request_status"] == "SUCCESS"
        assert ("start_time" in each) == (each["request_status"] != "PENDING")
        assert ("items_count" in each) == ("download_report" in each["_links"]) == is_done
    assert seen[-1]["items_count"] == 3
    assert seen[-1]["start_time"] == "2026-01-06T12:00:00+0000"


def test_default_report(client: Client) -> None:
    """A report without dates is of the last seven days."""
    body = client.report(REQUIRED)
    assert body["date_start"] == "2025-12-30T12:00:00+0000"
    assert body["date_end"] == "2026-01-06T12:00:00+0000"
    assert body["items_count"] == BULK + 4


def test_switches_as_text(client: Client) -> None:
    """Booleans are taken as JSON's or as text; subaccounts are accepted."""
    given = {"include_message": "true", "show_concatenated": True, "include_subaccounts": "false"}
    body = client.report(FEW_DAY | given)
    assert (body["include_message"], body["show_concatenated"]) == (True, True)
    assert body["include_subaccounts"] is False


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b'"x"', b"\xff"])
def test_malformed_json(client: Client, body: bytes) -> None:
    """A body that is no JSON object is a 400 with the documented body."""
    answer = client.send("POST", "/v2/reports", data=body)
    problem = answer.json()
    assert answer.status_code == 400
    assert problem.pop("instance")
    assert problem == {
        "type": "https://developer.nexmo.com/api-errors#invalid-json",
        "title": "Malformed JSON",
        "detail": "Malformed JSON payload.",
    }


@pytest.mark.parametrize(
    ("given", "wrong"),
    [
        ({"account_id": None}, "account_id"),
        ({"product": "FAX"}, "product"),
        ({"id": "S1"}, "id"),
        ({"include_subaccounts": 3}, "include_subaccounts"),
        ({"date_start": "yesterday"}, "date_start"),
        ({"date_start": "2024-11-01T00:00:00Z"}, "date_end"),
        ({"date_end": "2025-12-01T00:00:00Z"}, "date_end"),
    ],
)
def test_report_refused(client: Client, given: dict[str, Any], wrong: str) -> None:
    """A report that cannot be made is a 422 that names the parameter."""
    answer = client.send("POST", "/v2/reports", json=REQUIRED | given)
    body = answer.json()
    assert answer.status_code == 422
    assert [each["name"] for each in body["invalid_parameters"]] == [wrong]
    assert body.keys() == {"type", "title", "detail", "instance", "invalid_parameters"}


def test_report_of_another(client: Client) -> None:
    """A report on another account is refused with a 403."""
    answer = client.send("POST", "/v2/reports", json=REQUIRED | {"account_id": OTHER})
    assert answer.status_code == 403


def test_archive(client: Client) -> None:
    """The file is a ZIP of one deflated CSV, streamed as real ones are."""
    client.sandbox.now = datetime(2026, 1, 8, 1, tzinfo=UTC)
    with client.archive(FEW_DAY) as archive:
        (member,) = archive.infolist()
        assert archive.testzip() is None
    assert member.filename == f"report_SMS_{KEY}_20260108.csv"
    assert member.flag_bits == 0x808
    assert member.compress_type == zipfile.ZIP_DEFLATED


def test_archive_bytes(client: Client) -> None:
    """The CSV quotes every field, ends lines with LF, has no byte order mark, and blanks as ""."""
    with client.archive(FEW_DAY | {"client_ref": "order-1"}) as archive:
        text = archive.read(archive.namelist()[0]).decode()
    header, line, end = text.split("\n")
    assert header == ",".join(f'"{name}"' for name in SMS_FIELDS.split())
    assert line.startswith(f'"{KEY}","R1","S1","order-1","shop","outbound","ACME",')
    assert line.endswith(',"0.0333","","","","259200000","",""')
    assert (end, "\r" in text) == ("", False)


def test_archive_content(client: Client) -> None:
    """The CSV holds what the pages hold, newest first, whatever is in a field."""
    lines = client.lines(FEW_DAY)
    assert [line["message_id"] for line in lines] == ["S1", "S3", "S2"]
    assert lines == client.records(FEW_DAY)["records"]
    assert lines[1]["from"] == 'A"b, é\nc'


def test_archive_of_days(client: Client) -> None:
    """A report of several days is newest first throughout."""
    dates = {"date_start": "2026-01-01T00:00:00Z", "date_end": "2026-01-06T00:00:00Z"}
    received = [line["date_received"] for line in client.lines(REQUIRED | dates)]
    assert len(received) == BULK + 4
    assert received == sorted(received, reverse=True)


def test_report_stands_still(client: Client) -> None:
    """A report shows the moment of its creation, though time goes on while it waits."""
    client.sandbox.now = datetime(2026, 1, 4, tzinfo=UTC)
    client.sandbox.pending_seconds = 0.2
    body = client.send("POST", "/v2/reports", json=FEW_DAY | {"status": "buffered"}).json()
    client.sandbox.now = NOW
    assert client.ended(body)["items_count"] == 1


def test_download_headers(client: Client) -> None:
    """The file is named after product and report, and is plain bytes."""
    body = client.report(FEW_DAY)
    answer = client.send("GET", body["_links"]["download_report"]["href"])
    assert answer.headers["Content-Type"] == "application/octet-stream"
    assert f'"SMS_{body["request_id"]}.zip"' in answer.headers["Content-Disposition"]
    assert len(answer.content) == int(answer.headers["Content-Length"])


def test_download_needs_credentials(client: Client) -> None:
    """A file is for its account: a 401 without credentials, a 404 for another."""
    link = client.report(FEW_DAY)["_links"]["download_report"]["href"]
    client.session.auth = None
    assert client.send("GET", link).status_code == 401
    client.session.auth = (OTHER, "other")
    assert client.send("GET", link).status_code == 404


@pytest.mark.parametrize(
    ("hours", "file", "report"), [(72, 200, 200), (73, 404, 200), (96, 404, 200), (97, 404, 404)]
)
def test_lifetimes(client: Client, hours: int, file: int, report: int) -> None:
    """A file lives for 72 hours, what is known of its report for four days."""
    links = client.report(FEW_DAY)["_links"]
    client.sandbox.now = NOW + timedelta(hours=hours)
    assert client.send("GET", links["download_report"]["href"]).status_code == file
    assert client.send("GET", links["self"]["href"]).status_code == report


@pytest.mark.parametrize("method", ["GET", "DELETE"])
def test_unknown_report(client: Client, method: str) -> None:
    """A report that is not there is a 404 with the documented body."""
    answer = client.send(method, "/v2/reports/ri00000-nope")
    body = answer.json()
    assert answer.status_code == 404
    assert body.pop("instance")
    assert body == {
        "type": "https://developer.nexmo.com/api-errors#not-found",
        "title": "Invalid report ID",
        "detail": "Report ri00000-nope does not exist, or you do not have access.",
    }


def test_unknown_file(client: Client) -> None:
    """A file that is not there is a 404."""
    assert client.send("GET", "/v3/media/nope").status_code == 404


def test_report_is_its_accounts(client: Client) -> None:
    """Another account does not see a report."""
    link = client.report(FEW_DAY)["_links"]["self"]["href"]
    client.session.auth = (OTHER, "other")
    assert client.send("GET", link).status_code == 404


def test_cancel(client: Client) -> None:
    """A pending report can be aborted, and stays so; it is not billed."""
    client.sandbox.pending_seconds = 0.1
    link = client.send("POST", "/v2/reports", json=FEW_DAY).json()["_links"]["self"]["href"]
    answer = client.send("DELETE", link)
    assert (answer.status_code, answer.json()["request_status"]) == (200, "ABORTED")
    time.sleep(0.3)
    body = client.send("GET", link).json()
    assert body["request_status"] == "ABORTED"
    assert "download_report" not in body["_links"]
    assert client.sandbox.billed_records == 0


def test_cancel_processing(client: Client) -> None:
    """A report that is being processed can be aborted too."""
    client.sandbox.seconds_per_million = 60e6
    link = client.send("POST", "/v2/reports", json=FEW_DAY).json()["_links"]["self"]["href"]
    time.sleep(0.3)
    assert client.send("GET", link).json()["request_status"] == "PROCESSING"
    assert client.send("DELETE", link).json()["request_status"] == "ABORTED"


def test_cancel_ended(client: Client) -> None:
    """A report that has ended cannot be aborted: 409 with the documented body."""
    answer = client.send("DELETE", client.report(FEW_DAY)["_links"]["self"]["href"])
    body = answer.json()
    assert answer.status_code == 409
    assert body.pop("instance")
    assert body == {
        "type": "https://developer.nexmo.com/api-errors/reports#invalid-abort-operation",
        "title": "Invalid Abort Operation",
        "detail": "The job is already in a terminated state such as `SUCCESS`, `TRUNCATED`, "
        "`FAILED` or `ABORTED`.",
    }


def test_failed(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    """A report whose file cannot be made is FAILED, without a file."""

    def fail(*_: object) -> int:
        raise RuntimeError

    monkeypatch.setattr("reconcile.sandbox.jobs.write_archive", fail)
    body = client.report(FEW_DAY)
    assert body["request_status"] == "FAILED"
    assert "download_report" not in body["_links"]


def test_list(client: Client) -> None:
    """The list holds the account's reports of the statuses asked for."""
    done = client.report(FEW_DAY)
    client.sandbox.pending_seconds = 60
    pending = client.send("POST", "/v2/reports", json=FEW_DAY).json()
    given = {"account_id": KEY, "status": "SUCCESS, FAILED"}
    body = client.send("GET", "/v2/reports", params=given).json()
    assert body.keys() == {"items_count", "self_link", "reports"}
    assert (body["items_count"], body["reports"]) == (1, [done])
    assert body["self_link"].startswith("https://api.nexmo.com/v2/reports?account_id=")
    both = client.send("GET", "/v2/reports", params=given | {"status": "PENDING,SUCCESS"}).json()
    assert [each["request_id"] for each in both["reports"]] == [
        *(done["request_id"], pending["request_id"])
    ]


def test_list_dates(client: Client) -> None:
    """The list can be limited to when its reports were received."""
    client.report(FEW_DAY)
    given = {"account_id": KEY, "status": "SUCCESS"}
    found = []
    for name, moment in (
        ("date_from", "2026-01-06T12:00:00Z"),
        ("date_from", "2026-01-06T12:00:01Z"),
        ("date_to", "2026-01-06T12:00:00Z"),
    ):
        answer = client.send("GET", "/v2/reports", params=given | {name: moment})
        found.append(answer.json()["items_count"])
    assert found == [1, 0, 0]


@pytest.mark.parametrize(
    "given",
    [
        {"account_id": KEY},
        {"status": "SUCCESS"},
        {"account_id": KEY, "status": "DONE"},
        {"account_id": KEY, "status": "SUCCESS", "date_from": "today"},
    ],
)
def test_list_refused(client: Client, given: dict[str, str]) -> None:
    """A list needs an account and known statuses: 400 with the documented type."""
    answer = client.send("GET", "/v2/reports", params=given)
    assert answer.status_code == 400
    kind = "https://developer.nexmo.com/api-errors/reports#invalid-request-parameters"
    assert (answer.json()["type"], answer.json()["title"]) == (kind, "Invalid request parameter")


# The control, the connection


def test_books(client: Client) -> None:
    """What was asked, returned and downloaded is counted; a page fetched twice is billed twice."""
    client.records(FEW_DAY)
    client.records(FEW_DAY)
    client.records(REQUIRED, id="S1,nope")
    client.refusal(REQUIRED | {"product": "FAX"})
    client.archive(FEW_DAY).close()
    books = requests.get(client.sandbox.base_url + "/_sandbox", timeout=10).json()
    assert books["now"] == "2026-01-06T12:00:00Z"
    assert books["billed_records"] == client.sandbox.billed_records == 3 + 3 + 1 + 3
    assert books["downloads"] == 1
    assert books["requests"] == client.sandbox.request_counts
    assert books["requests"].pop("GET /v2/reports/{id} 200") >= 1
    assert books["requests"] == {
        "GET /v2/reports/records 200": 3,
        "GET /v2/reports/records 422": 1,
        "POST /v2/reports 200": 1,
        "GET /v3/media/{id} 200": 1,
    }


def test_time_travel(client: Client) -> None:
    """The time can be set over HTTP, and given back to the clock."""
    url = client.sandbox.base_url + "/_sandbox/now"
    body = requests.put(url, json={"now": "2026-01-03T09:30:00Z"}, timeout=10).json()
    assert body["now"] == "2026-01-03T09:30:00Z"
    assert client.ids(FEW_DAY) == ["S2"]
    requests.put(url, json={"now": None}, timeout=10)
    assert abs(client.sandbox.now - datetime.now(UTC)) < timedelta(seconds=5)


@pytest.mark.parametrize("body", [b"", b"{}", b"[]", b'{"now": "soon"}', b'{"now": 3}'])
def test_time_refused(client: Client, body: bytes) -> None:
    """What is no time is a 400, and changes nothing."""
    url = client.sandbox.base_url + "/_sandbox/now"
    assert requests.put(url, data=body, timeout=10).status_code == 400
    assert client.sandbox.now == NOW


def test_unknown_path(client: Client) -> None:
    """Any other path is a 404."""
    for method, path in (("GET", "/v2/nothing"), ("PUT", "/v2/reports"), ("GET", "/_sandbox/x")):
        assert client.send(method, path).status_code == 404


def test_keep_alive(client: Client) -> None:
    """One connection serves request after request, refusals and bodies included."""
    host = client.sandbox.base_url.removeprefix("http://")
    connection = http.client.HTTPConnection(host, timeout=10)
    sockets = set()
    for method, path, body in (
        ("POST", "/v2/reports", b"{}"),
        ("GET", "/_sandbox", None),
        ("GET", RECORDS, None),
    ):
        connection.request(method, path, body)
        answer = connection.getresponse()
        assert answer.version == 11
        assert len(answer.read()) == int(answer.headers["Content-Length"])
        sockets.add(connection.sock)
    connection.close()
    assert len(sockets) == 1


def test_chunked(client: Client) -> None:
    """A body of unknown length ends the connection, for its end cannot be told."""
    answer = client.send("POST", "/v2/reports", data=iter([b"{}"]))
    assert answer.status_code == 400


def test_disconnect(client: Client, capfd: pytest.CaptureFixture[str]) -> None:
    """Clients that go away in the middle leave no word on stderr, and the server serves on."""
    port = int(client.sandbox.base_url.rpartition(":")[2])
    for line in (b"", b"GET ", b"POST /v2/reports HTTP/1.1\r\nContent-Length: 9\r\n\r\n{"):
        with socket.create_connection(("127.0.0.1", port)) as half:
            half.sendall(line)
    answer = client.send("GET", RECORDS, params=BULK_DAY, stream=True)
    answer.close()
    assert client.ids(FEW_DAY) == ["S1", "S3", "S2"]
    assert capfd.readouterr() == ("", "")


def test_leaves_nothing(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Closed twice, with an open connection and a waiting report, it leaves no file behind."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with Sandbox(data, pending_seconds=60) as sandbox:
        client = Client(sandbox)
        with client.session:
            client.send("POST", "/v2/reports", json=REQUIRED)
            assert list(tmp_path.iterdir())
            begun = time.monotonic()
            sandbox.close()
    assert time.monotonic() - begun < 2
    assert not list(tmp_path.iterdir())


def test_loopback_only(client: Client) -> None:
    """The server is bound to loopback."""
    assert re.fullmatch(r"http://127\.0\.0\.1:\d+", client.sandbox.base_url)
    assert (client.sandbox.api_key, client.sandbox.api_secret) == (KEY, SECRET)
