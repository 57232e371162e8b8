"""The sandbox fails on demand: each fault by its name, as often as was asked, over real HTTP."""

from __future__ import annotations

import csv
import http.client
import io
import re
import time
import zipfile
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pyarrow as pa
import pytest
import requests
from test_sandbox_server import (
    KEY,
    NOW,
    RECORDS,
    REQUIRED,
    SCHEMA,
    Client,
    message,
    write_by_hand,
    write_day,
)

from reconcile.errors import UsageError
from reconcile.sandbox.cruelty import ALL, FAULTS, read_faults
from reconcile.sandbox.server import Sandbox

MANY = 2500
START = datetime(2026, 1, 5, tzinfo=UTC)
DAY = REQUIRED | {"date_start": "2026-01-05T00:00:00Z", "date_end": "2026-01-06T00:00:00Z"}
SHORT = REQUIRED | {"date_start": "2026-01-05T00:00:00Z", "date_end": "2026-01-05T00:10:00Z"}
IDS = REQUIRED | {"id": "M00001,R00002,nope"}
Cruel = Callable[..., Client]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """2,500 messages of one day, one in 30 s; the id of a record is not that of its message."""
    folder = write_by_hand(tmp_path_factory.mktemp("cruel"), "")
    (folder / "world.csv").unlink()
    rows = [
        message(f"M{n:05}", START + timedelta(seconds=30 * n), id=f"R{n:05}") for n in range(MANY)
    ]
    write_day(folder, "2026-01-05", pa.Table.from_pylist(rows, SCHEMA))
    return folder


