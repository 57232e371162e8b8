"""Captures become receipts and rejects: every line once, nothing lost, nothing guessed."""

from __future__ import annotations

import gzip
import json
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from hashlib import sha256
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from reconcile import border
from reconcile.days import day_window
from reconcile.receipts import fields, formats, ingest, json_fields, lines, table_fields
from reconcile.receipts.intake import Wishes
from reconcile.reports import parse, raw
from reconcile.sandbox.generate import Generated
from reconcile.store import Ledger, Store
from reconcile.tables import RECEIPTS, REJECTED_LINES, REJECTS

AS_OF = datetime(2026, 2, 1, tzinfo=UTC)
DLR = {
    "msisdn": "447700900000", "to": "Acme", "network-code": "23410",
    "messageId": "0A0000001234567B", "price": "0.03330000", "status": "delivered",
    "scts": "2601051000", "err-code": "0", "api-key": "5a4d0b0e", "client-ref": "ref",
    "message-timestamp": "2026-01-05 10:00:00", "captured_at": "2026-01-05T10:00:01.250Z",
}  # fmt: skip
Rows = list[dict[str, Any]]


def dlr(**changes: Any) -> str:
    """A line of NDJSON; a field that is None is left out."""
    fields = DLR | {name.replace("_", "-"): value for name, value in changes.items()}
    return json.dumps({name: value for name, value in fields.items() if value is not None})


@dataclass
class Taken:
    """A store, and what was taken into it."""

    store: Store
    con: Any
    folder: Path
    pii: str = "keep"
    ledger: Ledger = field(default_factory=Ledger)
    problems: list[str] = field(default_factory=list)

    def write(self, name: str, content: str | bytes) -> Path:
        """A capture; one whose name ends in .gz is compressed."""
        data = content.encode() if isinstance(content, str) else content
        path = self.folder / name
        path.write_bytes(gzip.compress(data) if name.endswith(".gz") else data)
        return path

    def take(self, *files: Path, as_of: datetime = AS_OF) -> list[ingest.Capture]:
        """Ingests captures, and holds the sums against the tables."""
        taken = ingest.ingest(
            self.store,
            self.con,
            self.ledger,
            list(files),
            [],
            as_of,
            Wishes(self.pii),
            lambda *_: None,
        )
        self.problems, read = [p.reason for p in taken.problems], taken.captures
        assert self.ledger == self.store.ledger()
        for capture in read:
            assert capture.lines == capture.receipts + capture.rejects + capture.blank
            own = [row for row in self.receipts() if row["source"] == capture.source]
            bad = [row for row in self.rejects() if row["source"] == capture.source]
            if entry := self.ledger.captures.get(capture.source):
                assert (len(own), len(bad)) == (entry["receipts"], entry["rejects"])
            assert len({r["line"] for r in own + bad}) == len(own + bad)
        kept = {(row["source"], row["line"]) for row in self._rows("rejected_lines")}
        assert kept == {(row["source"], row["line"]) for row in self.rejects()}
        return read

    def one(self, name: str, content: str | bytes) -> ingest.Capture:
        """Ingests a capture of this content."""
        return self.take(self.write(name, content))[0]

    def receipts(self) -> Rows:
        """All receipts, in the order of their lines."""
        return self._rows("receipts")

    def rejects(self) -> Rows:
        """All rejects, in the order of their lines."""
        return self._rows("rejects")

    def reasons(self) -> dict[int, str]:
        """The reason of each reject by its line."""
        return {row["line"]: row["reason"] for row in self.rejects()}

    def _rows(self, table: str) -> Rows:
        files = sorted((self.store.root / table).rglob("*.parquet"))
        rows = [row for file in files for row in pq.read_table(file, partitioning=None).to_pylist()]
        return sorted(rows, key=lambda row: (row["source"], row["line"]))


@pytest.fixture
def taken(con: Any, tmp_path: Path) -> Taken:
    """An empty store."""
    folder = tmp_path / "dlr's"
    folder.mkdir()
    return Taken(Store.open(tmp_path / "store", create=True), con, folder)