@pytest.fixture(autouse=True)
def no_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Requests as fast as they come: what is refused here is refused by a fault."""
    monkeypatch.setattr("reconcile.sandbox.protocol.SYNC_PER_SECOND", 1000)
    monkeypatch.setattr("reconcile.sandbox.protocol.ASYNC_PER_SECOND", 1001)


@pytest.fixture
def cruel(data: Path) -> Iterator[Cruel]:
    """Serves the day with faults."""
    with ExitStack() as undo:

        def serve(faults: dict[str, float] | None = None, **options: Any) -> Client:
            quick = {"now": NOW, "pending_seconds": 0, "seconds_per_million": 0}
            sandbox = Sandbox(options.pop("data", data), faults=faults, **quick | options)
            client = Client(undo.enter_context(sandbox))
            undo.enter_context(client.session)
            return client

        yield serve


def ask(client: Client, kind: str) -> requests.Response:
    """A request of a kind, with a link of its own for reports and files."""
    targets = {
        "records": ("GET", RECORDS, {"params": DAY}),
        "by_id": ("GET", RECORDS, {"params": IDS}),
        "create": ("POST", "/v2/reports", {"json": SHORT}),
        "status": ("GET", "/v2/reports/none", {}),
        "list": ("GET", "/v2/reports", {"params": {"account_id": KEY, "status": "SUCCESS"}}),
        "file": ("GET", "/v3/media/none", {}),
    }
    method, target, options = targets[kind]
    return client.send(method, target, allow_redirects=False, **options)


def codes(client: Client, kind: str, times: int) -> list[int]:
    return [ask(client, kind).status_code for _ in range(times)]


def file_of(client: Client, given: dict[str, Any] = SHORT) -> requests.Response:
    """The file of a new report."""
    link = client.report(given)["_links"]["download_report"]["href"]
    return client.send("GET", link, allow_redirects=False)


def members(answer: requests.Response) -> dict[str, bytes]:
    with zipfile.ZipFile(io.BytesIO(answer.content)) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def lines(content: bytes) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(content.decode(), newline="")))


def half_read(client: Client, target: str, **headers: str) -> tuple[int, int]:
    """How many bytes of a body were announced, and how many came before the connection ended."""
    connection = http.client.HTTPConnection(urlsplit(client.sandbox.base_url).netloc, timeout=5)
    prepared = client.session.prepare_request(requests.Request("GET", client.sandbox.base_url))
    connection.request("GET", target, headers={**prepared.headers, **headers})
    answer = connection.getresponse()
    length = int(answer.headers["Content-Length"])
    with pytest.raises(http.client.IncompleteRead) as cut:
        answer.read()
    connection.close()
    return length, len(cut.value.partial)


# The table


def test_every_fault_is_exercised() -> None:
    """Each fault of the table is in some test of this file."""
    source = Path(__file__).read_text("utf-8")
    assert [fault.name for fault in FAULTS if f'"{fault.name}"' not in source] == []


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_table(fault: Any) -> None:
    """Each fault has a sentence, endpoints that there are, and one way to strike."""
    assert re.fullmatch(r"[A-Z0-9][^\n]+\.", fault.sentence)
    assert fault.endpoints
    assert set(fault.endpoints) <= set(ALL)
    assert [fault.instead, fault.spoil, fault.fate].count(None) == 2


def test_names_are_unique() -> None:
    """No two faults share a name."""
    assert max(Counter(fault.name for fault in FAULTS).values()) == 1


# How often


def test_count(cruel: Cruel) -> None:
    """A number strikes the first so many answers, then never again."""
    assert codes(cruel({"error_500": 2}), "records", 4) == [500, 500, 200, 200]


def test_share(cruel: Cruel) -> None:
    """A share strikes about so many, the same ones for the same seed."""
    once, again, other = (
        codes(cruel({"error_503": 0.3}, fault_seed=seed), "file", 60) for seed in (4, 4, 5)
    )
    assert 6 <= once.count(503) <= 32
    assert once == again != other


def test_faults_are_independent(cruel: Cruel) -> None:
    """Another fault beside it does not move where a share strikes."""
    alone = codes(cruel({"error_503": 0.3}), "file", 40)
    with_other = codes(cruel({"error_503": 0.3, "clock_skew": 0.5}), "file", 40)
    assert alone == with_other


def test_one_after_the_other(cruel: Cruel) -> None:
    """Of faults that replace an answer one strikes, and the other waits for the next."""
    assert codes(cruel({"error_502": 1, "rate_limited": 1}), "records", 3) == [429, 502, 200]


def test_faults_add_up(cruel: Cruel) -> None:
    """Faults that spoil an answer strike together."""
    page = cruel({"items_count_wrong": 1, "column_added": 1}).records(SHORT)
    assert page["items_count"] == len(page["records"]) + 1
    assert "surge_index" in page["records"][0]


def test_only_what_it_can(cruel: Cruel) -> None:
    """An answer on which a fault has no hold is no chance of it."""
    client = cruel({"cursor_only": 1})
    assert client.records(SHORT)["request_status"] == "SUCCESS"
    assert "next" not in client.records(DAY)["_links"]


def test_credentials_come_first(cruel: Cruel) -> None:
    """A request that is not let in is no chance of a fault."""
    client = cruel({"error_500": 1})
    assert requests.get(client.sandbox.base_url + RECORDS, timeout=5).status_code == 401
    assert codes(client, "records", 2) == [500, 200]


def test_unknown_name(data: Path) -> None:
    """A name that is no fault's is refused, with those that are near."""
    with pytest.raises(UsageError, match=r"^rate_limit is no fault[^\n]*rate_limited"):
        Sandbox(data, faults={"rate_limit": 1})


@pytest.mark.parametrize("often", [-1, 0.0, 1.0, 1.5, True, "2", None, float("nan")])
def test_bad_number(data: Path, often: Any) -> None:
    """How often is a count, or a share between 0 and 1."""
    with pytest.raises(UsageError, match=r"^stall: .* is neither"):
        Sandbox(data, faults={"stall": often})


def test_set_while_it_runs(cruel: Cruel) -> None:
    """Faults can be set at any time, and count anew."""
    client = cruel({"error_500": 1})
    assert codes(client, "records", 2) == [500, 200]
    client.sandbox.faults = {"error_500": 1}
    assert codes(client, "records", 2) == [500, 200]
    client.sandbox.faults = {}
    assert codes(client, "records", 1) == [200]