def utc(*parts: int) -> datetime:
    return datetime(*parts, tzinfo=UTC)  # type: ignore[misc, arg-type]


# Fields


def test_a_receipt(taken: Taken) -> None:
    """Every field of a DLR has its column, and the name trap is closed: `to` is the sender."""
    taken.one("a.ndjson", dlr())
    receipt = taken.receipts()[0]
    assert list(receipt) == RECEIPTS.names
    assert receipt == {
        "message_id": "0A0000001234567B", "account_id": "5a4d0b0e", "product": "SMS",
        "client_ref": "ref", "sender": "Acme", "recipient": "447700900000",
        "network_code": "23410", "status": "delivered", "error_code": "0",
        "price": receipt["price"], "pushed_at": utc(2026, 1, 5, 10),
        "scts": "2601051000", "captured_at": utc(2026, 1, 5, 10, 0, 1, 250_000),
        "source": str(taken.folder / "a.ndjson"), "line": 1, "signature": "unsigned",
    }  # fmt: skip
    assert str(receipt["price"]) == "0.03330000"


SPELLINGS: dict[str, Callable[[str], str]] = {
    "hyphen": lambda n: n,
    "underscore": lambda n: n.replace("-", "_").replace("Id", "_id"),
    "upper": lambda n: n.replace("-", "_").replace("Id", "_ID").upper(),
    "camel": lambda n: "".join(p if not i else p.title() for i, p in enumerate(n.split("-"))),
    "odd": lambda n: n.replace("-", "/~").replace("Id", '"id'),
}


@pytest.mark.parametrize("style", SPELLINGS)
@pytest.mark.parametrize("name", ["a.ndjson", "a.csv", "a.ndjson.gz", "a.csv.gz"])
def test_spellings(taken: Taken, style: str, name: str) -> None:
    """Fields are known by their names in every style, in both formats, compressed or not."""
    fields = {SPELLINGS[style](key): value for key, value in DLR.items()}
    if "csv" in name:
        header = ",".join('"' + key.replace('"', '""') + '"' for key in fields)
        taken.one(name, f"{header}\n{','.join(fields.values())}\n")
    else:
        taken.one(name, json.dumps(fields))
    receipt = taken.receipts()[0] | {"source": "", "line": 0, "price": ""}
    assert [v for v in receipt.values() if v is None] == []
    assert (receipt["message_id"], receipt["account_id"]) == ("0A0000001234567B", "5a4d0b0e")
    assert (receipt["sender"], receipt["network_code"]) == ("Acme", "23410")


def test_styles_in_one_file(taken: Taken) -> None:
    """Lines of different styles in one file are read each by its own names."""
    other = json.dumps({"MESSAGE_ID": "0B", "Status": "FAILED", "errorCode": 3})
    taken.one("a.ndjson", f"{dlr()}\n{other}\n")
    first, second = taken.receipts()
    assert (first["error_code"], second["error_code"]) == ("0", "3")
    assert (second["message_id"], second["status"]) == ("0B", "failed")


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("2019-08-28 16:15:02", utc(2019, 8, 28, 16, 15, 2)),
        ("2020-01-01 12:00:00 +0000", utc(2020, 1, 1, 12)),
        ("2020-01-01T12:00:00.000+00:00", utc(2020, 1, 1, 12)),
        ("2020-01-01T12:00:00.123Z", utc(2020, 1, 1, 12, 0, 0, 123_000)),
        ("1582650446", None), ("never", None), ("", None),
    ],
)  # fmt: skip
def test_message_timestamps(taken: Taken, text: str, wanted: datetime | None) -> None:
    """Three forms of message-timestamp were seen; what is none of them is no time."""
    taken.one("a.ndjson", dlr(message_timestamp=text))
    assert taken.receipts()[0]["pushed_at"] == wanted