def test_set_over_http(cruel: Cruel) -> None:
    """A PUT sets the faults; the control says what is set, and how often each struck."""
    client = cruel()
    url = client.sandbox.base_url + "/_sandbox"
    set_to = {"error_500": 1, "error_502": 0.5}
    body = requests.put(url + "/faults", json={"faults": set_to}, timeout=5).json()
    assert (body["faults"], body["struck"]) == (set_to, {})
    assert ask(client, "records").status_code == 500
    assert requests.get(url, timeout=5).json()["struck"] == {"error_500": 1}


@pytest.mark.parametrize(
    "body", [b"{}", b"[]", b'{"faults": 3}', b'{"faults": {"x": 1}}', b'{"faults": {"stall": 2.5}}']
)
def test_refused_over_http(cruel: Cruel, body: bytes) -> None:
    """A PUT of what are no faults is a 400, and changes nothing."""
    client = cruel({"error_500": 1})
    url = client.sandbox.base_url + "/_sandbox/faults"
    assert requests.put(url, data=body, timeout=5).status_code == 400
    assert client.sandbox.faults == {"error_500": 1}


def test_on_a_command_line() -> None:
    """Faults can be named as words: a count, a share, or once."""
    words = ["error_500=3", "stall=0.25", "shape_flat"]
    assert read_faults(words) == {"error_500": 3, "stall": 0.25, "shape_flat": 1}


@pytest.mark.parametrize("word", ["error_500=often", "nothing=1", "=1", "stall=1.5", "stall=-1"])
def test_no_fault_on_a_command_line(word: str) -> None:
    """A word that names no fault, or not how often, is refused."""
    with pytest.raises(UsageError):
        read_faults([word])


# Instead of an answer


@pytest.mark.parametrize("kind", ALL)
def test_every_endpoint(cruel: Cruel, kind: str) -> None:
    """A fault of all endpoints strikes each."""
    assert ask(cruel({"error_500": 1}), kind).status_code == 500


@pytest.mark.parametrize(
    ("fault", "wait"), [("rate_limited", None), ("rate_limited_retry_after", "1")]
)
def test_rate_limited(cruel: Cruel, fault: str, wait: str | None) -> None:
    """A 429 has the documented body, and says how long to wait or does not."""
    answer = ask(cruel({fault: 1}), "records")
    assert answer.status_code == 429
    assert answer.json()["type"].endswith("/api-errors/reports#rate-limit")
    assert answer.headers.get("Retry-After") == wait


def test_rate_limited_date(cruel: Cruel) -> None:
    """A 429 may say until when to wait, as HTTP writes dates."""
    answer = ask(cruel({"rate_limited_date": 1}), "records")
    until = parsedate_to_datetime(answer.headers["Retry-After"])
    assert abs(until - datetime.now(UTC)) < timedelta(seconds=3)


@pytest.mark.parametrize(
    ("fault", "status", "kind", "body"),
    [
        ("error_500", 500, "application/json", r'\{"type": .*#internal-error.*\}'),
        ("error_502", 502, "text/html", "<html>.*502.*"),
        ("error_503", 503, None, ""),
        ("html_page", 200, "text/html", "<!DOCTYPE html>.*"),
    ],
)
def test_errors(cruel: Cruel, fault: str, status: int, kind: str | None, body: str) -> None:
    """Each error has its status and its body, and bills nothing."""
    client = cruel({fault: 1})
    answer = ask(client, "records")
    assert (answer.status_code, answer.headers.get("Content-Type")) == (status, kind)
    assert re.fullmatch(body, answer.text.strip())
    assert client.sandbox.billed_records == 0


def test_no_report_of_an_error(cruel: Cruel) -> None:
    """A report that was answered with an error does not exist."""
    client = cruel({"error_500": 1})
    assert codes(client, "create", 1) == [500]
    listed = {"account_id": KEY, "status": "PENDING,PROCESSING,SUCCESS"}
    assert client.send("GET", "/v2/reports", params=listed).json()["items_count"] == 0