@pytest.mark.parametrize(
    "moment",
    ["2026-01-05T10:00:01.250Z", "2026-01-05 10:00:01.250", 1767607201.25, 1767607201250,
     1767607201250000, "1767607201.25", "1767607201250"],
)  # fmt: skip
def test_capture_times(taken: Taken, moment: Any) -> None:
    """A capture time is ISO 8601 or seconds, ms or µs since 1970, as text or as number."""
    taken.one("a.ndjson", json.dumps(DLR | {"captured_at": moment}))
    assert taken.receipts()[0]["captured_at"] == utc(2026, 1, 5, 10, 0, 1, 250_000)


@pytest.mark.parametrize("moment", ["12345678901234567890", "99", "-1767607201", "1e9", None, "x"])
def test_no_capture_time(taken: Taken, moment: Any) -> None:
    """A number that is no such time is none."""
    taken.one("a.ndjson", json.dumps(DLR | {"captured_at": moment}))
    assert taken.receipts()[0]["captured_at"] is None


@settings(max_examples=100, deadline=None,
          suppress_health_check=[HealthCheck.function_scoped_fixture])  # fmt: skip
@given(st.integers(10**12, 4 * 10**12))
def test_epoch_milliseconds(con: Any, number: int) -> None:
    """No millisecond is lost on the way."""
    query = f"SELECT epoch_ms({border.instant_or_epoch('v')}) FROM (SELECT '{number}' AS v)"
    assert con.con.execute(query).fetchone() == (number,)


def test_what_is_not_told(taken: Taken) -> None:
    """A receipt needs no more than id and status; without any time it is undated."""
    taken.one("a.ndjson", '{"messageId": "0a", "status": "Accepted"}')
    receipt = taken.receipts()[0]
    assert (receipt["message_id"], receipt["status"]) == ("0A", "accepted")
    assert taken.store.days(RECEIPTS) == ["undated"]


def test_changed_partitions(taken: Taken) -> None:
    """The ledger names the partitions that changed, until they are judged."""
    path = taken.write("a.ndjson", dlr())
    taken.take(path)
    path.write_text(dlr(message_timestamp="2026-01-09 10:00:00"))
    taken.take(path)
    assert taken.ledger.changed == ["2026-01-05", "2026-01-09"]


@pytest.mark.slow
def test_order_in_partitions(taken: Taken) -> None:
    """Receipts are in no order, each line once; rejects, which people read, by source and line."""
    rows = "\n".join((dlr(client_ref=str(n)) if n % 2 else "no receipt") for n in range(40_000))
    taken.take(taken.write("b.ndjson", rows), taken.write("a.ndjson", dlr() + "\n" + rows))
    lines = {}
    for table in (RECEIPTS, REJECTS, REJECTED_LINES):
        [day] = taken.store.days(table)
        found = pq.read_table(taken.store.path(table, day), partitioning=None).to_pylist()
        lines[table.name] = [(row["source"], row["line"]) for row in found]
    assert lines["rejects"] == sorted(lines["rejects"]) == lines["rejected_lines"]
    counts = [len(set(lines[name])) for name in ("receipts", "rejects")]
    assert counts == [len(lines["receipts"]), len(lines["rejects"])] == [40_001, 40_000]


def test_days(taken: Taken) -> None:
    """A receipt lies in the partition of its push, else of its capture."""
    taken.one("a.ndjson", "\n".join([
        dlr(message_timestamp="2026-01-04 23:59:59"),
        dlr(message_timestamp="2026-01-05 00:00:00"),
        dlr(message_timestamp=None),
        dlr(message_timestamp="9999-01-01 00:00:00"),
    ]))  # fmt: skip
    assert taken.store.days(RECEIPTS) == ["2026-01-04", "2026-01-05"]
    assert taken.ledger.receipt_days["2026-01-04"] == ["2026-01-05", "2026-01-05"]


def test_signatures(taken: Taken) -> None:
    """A signature that nobody has checked says so."""
    taken.one("a.ndjson", dlr(sig="1A20") + "\n" + dlr())
    assert [r["signature"] for r in taken.receipts()] == ["unverifiable", "unsigned"]


def test_recipients_are_equal_on_both_borders(taken: Taken, tmp_path: Path) -> None:
    """A handset has the same hash in a record and in a receipt, however it is written."""
    taken.pii = "hash"
    taken.one("a.ndjson", dlr(msisdn="+44 7700 900000"))
    row = {"message_id": "0A", "date_received": "2026-01-05T10:00:00Z", "to": "447700900000"}
    raw.write_pages([[row]], tmp_path / "raw")
    window = day_window(date(2026, 1, 5))
    query = parse.records(tmp_path / "raw", "SMS", "5a4d0b0e", window, AS_OF, "hash")
    record = taken.con.con.execute(f"SELECT recipient FROM ({query})").fetchone()[0]
    wanted = sha256(b"a key for tests only, 32 letters447700900000").hexdigest()[:16]
    assert taken.receipts()[0]["recipient"] == record == wanted


# Lines


def test_odd_lines_of_ndjson(taken: Taken) -> None:
    """Each line that is no receipt is a reject with its reason, and spoils no other."""
    content = [
        dlr(), '{"messageId": "0B", "sta', "[1]", "7", '"text"', "null", "nonsense",
        dlr(messageId=None), dlr(messageId=""), dlr(status=None), dlr(status="REDACTED"), "{}",
        '{"messageId": "\\ud800", "status": "delivered"}', '{"a": "\0"}', "\0", dlr(),
    ]  # fmt: skip
    capture = taken.one("a.ndjson", "\n".join(content) + "\n")
    no_id, no_status = "it has no message id", "it has no status, so it is no receipt"
    assert taken.reasons() == {
        **dict.fromkeys((2, 3, 4, 5, 6, 7, 13, 14, 15), json_fields.NO_JSON),
        8: no_id, 9: no_id, 10: no_status, 11: no_status, 12: "a health check",
    }  # fmt: skip
    kinds = {row["line"]: row["kind"] for row in taken.rejects()}
    assert {n: kinds[n] for n in (2, 8, 12)} == {
        2: "unreadable", 8: "unreadable", 12: "not_a_receipt:health_check",
    }  # fmt: skip
    assert (capture.lines, capture.receipts) == (16, 2)


@pytest.mark.parametrize("number", ["12", "1e5", "-3", "1.5", "123456789012345678901234567890"])
def test_an_id_that_is_a_number(taken: Taken, number: str) -> None:
    """An id that was captured as a JSON number is a reject: its digits cannot be trusted."""
    taken.one("a.ndjson", f'{{"messageId": {number}, "status": "delivered"}}')
    assert taken.reasons() == {1: fields.NUMBER_ID}


def test_an_id_that_looks_like_a_number(taken: Taken) -> None:
    """An id of digits only, or like 1E5, is an id as long as it is text."""
    taken.one("a.ndjson", "\n".join(dlr(messageId=i) for i in ("0012", "1e5", "0E000000C889DF7B")))
    assert [r["message_id"] for r in taken.receipts()] == ["0012", "1E5", "0E000000C889DF7B"]