@pytest.mark.parametrize("kind", ALL)
def test_redirect_elsewhere(cruel: Cruel, kind: str) -> None:
    """Any endpoint may lead to a host where nobody listens."""
    answer = ask(cruel({"redirect_elsewhere": 1}), kind)
    assert answer.status_code == 302
    assert answer.headers["Location"].startswith("http://127.0.0.1:9/v")


def test_redirect_file(cruel: Cruel) -> None:
    """A file may lie on another host, under the same path."""
    client = cruel({"redirect_file": 1}, redirect_to="http://files.test/")
    answer = file_of(client)
    assert answer.status_code == 302
    path = urlsplit(answer.request.url or "").path
    assert answer.headers["Location"] == f"http://files.test{path}"


def test_redirect_needs_a_host(data: Path) -> None:
    """Without another host there is none to redirect to."""
    with pytest.raises(UsageError, match="redirect_to"):
        Sandbox(data, faults={"redirect_file": 1})


# An answer that is not whole


@pytest.mark.parametrize("fault", ["stall", "cut_before_answer"])
@pytest.mark.parametrize("kind", ALL)
def test_no_answer(cruel: Cruel, fault: str, kind: str) -> None:
    """The connection ends without a byte."""
    client = cruel({fault: 1}, stall_seconds=0.05)
    with pytest.raises(requests.ConnectionError, match="RemoteDisconnected"):
        ask(client, kind)
    assert client.sandbox.cruelty.struck == {fault: 1}


@pytest.mark.parametrize("fault", ["stall", "stall_mid_body", "cut_before_answer", "cut_mid_body"])
def test_lost_page_is_billed(cruel: Cruel, fault: str) -> None:
    """A page that did not arrive was returned, and costs; so it does when it is asked for again."""
    client = cruel({fault: 1}, stall_seconds=0.05)
    with pytest.raises((requests.ConnectionError, requests.exceptions.ChunkedEncodingError)):
        client.records(DAY)
    client.records(DAY)
    assert client.sandbox.billed_records == 2000


@pytest.mark.parametrize("fault", ["stall_mid_body", "cut_mid_body"])
@pytest.mark.parametrize("kind", ["records", "file"])
def test_half_of_a_body(cruel: Cruel, fault: str, kind: str) -> None:
    """All of it is announced, and half of it comes."""
    client = cruel(stall_seconds=0.05)
    target = f"{RECORDS}?product=SMS&direction=outbound&account_id={KEY}"
    if kind == "file":
        target = urlsplit(client.report(SHORT)["_links"]["download_report"]["href"]).path
    client.sandbox.faults = {fault: 1}
    length, came = half_read(client, target)
    assert came == length // 2 > 0


def test_stall_lasts(cruel: Cruel) -> None:
    """A client that waits less than the silence gives up first."""
    client = cruel({"stall": 1}, stall_seconds=60)
    with pytest.raises(requests.ReadTimeout):
        client.session.get(client.sandbox.base_url + RECORDS, params=DAY, timeout=0.1)
    begun = time.monotonic()
    client.sandbox.close()
    assert time.monotonic() - begun < 2


def test_lost_report_is_listed(cruel: Cruel) -> None:
    """A report whose answer was lost exists, is listed, and is billed."""
    client = cruel({"cut_before_answer": 1})
    with pytest.raises(requests.ConnectionError):
        ask(client, "create")
    end = time.monotonic() + 10
    while not (reports := ask(client, "list").json()["reports"]) and time.monotonic() < end:
        time.sleep(0.02)
    (report,) = reports
    assert report["items_count"] == client.sandbox.billed_records == 20
    assert client.send("GET", report["_links"]["download_report"]["href"]).status_code == 200


# Pages


def ids_of(pages: Iterator[dict[str, Any]]) -> list[str]:
    return [record["message_id"] for page in pages for record in page["records"]]


def test_page_twice(cruel: Cruel) -> None:
    """A page comes once more under another cursor, costs again, and goes on; nothing is lost."""
    client = cruel({"page_twice": 1})
    pages = list(client.listing(DAY))
    assert [page["items_count"] for page in pages] == [1000, 1000, 1000, 500]
    assert pages[0]["records"] == pages[1]["records"]
    assert len({page.get("cursor") for page in pages}) == 4
    assert Counter(Counter(ids_of(iter(pages))).values()) == {1: 1500, 2: 1000}
    assert client.sandbox.billed_records == 3500


def test_later_page_twice(cruel: Cruel) -> None:
    """A page in the middle may come twice too."""
    client = cruel()
    listing = client.listing(DAY)
    pages = [next(listing)]
    client.sandbox.faults = {"page_twice": 1}
    pages += listing
    assert [page["items_count"] for page in pages] == [1000, 1000, 1000, 500]
    assert pages[1]["records"] == pages[2]["records"]


def test_cursor_repeats(cruel: Cruel) -> None:
    """A page leads to itself; asked again, it goes on."""
    client = cruel({"cursor_repeats": 1})
    pages = list(client.listing(DAY))
    assert pages[0]["cursor"] == pages[1]["cursor"] != pages[2]["cursor"]
    links = [parse_qs(page["_links"]["next"]["href"])["cursor"] for page in pages[:3]]
    assert links[0] == links[1] != links[2]
    assert len(set(ids_of(iter(pages)))) == MANY


def test_empty_page(cruel: Cruel) -> None:
    """A page may hold nothing and lead on to all that there is; it costs nothing."""
    client = cruel({"empty_page": 2})
    pages = list(client.listing(DAY))
    assert [page["items_count"] for page in pages] == [0, 0, 1000, 1000, 500]
    assert pages[0]["request_status"] == "TRUNCATED"
    assert len(set(ids_of(iter(pages)))) == client.sandbox.billed_records == MANY


def test_cursor_expired(cruel: Cruel) -> None:
    """A cursor that is refused stays refused, and costs nothing; another goes on."""
    client = cruel({"cursor_expired": 1})
    pages = [client.records(DAY) for _ in range(2)]
    paging = [DAY | {name: page[name] for name in ("cursor", "iv")} for page in pages]
    for _ in range(2):
        assert client.reasons(paging[0]) == {"cursor": "Expired"}
    assert len(client.ids(paging[1])) == 1000
    client.sandbox.faults = {}
    assert client.reasons(paging[0]) == {"cursor": "Expired"}
    assert client.sandbox.billed_records == 3000


def test_cursor_only(cruel: Cruel) -> None:
    """A page may lead on by its cursor and iv alone."""
    client = cruel({"cursor_only": 1})
    page = client.records(DAY)
    assert (page["request_status"], list(page["_links"])) == ("TRUNCATED", ["self"])
    onward = client.ids(DAY, cursor=page["cursor"], iv=page["iv"])
    assert not set(onward) & set(ids_of(iter([page])))


def test_next_without_truncated(cruel: Cruel) -> None:
    """A page may be a SUCCESS and lead on."""
    page = cruel({"next_without_truncated": 1}).records(DAY)
    assert (page["request_status"], "next" in page["_links"]) == ("SUCCESS", True)


@pytest.mark.parametrize("given", [DAY, IDS], ids=["records", "by_id"])
def test_items_count_wrong(cruel: Cruel, given: dict[str, str]) -> None:
    """A page may say that it holds one more than it does."""
    page = cruel({"items_count_wrong": 1}).records(given)
    assert page["items_count"] == len(page["records"]) + 1


# By id


def test_ids_missing(cruel: Cruel) -> None:
    """No id may be known, and that costs nothing."""
    client = cruel({"ids_missing": 1})
    page = client.records(IDS)
    assert (page["items_count"], page["records"], page["price"]) == (0, [], 0)
    assert page["ids_not_found"] == "M00001,R00002,nope"
    assert client.sandbox.billed_records == 0