@pytest.mark.parametrize("name", ["a.ndjson", "a.csv"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_line_ends(taken: Taken, name: str, end: str) -> None:
    """A byte order mark, CRLF, blank lines, and a JSON line without its end take nothing away."""
    head = ["messageId,status,to"] if name == "a.csv" else []
    line = "0A,delivered,Acme" if head else dlr()
    content = end.join(["", *head, line, "", " \t", line, line, *([""] if head else [])])
    capture = taken.one(name, "\ufeff" + content)
    first = 2 + len(head)
    assert [r["line"] for r in taken.receipts()] == [first, first + 3, first + 4]
    assert {r["sender"] for r in taken.receipts()} == {"Acme"}
    assert (capture.rejects, capture.blank) == (0, 3 + len(head))


def test_byte_order_mark_before_the_first_line(taken: Taken) -> None:
    """The first line of NDJSON is read behind a byte order mark, compressed or not."""
    for name in ("a.ndjson", "b.ndjson.gz"):
        assert taken.one(name, "\ufeff" + dlr(client_ref=name)).receipts == 1


@pytest.mark.parametrize("name", ["a.ndjson", "a.csv"])
def test_latin_1(taken: Taken, name: str) -> None:
    """A line that is no UTF-8 is a reject; those around it are read."""
    head, line = ("messageId,status,to\n", "0A,failed,x") if name == "a.csv" else ("", dlr())
    capture = taken.one(name, head.encode() + f"{line}\nCaf\xe9 {line}\n{line}\n".encode("latin-1"))
    assert (capture.receipts, list(taken.reasons().values())) == (2, [lines.NO_UTF8])


@pytest.mark.parametrize("name", ["a.ndjson", "a.csv"])
@pytest.mark.parametrize("last", [True, False])
@pytest.mark.parametrize("block", [16 << 20, 1000])
def test_a_line_too_long(
    taken: Taken, name: str, last: bool, block: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A line that is too long is a reject, wherever it stands; a line just short of it is not."""
    monkeypatch.setattr(lines, "LONGEST_LINE_BYTES", 3000)
    monkeypatch.setattr(lines, "BLOCK_BYTES", block)
    head, line = ("messageId,status,to\n", "0A,failed,") if name == "a.csv" else ("", dlr())
    longest, longer = line.ljust(3000), ("é" + line).ljust(3000)
    rows = [line, longest, line, longer] if last else [longer, line, longest, line]
    capture = taken.one(name, head + "\n".join(rows) + ("\n" if name == "a.csv" else ""))
    assert (capture.receipts, list(taken.reasons().values())) == (3, [lines.TOO_LONG])


def test_odd_lines_of_csv(taken: Taken) -> None:
    """A quote or a line end that is out of place spoils its own line, and no line below it."""
    rows = [
        '0A,delivered,"Acme, Ltd"', '0A,delivered,"say ""hi"""', '0A,delivered,5"', "0A,delivered",
        "0A,delivered,Acme,more", '0A,delivered,"open', '5"in,delivered,"open', '0A,"x"y,Acme',
        "0A,delivered,a\rb", "1,2,3,4\r2,0A,delivered,Acme", ",delivered,Acme", "0A,,Acme", ",,",
        "0A,delivered,nul\0", "0A,delivered,Acme",
    ]  # fmt: skip
    capture = taken.one("a.csv", "messageId,status,to\n" + "\n".join(rows) + "\n")
    good = {row["line"]: row["sender"] for row in taken.receipts()}
    assert good == {2: "Acme, Ltd", 3: 'say "hi"', 4: '5"', 15: "nul\0", 16: "Acme"}
    bad, wide = table_fields.BAD_QUOTES, table_fields.WRONG_WIDTH
    no_id, no_status = "it has no message id", "it has no status, so it is no receipt"
    assert taken.reasons() == {
        5: wide, 6: wide, 7: bad, 8: bad, 9: bad, 10: bad, 11: bad, 12: no_id, 13: no_status,
        14: no_id,
    }  # fmt: skip
    assert capture.blank == 1


@pytest.mark.parametrize("delimiter", [";", "\t", "|"])
def test_delimiters(taken: Taken, delimiter: str) -> None:
    """The header shows what separates the fields."""
    row = delimiter.join(["0A", "delivered", "a,b"]) + "\n"
    taken.one("a.csv", delimiter.join(["messageId", "status", "to"]) + "\n" + row)
    assert taken.receipts()[0]["sender"] == "a,b"


@pytest.mark.parametrize(
    ("name", "content", "found"),
    [
        ("a.ndjson", dlr(), "ndjson"), ("a.txt", "\n" + dlr(), "ndjson"), ("a", dlr(), "ndjson"),
        ("a.csv", "  " + dlr(), "ndjson"), ("a", "messageId,status\n0A,failed\n", "csv"),
        ("a.TSV", "messageId\tstatus\n0A\tfailed\n", "csv"), ("a.json", f"[{dlr()}]", "json"),
        ("a.csv", json.dumps(json.loads(dlr()), indent=2) + "\n", "json"),
        ("a", "GET /dlr?messageId=0A&status=failed HTTP/1.1\n", "form"),
    ],
)  # fmt: skip
def test_formats(taken: Taken, name: str, content: str, found: str) -> None:
    """The content tells, whatever the name."""
    capture = taken.one(name, content)
    assert (capture.format, capture.receipts) == (found, 1)


@pytest.mark.parametrize("name", ["a.ndjson", "a.csv", "a", "a.ndjson.gz"])
@pytest.mark.parametrize("content", ["", "\n", "\ufeff"])
def test_nothing(taken: Taken, name: str, content: str) -> None:
    """An empty capture holds nothing, and is no problem."""
    for _ in range(2):
        read = taken.take(taken.write(name, content))
        assert sum(c.receipts + c.rejects for c in read) == 0
        assert taken.problems == []


def test_header_alone(taken: Taken) -> None:
    """A CSV that is nothing but its header holds nothing."""
    capture = taken.one("a.csv", "messageId,status\n")
    assert (capture.lines, capture.blank) == (1, 1)


def test_csv_without_its_columns(taken: Taken) -> None:
    """A CSV without the columns it needs is told, with their names; others are read."""
    path = taken.write("a.csv", "id,when\n1,2\n")
    [read] = taken.take(path, taken.write("b.ndjson", dlr()))
    assert (Path(read.path).name, len(taken.problems)) == ("b.ndjson", 1)
    assert "a.csv has no column message_id and no status (id, when)" in taken.problems[0]


def test_binary(taken: Taken) -> None:
    """A file that is none of the formats is told."""
    assert taken.take(taken.write("a.bin", b"\xff\xf0\x00\x01\n" * 9)) == []
    assert "a.bin is in no format that is known" in taken.problems[0]


def test_unreadable(taken: Taken) -> None:
    """What is no file is told; what was rotated away since it was found is no problem."""
    assert taken.take(taken.folder, taken.folder / "gone.ndjson") == []
    told = f"the capture {taken.folder} cannot be read: Is a directory: name a file"
    assert taken.problems == [told]


@pytest.mark.parametrize("harm", ["short", "spoilt", "tail"])
def test_broken_gzip(taken: Taken, harm: str) -> None:
    """Of a compressed file that is broken what can be read is kept, and once it is quiet, told."""
    content = gzip.compress("".join(dlr(client_ref=str(n)) + "\n" for n in range(2000)).encode())
    half = len(content) // 2
    path = taken.folder / "a.ndjson.gz"
    path.write_bytes({
        "short": content[:half],
        "spoilt": content[:half] + b"\xff" * 32 + content[half + 32 :],
        "tail": content + b"not gzip",
    }[harm])  # fmt: skip
    taken.take(path)
    assert taken.problems == []
    found = [row["client_ref"] for row in taken.receipts()]
    # What is spoilt may unpack to some nonsense before that shows.
    sound = len(found) - 100 if harm == "spoilt" else len(found)
    assert found[:sound] == list(map(str, range(sound)))
    assert len(found) == 2000 if harm == "tail" else 100 < len(found) < 2000
    os.utime(path, (0, 0))
    taken.take(path, taken.write("b.ndjson", dlr()))
    told = "its gzip is damaged or cut short"
    assert [told in p for p in taken.problems] == [True] * (harm != "tail")


def test_members_of_gzip(taken: Taken) -> None:
    """A file that was appended to as gzip is read whole."""
    path = taken.folder / "a.ndjson.gz"
    path.write_bytes(gzip.compress(dlr().encode() + b"\n") + gzip.compress(dlr().encode()))
    assert taken.take(path)[0].receipts == 2


def test_duplicates(taken: Taken) -> None:
    """The same line twice is two receipts: that it came again is a fact."""
    taken.one("a.ndjson", f"{dlr()}\n{dlr()}\n")
    assert [r["line"] for r in taken.receipts()] == [1, 2]


@pytest.mark.parametrize("name", ["a.ndjson", "a.csv", "a.csv.gz"])
@pytest.mark.parametrize("block", [5, 64, 700, 4096])
def test_block_borders(
    taken: Taken, name: str, block: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Line numbers are right across the borders of blocks."""
    monkeypatch.setattr(lines, "BLOCK_BYTES", block)
    rows = [dlr(client_ref=f"é{n}") if n % 3 else "" for n in range(2, 32)]
    if "csv" in name:
        rows = [f'0A,delivered,"é{n}"' if n % 3 else "" for n in range(2, 32)]
    head = "messageId,status,client-ref" if "csv" in name else ""
    taken.one(name, "\n".join([head, *rows, ""]))
    found = {row["line"]: row["client_ref"] for row in taken.receipts()}
    assert found == {n: f"é{n}" for n in range(2, 32) if n % 3}


LINE = st.one_of(
    st.binary(max_size=40).map(lambda b: b.replace(b"\n", b"")),
    st.sampled_from([dlr().encode(), b"", b"  ", b'0A,delivered,Acme', b'0A,"delivered",x',
                     b'"0A,delivered,Acme', b'{"messageId":"0A","status":"x"}',
                     b"0A,delivered,a\rb", b'{"messageid":1,"STATUS":[1],"to":{"a":1}}']),
)  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("head", [b"", b"messageId,status,to\n"])
@settings(max_examples=60, deadline=None,
          suppress_health_check=[HealthCheck.function_scoped_fixture])  # fmt: skip
@given(content=st.lists(LINE, max_size=12))
def test_no_line_is_lost(taken: Taken, head: bytes, content: list[bytes]) -> None:
    """Whatever the bytes: lines = receipts + rejects + blank, each with a number of its own."""
    path = taken.folder / ("a.csv" if head else "a.ndjson")
    path.write_bytes(head + b"".join(line + b"\n" for line in content))
    total, seen = 0, []
    form = formats.found_in(path) if content or head else None
    if form and form.name == "parquet":
        return  # no lines
    for work in form.read(taken.con.con, formats.Reading(path)) if form else ():
        block = work(taken.con.con).fields
        total += block.num_rows
        seen += block["line"].to_pylist()
        assert block.schema == fields.SCHEMA
        assert block["blank"].null_count == 0
    if form is None or form.name == "json":  # nothing but spaces; or objects, not lines, count
        packed = any(b"".join(content).startswith(c.magic) for c in lines.COMPRESSIONS)
        assert form or packed or not b"".join(content).strip(lines.SPACES.encode())
        return
    assert total == len(content) + bool(head)
    assert sorted(seen) == list(range(1, total + 1))


@pytest.mark.slow
@settings(max_examples=15, deadline=None,
          suppress_health_check=[HealthCheck.function_scoped_fixture])  # fmt: skip
@given(content=st.lists(LINE, max_size=12))
def test_whatever_the_bytes(taken: Taken, content: list[bytes]) -> None:
    """A capture of any bytes is taken in, and the sums close in the store."""
    path = taken.folder / "a.ndjson"
    path.write_bytes(b"\n".join(content))
    taken.take(path)


# What is new


def test_a_second_ingest_reads_nothing(taken: Taken) -> None:
    """A capture that has not changed is not read again, under another name neither."""
    path = taken.write("a.ndjson", dlr() + "\nnonsense\n")
    taken.take(path)
    before = taken.receipts(), taken.rejects()
    assert taken.take(path) == []
    assert taken.take(path.rename(taken.folder / "b.ndjson")) == []
    assert (taken.receipts(), taken.rejects()) == before


def test_copies(taken: Taken) -> None:
    """Of captures with the same content one is read."""
    files = [taken.write(name, dlr()) for name in ("a.ndjson", "b.ndjson")]
    assert [capture.source for capture in taken.take(*files)] == [str(files[0])]


def test_a_grown_file(taken: Taken) -> None:
    """Of a file that has grown only what is new is read."""
    other = taken.write("b.ndjson", dlr(client_ref="other") + "\nbad\n")
    path = taken.write("a.ndjson", dlr() + "\nbad\n")
    taken.take(path, other)
    path.write_text(dlr() + "\nbad\n" + dlr(client_ref="new") + "\nworse\n")
    [read] = taken.take(path, other, as_of=utc(2026, 2, 2))
    assert (read.source, read.lines) == (str(path), 2)
    assert [r["client_ref"] for r in taken.receipts()] == ["ref", "new", "other"]
    assert [(Path(r["source"]).name, r["line"]) for r in taken.rejects()] == [
        ("a.ndjson", 2), ("a.ndjson", 4), ("b.ndjson", 2),
    ]  # fmt: skip
    assert taken.store.days(REJECTS) == ["2026-02-01", "2026-02-02"]


def test_written_anew(taken: Taken) -> None:
    """A file that was truncated and written anew is another capture; what was read stays."""
    path = taken.write("a.ndjson", dlr() + "\n")
    taken.take(path)
    path.write_text(dlr(message_timestamp="2026-01-09 10:00:00") + "\n")
    taken.take(path)
    assert [(r["source"], r["pushed_at"].day) for r in taken.receipts()] == [
        (str(path), 5), (f"{path}#2", 9),
    ]  # fmt: skip


def test_a_rotated_log(taken: Taken) -> None:
    """A log that was rotated keeps its receipts, though its old name has new content."""
    path = taken.write("hooks.ndjson", dlr(client_ref="old"))
    taken.take(path)
    rotated = path.rename(taken.folder / "hooks.ndjson.1")
    path.write_text(dlr(client_ref="new"))
    taken.take(path, rotated)
    assert sorted(r["client_ref"] for r in taken.receipts()) == ["new", "old"]


@pytest.mark.parametrize("published", [0, 1, 2])
@pytest.mark.parametrize("gone", [True, False])
def test_an_ingest_that_was_stopped(
    taken: Taken, published: int, gone: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run that ended within publication is undone, and done again where the file is there."""
    path = taken.write("a.ndjson", dlr() + "\n")
    taken.take(path)
    with path.open("a") as file:
        file.write(dlr(message_timestamp="2026-01-09 10:00:00") + "\nbad\n")
    publish = Store.publish

    def stop(store: Store, parts: Any) -> None:
        publish(store, list(parts)[:published])
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Store, "publish", stop)
        with pytest.raises(KeyboardInterrupt):
            taken.take(path)
    taken.ledger = taken.store.ledger()
    taken.take(*([] if gone else [path]), as_of=utc(2026, 2, 2))
    assert [r["pushed_at"].day for r in taken.receipts()] == ([5] if gone else [5, 9])
    assert len(taken.rejects()) == (0 if gone else 1)


def test_find(taken: Taken) -> None:
    """Globs name files once and in order, and those that name none are told."""
    a, b = taken.write("a.ndjson", "x"), taken.write("b.csv", "y")
    glob = f"{taken.folder}/*"
    nobody = f"{taken.folder}/*.zip"
    assert ingest.find([glob, str(b), nobody]) == ([a.resolve(), b.resolve()], [nobody])


@pytest.mark.slow
def test_the_invented_world(taken: Taken, world: Generated) -> None:
    """All captures of the tiny world are taken in, and the sums are those of the generator."""
    files, _ = ingest.find([f"{world.folder}/dlr/*"])
    read = taken.take(*files)
    assert sum(c.receipts for c in read) == world.receipts
    assert sum(c.rejects for c in read) == world.rejects
    headers = sum(c.format == "csv" for c in read)
    assert sum(c.blank for c in read) == world.blank + headers


@pytest.mark.parametrize(("text", "milliseconds"), [
    ("1767600000", 1767600000000), ("1767600000.", 1767600000000), ("1767600000.5", 1767600000500),
    ("1767600000.1239999999", 1767600000123), ("99999999999", 99999999999000),
    ("100000000000", 100000000000), ("1767600000123.9999", 1767600000123),
    ("1767600000123999", 1767600000123), ("100000000000000", 100000000000), ("12345678", None),
    ("17676000001239999", None), ("1767600000.1.2", None), ("-1767600000", None),
])  # fmt: skip
def test_epochs(con: Any, text: str, milliseconds: int | None) -> None:
    """Seconds, milliseconds, microseconds, with any fraction; never rounded up."""
    query = f"SELECT epoch_ms({border.instant_or_epoch('v')}) FROM (SELECT '{text}' AS v)"
    assert con.con.execute(query).fetchone() == (milliseconds,)