def test_ids_refused(cruel: Cruel) -> None:
    """An account may have no right to ask by id; its listings still come."""
    client = cruel({"ids_refused": 1})
    assert client.refusal(IDS, 403)["title"] == "Forbidden"
    assert client.records(SHORT)["items_count"] == 20


def test_ids_by_record_id_only(cruel: Cruel) -> None:
    """A message may be known by the id of its record alone."""
    client = cruel({"ids_by_record_id_only": 1})
    page = client.records(IDS)
    assert [record["id"] for record in page["records"]] == ["R00002"]
    assert page["ids_not_found"] == "M00001,nope"
    assert client.sandbox.billed_records == page["items_count"] == 1


# Columns


@pytest.mark.parametrize("given", [SHORT, IDS], ids=["records", "by_id"])
def test_columns_of_a_page(cruel: Cruel, given: dict[str, str]) -> None:
    """On a page a field may be new, message_id missing, or the order another."""
    plain = cruel().records(given)["records"][0]
    added, missing, shuffled = (
        cruel({fault: 1}).records(given)["records"][0]
        for fault in ("column_added", "column_missing", "columns_shuffled")
    )
    assert added == plain | {"surge_index": "1.0"}
    assert plain == missing | {"message_id": plain["message_id"]}
    assert "message_id" not in missing
    assert shuffled == plain
    assert list(shuffled) != list(plain)


def test_columns_of_a_file(cruel: Cruel) -> None:
    """In a file a column may be new, message_id missing, or the order another."""
    plain, added, missing, shuffled = (
        lines(next(iter(members(file_of(cruel({fault: 1} if fault else {}))).values())))
        for fault in ("", "column_added", "column_missing", "columns_shuffled")
    )
    assert added == [line | {"surge_index": "1.0"} for line in plain]
    assert plain == [
        line | {"message_id": of["message_id"]} for line, of in zip(missing, plain, strict=True)
    ]
    assert "message_id" not in missing[0]
    assert shuffled == plain
    assert list(shuffled[0]) != list(plain[0])


# Reports


@pytest.mark.parametrize(
    ("fault", "status"), [("report_failed", "FAILED"), ("report_aborted", "ABORTED")]
)
def test_report_ends_badly(cruel: Cruel, fault: str, status: str) -> None:
    """A report may end without a file, and costs nothing; the next one is well."""
    client = cruel({fault: 1})
    body = client.report(SHORT)
    assert (body["request_status"], list(body["_links"])) == (status, ["self"])
    assert client.sandbox.billed_records == 0
    assert client.report(SHORT)["request_status"] == "SUCCESS"


def test_report_truncated(cruel: Cruel) -> None:
    """A report may end with its newest records alone, and only they are billed."""
    client = cruel({"report_truncated": 1}, truncate_after=30)
    body = client.report(DAY)
    assert (body["request_status"], body["items_count"]) == ("TRUNCATED", 30)
    link = body["_links"]["download_report"]["href"]
    (content,) = members(client.send("GET", link)).values()
    assert [line["message_id"] for line in lines(content)] == [
        f"M{n:05}" for n in range(MANY - 1, MANY - 31, -1)
    ]
    assert client.sandbox.billed_records == 30


def test_report_truncated_unsorted(cruel: Cruel) -> None:
    """Its records may be any of them, and in any order."""
    client = cruel({"report_truncated_unsorted": 1}, truncate_after=50)
    body = client.report(DAY)
    assert (body["request_status"], body["items_count"]) == ("TRUNCATED", 50)
    link = body["_links"]["download_report"]["href"]
    (content,) = members(client.send("GET", link)).values()
    received = [line["date_received"] for line in lines(content)]
    assert len(set(received)) == 50
    assert received not in (sorted(received), sorted(received, reverse=True))
    assert min(received) < "2026-01-05T04" < "2026-01-05T16" < max(received)


def test_report_that_fits(cruel: Cruel) -> None:
    """A report of no more records than a file may hold is whole, and no chance of the fault."""
    client = cruel({"report_truncated": 1}, truncate_after=20)
    assert client.report(SHORT)["request_status"] == "SUCCESS"
    assert client.report(DAY)["request_status"] == "TRUNCATED"


def test_report_count_wrong(cruel: Cruel) -> None:
    """A report may say that its file holds one record more than it does, each time."""
    client = cruel({"report_count_wrong": 1})
    body = client.report(SHORT)
    again = client.send("GET", body["_links"]["self"]["href"]).json()
    (content,) = members(client.send("GET", body["_links"]["download_report"]["href"])).values()
    assert body["items_count"] == again["items_count"] == len(lines(content)) + 1


def test_slow_report(cruel: Cruel, monkeypatch: pytest.MonkeyPatch) -> None:
    """A report may be processed for longer than usual."""
    monkeypatch.setattr("reconcile.sandbox.fates.SLOW_SECONDS", 0.4)
    client = cruel({"slow_report": 1})
    begun = time.monotonic()
    body = client.send("POST", "/v2/reports", json=SHORT).json()
    time.sleep(0.2)
    link = body["_links"]["self"]["href"]
    assert client.send("GET", link).json()["request_status"] == "PROCESSING"
    assert client.ended(body)["request_status"] == "SUCCESS"
    assert time.monotonic() - begun >= 0.4


def test_report_forgotten(cruel: Cruel) -> None:
    """A report may be forgotten for good, whatever faults come later; another is not."""
    client = cruel({"report_forgotten": 1})
    first, second = (client.send("POST", "/v2/reports", json=SHORT).json() for _ in range(2))
    assert client.send("GET", first["_links"]["self"]["href"]).status_code == 404
    client.sandbox.faults = {}
    assert client.send("GET", first["_links"]["self"]["href"]).status_code == 404
    assert client.send("GET", second["_links"]["self"]["href"]).status_code == 200


def test_file_gone(cruel: Cruel) -> None:
    """A file may be gone for good; that of another report is not."""
    client = cruel({"file_gone": 1})
    gone = file_of(client)
    assert gone.status_code == 404
    assert client.send("GET", gone.request.url or "").status_code == 404
    assert file_of(client).status_code == 200


def test_flat(cruel: Cruel) -> None:
    """Creation, status and list may have the other documented shape."""
    client = cruel()
    plain = client.report(SHORT)
    client.sandbox.faults = {"shape_flat": 9}
    status = client.send("GET", plain["_links"]["self"]["href"]).json()
    (listed,) = ask(client, "list").json()["reports"]
    asked = {"product", "account_id", "direction", "date_start", "date_end"}
    assert status == listed
    assert asked < status.pop("request_params").keys()
    assert status == {
        "request_id": plain["request_id"],
        "status": "SUCCESS",
        "receive_time": plain["receive_time"],
        "start_time": plain["start_time"],
        "items_count": 20,
        "download_url": plain["_links"]["download_report"]["href"],
    }
    client.sandbox.pending_seconds = 60
    created = ask(client, "create").json()
    assert created.keys() == {"request_id", "status", "receive_time", "request_params"}
    assert created["status"] == "PENDING"


def test_skew(cruel: Cruel) -> None:
    """The clock of the API may be ten minutes slow: on stamps, and in the header of any answer."""
    client = cruel({"clock_skew": 9})
    assert client.records(SHORT)["received_at"] == "2026-01-06T11:50:00+00:00"
    assert ask(client, "create").json()["receive_time"] == "2026-01-06T11:50:00+0000"
    time.sleep(0.1)
    answer = ask(client, "list")
    assert answer.json()["reports"][0]["receive_time"] == "2026-01-06T11:50:00+0000"
    behind = datetime.now(UTC) - parsedate_to_datetime(answer.headers["Date"])
    assert abs(behind - timedelta(minutes=10)) < timedelta(seconds=5)


# Files


@pytest.fixture(scope="module")
def plain(data: Path) -> tuple[str, bytes]:
    """The one member of a file that is well."""
    with Sandbox(data, now=NOW, pending_seconds=0, seconds_per_million=0) as sandbox:
        client = Client(sandbox)
        with client.session:
            (member,) = members(file_of(client)).items()
    return member


def test_zip_cut_short(cruel: Cruel) -> None:
    """The file may end early, although its length is as announced."""
    answer = file_of(cruel({"zip_cut_short": 1}))
    assert answer.content.startswith(b"PK\x03\x04")
    with pytest.raises(zipfile.BadZipFile):
        members(answer)


def test_zip_bad_crc(cruel: Cruel) -> None:
    """The content may be damaged, as its checksum tells."""
    answer = file_of(cruel({"zip_bad_crc": 1}))
    with pytest.raises((zipfile.BadZipFile, zlib.error)):
        members(answer)


def test_zip_two_csvs(cruel: Cruel, plain: tuple[str, bytes]) -> None:
    """The records may be split over two CSVs."""
    found = members(file_of(cruel({"zip_two_csvs": 1})))
    stem = plain[0].removesuffix(".csv")
    assert list(found) == [f"{stem}_1.csv", f"{stem}_2.csv"]
    assert [line for each in found.values() for line in lines(each)] == lines(plain[1])
    assert all(lines(each) for each in found.values())


def test_zip_other_members(cruel: Cruel, plain: tuple[str, bytes]) -> None:
    """Beside the CSV may be a folder, and what is no CSV."""
    found = members(file_of(cruel({"zip_other_members": 1})))
    assert found[plain[0]] == plain[1]
    assert list(found) == ["README.txt", "meta/", plain[0]]


def test_zip_path_trick(cruel: Cruel, plain: tuple[str, bytes]) -> None:
    """Beside the CSV may be junk under a name that leads out of any folder."""
    found = members(file_of(cruel({"zip_path_trick": 1})))
    assert found[plain[0]] == plain[1]
    junk = lines(found["../../evil.csv"])
    assert [line["message_id"] for line in junk] == ["junk 0", "junk 1", "junk 2"]


def test_zip_bomb(cruel: Cruel, plain: tuple[str, bytes]) -> None:
    """A small file may hold gigabytes."""
    answer = file_of(cruel({"zip_bomb": 1}))
    assert len(answer.content) < 4 << 20
    with zipfile.ZipFile(io.BytesIO(answer.content)) as archive:
        assert archive.read(plain[0]) == plain[1]
        bomb = archive.infolist()[1]
        assert bomb.file_size > 2 << 30
        with archive.open(bomb) as content:
            assert content.read(5 << 20).endswith(b"0" * (4 << 20))


def test_not_a_zip(cruel: Cruel) -> None:
    """A page may come as the file, under the file's headers."""
    answer = file_of(cruel({"not_a_zip": 1}))
    assert (answer.status_code, answer.text[:9]) == (200, "<!DOCTYPE")
    assert answer.headers["Content-Type"] == "application/octet-stream"


# Waits, and the log


def test_latency(cruel: Cruel) -> None:
    """Every answer of the API waits, the control does not."""
    client = cruel(latency=0.2)
    begun = time.monotonic()
    requests.get(client.sandbox.base_url + "/_sandbox", timeout=5)
    assert time.monotonic() - begun < 0.2
    ask(client, "file")
    assert time.monotonic() - begun >= 0.2


def test_requests_are_kept(cruel: Cruel) -> None:
    """Each request that reached the API is kept, in order, struck or not."""
    client = cruel({"error_500": 1})
    ask(client, "records")
    ask(client, "create")
    requests.get(client.sandbox.base_url + "/_sandbox", timeout=5)
    first, second = client.sandbox.requests
    assert (first.method, first.path, first.query["date_end"]) == (
        *("GET", RECORDS, "2026-01-06T00:00:00Z"),
    )
    assert (second.method, b"outbound" in second.body) == ("POST", True)
