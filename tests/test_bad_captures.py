"""Whatever a capture holds ends in rejects or one clear line, and the good lines around it stay."""

from __future__ import annotations

import bz2
import codecs
import csv
import gzip
import io
import json
import lzma
import os
import random
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import duckdb
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from reconcile.receipts import fields, ingest, json_fields, lines, table_fields
from reconcile.store import Store
from tests.capture_styles import SHAPES, STYLES, Reader, callbacks, parquet_bytes, reader, written
from tests.fuzz_captures import SEEDS, read_whole
from tests.test_receipts import Taken, dlr

GOOD = dlr()


@pytest.fixture
def taken(con: Any, tmp_path: Path) -> Taken:
    """An empty store."""
    folder = tmp_path / "logs"
    folder.mkdir()
    return Taken(Store.open(tmp_path / "store", create=True), con, folder)


def between(taken: Taken, *bad: str | bytes) -> dict[int, str]:
    """Reads bad lines, each between good ones that must stay; the reasons by line."""
    found = [GOOD.encode()]
    for line in bad:
        found += [line.encode() if isinstance(line, str) else line, GOOD.encode()]
    capture = taken.one("a.ndjson", b"\n".join(found) + b"\n")
    assert capture.lines == len(found)
    good = {row["line"] for row in taken.receipts()}
    assert set(range(1, len(found) + 1, 2)) <= good
    return taken.reasons()


# Lines


def status(channel: str) -> str:
    """A status of the Messages API."""
    return json.dumps({
        "message_uuid": "aaaaaaaa-bbbb-4ccc-8ddd-0123456789ab", "to": "447700900000",
        "from": "Acme", "channel": channel, "status": "delivered",
        "timestamp": "2026-01-05T10:00:00Z", "destination": {"network_code": "23410"},
    })  # fmt: skip


def around(body: Any, **more: Any) -> str:
    """An envelope."""
    return json.dumps(more | {"body": body})


QUEUE = {"messageId": "queue-1", "status": "sent", "received_at": 1767607201}
POOL = (
    GOOD, dlr(client_ref="a"), dlr(status="REDACTED"), dlr(status=" "), dlr(messageId=1234567890),
    dlr(messageId=["0A"]), dlr(messageId={"a": "0A"}), dlr(messageId=None), dlr(sig="0123"),
    dlr(Authorization="Bearer a.b.c"), dlr(captured_at=None), dlr(**{"a,'b\"]": [1, "NULL"]}),
    GOOD.replace("messageId", "MESSAGE_ID"), GOOD.replace("status", "Status"),
    GOOD[:-1] + ',"message-id":"0B"}', GOOD[:-1] + ',"STATUS":"delivered"}', GOOD[:40], "{}",
    '{"messageId":"0A"}', '{"status":"ok"}', '{"messageId":"0A","text":"Hi","msisdn":"1"}',
    '{"uuid":"a","direction":"inbound","status":"answered"}', status("sms"), status("viber"),
    around(GOOD, **QUEUE), around(json.loads(GOOD), **QUEUE), around("nothing", **QUEUE),
    around("messageId=0C&status=failed", **QUEUE), around(GOOD, time="2026-01-05T10:00:03Z"),
    around(status("sms"), headers={"Authorization": "Bearer a.b.c"}), around(around(GOOD)),
    around([1]),
)  # fmt: skip


def told(read: Reader, *content: str) -> list[Any]:
    """What is read of lines, less their numbers."""
    found = read.read("".join(line + "\n" for line in content).encode(), "a.ndjson")
    return found.drop_columns(["line"]).to_pylist()


def test_neighbours(con: Any, tmp_path: Path) -> None:
    """A line is read alike whatever stands beside it, also where that is entered at once."""
    with reader(con, tmp_path) as read:
        alone = {line: told(read, line) for line in POOL}

        @settings(max_examples=40, deadline=None)
        @given(st.lists(st.sampled_from(POOL), min_size=2, max_size=12))
        @example([GOOD, around(GOOD, **QUEUE)])
        @example(list(POOL))
        def together(chosen: list[str]) -> None:
            assert told(read, *chosen) == [row for line in chosen for row in alone[line]]

        together()


def test_few_of_many(con: Any, tmp_path: Path) -> None:
    """Nor do those that are looked at again get mixed up where most are entered at once."""
    lines = [dlr(client_ref=f"r{n}") for n in range(3_000)]
    for n in (0, 1_499, 2_999):
        lines[n] = around(dlr(client_ref=f"r{n}"), **QUEUE)
    with reader(con, tmp_path) as read:
        found = read.read("".join(line + "\n" for line in lines).encode(), "a.ndjson")
    assert found["client_ref"].to_pylist() == [f"r{n}" for n in range(3_000)]
    assert found["line"].to_pylist() == list(range(1, 3_001))


@given(st.lists(st.text(max_size=6), max_size=4))
def test_lists_as_texts(names: list[str]) -> None:
    """The engine's text of a list of keys becomes the same list: that they are grouped by it loses
    nothing."""
    con = duckdb.connect()
    con.register("given", pa.table({"keys": pa.array([names], pa.list_(pa.string()))}))
    assert con.execute("SELECT keys::VARCHAR::VARCHAR[] FROM given").fetchone() == (names,)


@pytest.mark.parametrize("where", ["line", "field", "envelope", "array"])
@pytest.mark.parametrize("bracket", ["[]", '{"a":}'])
def test_nested_deep(taken: Taken, where: str, bracket: str) -> None:
    """JSON 10,000 deep is a reject, or its receipt is read past it."""
    deep = bracket[:-1] * 10_000 + "1" + bracket[-1] * 10_000
    line = {"line": deep, "field": GOOD[:-1] + f', "x": {deep}}}', "array": f"[{deep}]",
            "envelope": f'{{"body": {deep}}}'}[where]  # fmt: skip
    assert set(between(taken, line)) <= {2}


def test_wrapped_deep(taken: Taken) -> None:
    """Envelopes are unwrapped five levels deep, JSON in JSON too; deeper ones are rejects."""
    text, levels = GOOD, []
    nested: Any = json.loads(GOOD)
    for _ in range(6):
        text, nested = json.dumps({"body": text}), {"data": nested}
        levels.append((text, json.dumps(nested)))
    reasons = between(taken, *(line for pair in levels for line in pair))
    assert set(reasons) == {18, 20, 22, 24}


@pytest.mark.parametrize("raw", [b"\0", b'{"a":"\0"}', b"\0" * 5000, b'\0{"messageId":"0A"}'])
def test_nul(taken: Taken, raw: bytes) -> None:
    """A line with NUL bytes is a reject."""
    assert set(between(taken, raw)) == {2}


def test_surrogates(taken: Taken) -> None:
    """Half of a pair, escaped, spoils its own line at most."""
    bad = [
        dlr(client_ref="X").replace('"X"', rf'"{esc}"') for esc in (r"\ud800", r"\udc00x", r"\u")
    ]
    assert set(between(taken, *bad, '{"messageId": "\\ud800", "status": "x"}')) >= {8}


@pytest.mark.parametrize(
    ("extra", "reason"),
    [
        ('"messageId": "0A0000001234567B"', None), ('"messageId": "0B"', fields.TWICE),
        ('"message_id": "0A0000001234567B"', None), ('"MESSAGE-ID": "0B"', fields.TWICE),
        ('"status": "failed"', fields.TWICE), ('"STATUS": "delivered"', None),
        ('"x": 1, "x": 2', None), ('"to": null', None), ('"TO": ""', fields.TWICE),
    ],
)  # fmt: skip
def test_fields_twice(taken: Taken, extra: str, reason: str | None) -> None:
    """A field that is said twice is a reject if it is said differently."""
    assert between(taken, GOOD[:-1] + f", {extra}}}") == ({2: reason} if reason else {})


@pytest.mark.parametrize("number", ["12", "1E5", "-3", "1.5", "1" * 400, "1" * 5000])
@pytest.mark.parametrize("wrapped", [False, True])
def test_ids_that_are_numbers(taken: Taken, number: str, wrapped: bool) -> None:
    """An id that is a JSON number is a reject with that reason."""
    line = f'{{"messageId": {number}, "status": "delivered"}}'
    reasons = between(taken, f'{{"body": {line}}}' if wrapped else line)
    assert reasons in ({2: fields.NUMBER_ID}, {2: json_fields.NO_JSON})


@pytest.mark.parametrize("value", ["[]", "{}", '["a", "b"]', '{"a": "b"}', "[1]", "[[]]"])
def test_ids_that_are_nested(taken: Taken, value: str) -> None:
    """An id that is a list or an object is a reject with that reason."""
    line = f'{{"messageId": {value}, "status": "delivered"}}'
    assert between(taken, line) == {2: fields.NESTED_ID}


def test_values_of_any_type(taken: Taken) -> None:
    """Numbers, booleans, lists and objects in other fields spoil nothing."""
    odd = [7, 1e300, True, None, [], [1], {}, {"a": 1}, "", "x" * 70_000]
    sure = {"messageId": "0A", "status": "failed"}
    rows = [json.dumps(dict.fromkeys(json.loads(GOOD), value) | sure) for value in odd]
    assert between(taken, *rows) == {}


def test_very_many_keys(taken: Taken) -> None:
    """Lines of many keys, and many different lists of keys, are read."""
    many = json.dumps(json.loads(GOOD) | {f"key {n}": n for n in range(5000)})
    each = [json.dumps(json.loads(GOOD) | {f"k{n}": 1}) for n in range(300)]
    assert between(taken, many, *each) == {}


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be", "utf-8-sig"])
@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("text", [dlr(to="Käse") + "\r\n", "messageId;status;to\r\n0A;x;Käse\r\n"])
def test_encodings(taken: Taken, encoding: str, packed: bool, text: str) -> None:
    """Text behind a byte order mark is read, whatever editor wrote it."""
    mark = {"utf-16-le": codecs.BOM_UTF16_LE, "utf-16-be": codecs.BOM_UTF16_BE}
    data = mark.get(encoding, b"") + text.encode(encoding)
    taken.one("a.gz" if packed else "a", data)
    assert [row["sender"] for row in taken.receipts()] == ["Käse"]


def test_utf_16_that_is_broken(taken: Taken) -> None:
    """UTF-16 that ends in half a character is told, and what is before stays."""
    data = codecs.BOM_UTF16_LE + (GOOD + "\n").encode("utf-16-le") + b"x"
    assert taken.one("a", data).receipts == 1


# Kinds

MESSAGE = {"message_uuid": "u", "to": "1", "from": "2", "timestamp": "2026-01-05T10:00:00Z"}
INBOUND = {
    "msisdn": "1",
    "to": "2",
    "messageId": "0A",
    "text": "hi",
    "type": "text",
    "keyword": "HI",
}
STRANGERS: list[tuple[str, Any]] = [
    ("inbound_sms", INBOUND), ("inbound_sms", {"query": INBOUND}),
    ("inbound_sms", {"body": urlencode(INBOUND)}),
    ("inbound_message", MESSAGE | {"channel": "sms", "message_type": "text", "text": "hi"}),
    ("other_channel", MESSAGE | {"channel": "whatsapp", "status": "read"}),
    ("other_channel", {"body": json.dumps(MESSAGE | {"channel": "mms", "status": "read"})}),
    ("voice_event", {"uuid": "a", "conversation_uuid": "CON-1", "status": "ringing",
                     "direction": "outbound", "from": "1", "to": "2"}),
    ("verify_event", {"request_id": "r", "status": "completed", "type": "event", "channel": "sms",
                      "triggered_at": "2026-01-05T10:00:00Z"}),
    ("health_check", {"status": "ok"}), ("other", {"hello": "world"}),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "payload"), STRANGERS)
def test_strangers(taken: Taken, kind: str, payload: Any) -> None:
    """What is no receipt says what it is, and is no error."""
    assert set(between(taken, json.dumps(payload))) == {2}
    assert [row["kind"] for row in taken.rejects()] == [f"not_a_receipt:{kind}"]


@pytest.mark.parametrize(
    ("kind", "asked"),
    [
        ("inbound_sms", "GET /in?" + urlencode(INBOUND)), ("health_check", "GET /health"),
        ("health_check", "HEAD /"), ("other_request", "GET /favicon.ico"),
        ("post_without_body", "POST /dlr"), ("other_request", "GET /wp-login.php?a=b"),
    ],
)  # fmt: skip
def test_strangers_in_a_log(taken: Taken, kind: str, asked: str) -> None:
    """Likewise in an access log."""
    log = '1.2.3.4 - - [05/Jan/2026:10:00:00 +0000] "{} HTTP/1.1" 200 0 "-" "-"\n'
    good = log.format("GET /dlr?messageId=0A&status=delivered")
    assert taken.one("a.log", good + log.format(asked) + good).receipts == 2
    assert [row["kind"] for row in taken.rejects()] == [f"not_a_receipt:{kind}"]


# Tables


def test_csv(taken: Taken) -> None:
    """A line end within quotes, a wrong width and odd quotes spoil their own lines."""
    out = io.StringIO()
    rows = [["messageId", "status", "to"], ["0A", "failed", "x"], ["0B", "failed", "two\nlines"],
            ["0C", "failed"], ["0D", "failed", "x", "y"],
            ["0E", "failed", 'say "hi", Ltd']]  # fmt: skip
    csv.writer(out, lineterminator="\n").writerows(rows)
    taken.one("a.csv", out.getvalue())
    assert [row["message_id"] for row in taken.receipts()] == ["0A", "0E"]
    bad, wide = table_fields.BAD_QUOTES, table_fields.WRONG_WIDTH
    assert taken.reasons() == {3: bad, 4: taken.reasons()[4], 5: wide, 6: wide}


@pytest.mark.parametrize(
    ("header", "row", "reasons"),
    [
        ("messageId,status,status", "0A,failed,failed", []),
        ("messageId,status,status", "0A,failed,delivered", [fields.TWICE]),
        ("messageId,message_id,status", "0A,0B,failed", [fields.TWICE]),
        ("messageId,status,,", "0A,failed,,", []),
        ("messageId,status," + ",".join(f"c{n}" for n in range(2000)), "0A,x," + "," * 1999, []),
    ],
)  # fmt: skip
def test_columns_twice(taken: Taken, header: str, row: str, reasons: list[str]) -> None:
    """Columns of one name, of two spellings, of no name, and very many."""
    taken.one("a.csv", f"{header}\n{row}\n")
    assert list(taken.reasons().values()) == reasons


PARQUET = pa.table({"messageId": ["0A"], "status": ["failed"]})
TABLES: dict[str, tuple[pa.Table, int, list[str]]] = {
    "empty": (PARQUET.slice(0, 0), 0, []),
    "a number as id": (pa.table({"messageId": [7], "status": ["x"]}), 0, [fields.NUMBER_ID]),
    "a struct as id": (
        pa.table({"messageId": [{"a": "b"}], "status": ["x"]}), 0, [fields.NESTED_ID]),
    "a struct of no meaning": (PARQUET.append_column("x", pa.array([{"a": [1]}])), 1, []),
    "a payload as struct": (pa.table({"at": ["x"], "body": [json.loads(GOOD)]}), 1, []),
    "bytes": (pa.table({"messageId": [b"0A"], "status": [b"failed"]}), 1, []),
    "bytes that are no text": (
        pa.table({"messageId": [b"\xff"], "status": ["x"]}), 0, [fields.NO_ID]),
    "nulls": (pa.table({"messageId": pa.nulls(1), "status": pa.nulls(1)}), 0, [fields.NO_ID]),
}  # fmt: skip


@pytest.mark.parametrize("name", TABLES)
def test_parquet(taken: Taken, name: str) -> None:
    """Parquet of odd types is read as text, or is rejects."""
    table, receipts, reasons = TABLES[name]
    found = taken.take(taken.write("a.parquet", parquet_bytes(table)))
    assert taken.problems == []
    assert sum(c.receipts for c in found) == receipts
    assert list(taken.reasons().values()) == reasons


@pytest.mark.parametrize("cut", [4, 40, -9, -1])
def test_parquet_that_is_cut(taken: Taken, cut: int) -> None:
    """Parquet that is cut is one clear line, and the capture beside it is read."""
    bad = taken.write("a.parquet", parquet_bytes(PARQUET)[:cut])
    good = taken.write("b.ndjson", GOOD + "\n")
    taken.take(bad, good)
    assert len(taken.receipts()) == 1
    [problem] = taken.problems
    assert "a.parquet cannot be read" in problem
    assert "\n" not in problem


# Objects


BREAKS: dict[str, Callable[[bytes, int], bytes]] = {
    "no closing quote": lambda data, at: data[:at] + data[at:].replace(b'",', b",", 1),
    "no opening quote": lambda data, at: data[:at] + data[at:].replace(b': "', b": ", 1),
    "no closing brace": lambda data, at: data[:at] + data[at:].replace(b"}", b"", 1),
    "no opening brace": lambda data, at: data[:at] + data[at:].replace(b"{", b"", 1),
    "a half": lambda data, at: data[:at] + b"\n" + data[data.index(b"{", at) :],
    "nonsense": lambda data, at: data[:at] + data[at:].replace(b"}", b'}\n!"{x\n', 1),
}


@pytest.mark.slow
@pytest.mark.parametrize("harm", BREAKS)
@pytest.mark.parametrize("count", [30, 5000])
@pytest.mark.parametrize("shape", SHAPES[1:6], ids=lambda shape: shape.name)
def test_broken_objects(con: Any, tmp_path: Path, harm: str, count: int, shape: Any) -> None:
    """A broken object spoils itself and hardly its neighbour, not what stands behind it."""
    data = written(shape, callbacks(count), STYLES["vonage"])
    bad = BREAKS[harm](data.replace(b':"', b': "'), data.index(b"00000000000", len(data) // 3))
    with reader(con, tmp_path) as read:
        found = read.read(bad)
        read.read(bad)
    receipts = found["kind"].null_count
    assert receipts >= count - 3
    assert receipts < count or harm in ("nonsense", "no opening brace")


# Files

PACK: dict[str, Callable[[bytes], bytes]] = {
    "a.gz": gzip.compress, "a.bz2": bz2.compress, "a.xz": lzma.compress,
    "a.zst": lambda data: bytes(lines._zstd().compress(data)), "a": bytes,
}  # fmt: skip


@pytest.mark.parametrize("name", PACK)
def test_random_bytes(taken: Taken, name: str) -> None:
    """Bytes at random are one clear line, packed or not; behind a good line they are rejects."""
    noise = random.Random(name).randbytes(50_000)
    other = taken.write("b.ndjson", dlr(to="other") + "\n")
    path = taken.folder / name
    path.write_bytes(PACK[name](noise))
    taken.take(path, other)
    assert len(taken.problems) == 1
    assert len(taken.receipts()) == 1
    path.write_bytes(
        PACK[name](GOOD.encode() + b"\n" + noise + b"\n" + dlr(to="B").encode() + b"\n")
    )
    capture = taken.take(path)[0]
    assert (capture.receipts, capture.lines - capture.blank) == (2, capture.rejects + 2)


@pytest.mark.parametrize("kind", ["folder", "broken link", "loop", "fifo", "gone"])
def test_odd_files(taken: Taken, kind: str) -> None:
    """What is no file is not opened, and the captures beside it are read."""
    odd = taken.folder / "odd"
    {"folder": odd.mkdir, "broken link": lambda: odd.symlink_to("nowhere"),
     "loop": lambda: odd.symlink_to("odd"), "fifo": lambda: os.mkfifo(odd),
     "gone": lambda: None}[kind]()  # fmt: skip
    taken.write("b.ndjson", GOOD + "\n")
    files, nothing = ingest.find([str(taken.folder), str(taken.folder / "*.ndjson"), str(odd)])
    assert [file.name for file in files] == ["b.ndjson"]
    assert nothing == [str(odd)]
    taken.take(*files)
    assert len(taken.receipts()) == 1


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads every file")
def test_unreadable(taken: Taken) -> None:
    """A file that nobody may read is one clear line."""
    path = taken.write("a.ndjson", GOOD + "\n")
    path.chmod(0)
    taken.take(path, taken.write("b.ndjson", GOOD + "\n"))
    told = "Permission denied: give the job's user the right to it"
    assert taken.problems == [f"the capture {path} cannot be read: {told}"]


MEASURED = """
import sys
from pathlib import Path
from reconcile import engine
from tests.capture_styles import reader
con = engine.connect("300MB", 1, Path(sys.argv[1]) / "spill")
with reader(con, Path(sys.argv[1])) as read:
    found = read.lines_of(Path(sys.argv[2]))
capture = read.captures[-1]
peak = next(x for x in open("/proc/self/status") if x.startswith("VmHWM")).split()[1]
print(capture.receipts, capture.rejects, capture.blank, int(peak) // 1024)
"""


def measured(path: Path) -> list[int]:
    """Receipts, rejects, blank lines and the peak of memory in MiB, of a process of its own."""
    command = [sys.executable, "-c", MEASURED, str(path.parent), str(path)]
    root = Path(__file__).parent.parent
    ended = subprocess.run(command, capture_output=True, text=True, timeout=300, cwd=root)
    assert (ended.returncode, ended.stderr) == (0, "")
    return [int(word) for word in ended.stdout.split()]


@pytest.mark.slow
@pytest.mark.parametrize("form", ["ndjson", "json", "csv"])
def test_a_huge_line(tmp_path: Path, form: str) -> None:
    """A line of 2 GB is passed over in bounded memory; those around it are read."""
    path = tmp_path / "a"
    row = "0A,failed" if form == "csv" else GOOD
    huge = 2 << 30 if form == "ndjson" else 1 << 29
    start = {"ndjson": row + "\n", "json": f"[\n{row},\n", "csv": f"messageId,status\n{row}\n"}[
        form
    ]
    with path.open("wb") as file:
        file.write(start.encode() + b'{"a": "')
        file.seek(huge, os.SEEK_CUR)  # zeros that take no disk
        file.write(b'"},\n' + row.encode() + b"\n" + (b"]\n" if form == "json" else b""))
    receipts, _rejects, _blank, peak = measured(path)
    assert receipts == 2
    assert peak < 600


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "content"),
    [("a.gz", b"\0"), ("a.bz2", b"\0"), ("a.xz", b"\0"), ("a.zst", b"\0"), ("a.gz", b"\n")],
)
def test_bombs(tmp_path: Path, name: str, content: bytes) -> None:
    """A file that unpacks to very much is read in bounded memory, up to a bound or to its end."""
    packers: dict[str, Any] = {
        "a.gz": gzip.GzipFile, "a.bz2": bz2.BZ2File, "a.xz": lzma.LZMAFile,
        "a.zst": lines._zstd().ZstdFile,
    }  # fmt: skip
    with packers[name](tmp_path / name, "wb") as file:
        file.write(dlr().encode() + b"\n")
        for _ in range(24):
            file.write(content * (1 << 20))
    receipts, _rejects, blank, peak = measured(tmp_path / name)
    assert (receipts, blank) == (1, 24 << 20 if content == b"\n" else 0)
    assert peak < 900


# Conservation

BEGIN = {
    "ndjson": b"", "access_log": b"", "form": b"", "csv": b"messageId,status,to\n",
}  # fmt: skip
QUERY = b"messageId=0A&status=failed&to=x"
LINE = {
    "ndjson": dlr().encode(), "form": QUERY, "csv": b"0A,failed,x",
    "access_log": b'1.2.3.4 - - [05/Jan/2026:10:00:00 +0000] "GET /?' + QUERY + b' HTTP/1.1" 204 0',
}  # fmt: skip
BAD = st.one_of(
    st.binary(max_size=60).map(lambda b: b.replace(b"\n", b"")),
    st.text(max_size=30).map(lambda t: t.encode("utf-8", "replace").replace(b"\n", b"")),
    st.sampled_from([b"", b" \t", b"\r", b'"', b"{", b"}", b"[", b",,", b"=&=", b"%",
                     b"\xef\xbb\xbf", b'"0A,failed,x', b'{"messageId":{},"status":[]}',
                     b'{"body":"{\\"a\\":"}',
                     b'{"body":"messageId=0A&status=x"}', b"messageId=%ff&status", *LINE.values()]),
)  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("form", BEGIN)
@settings(max_examples=80, deadline=None,
          suppress_health_check=[HealthCheck.function_scoped_fixture])  # fmt: skip
@given(st.lists(st.one_of(BAD, st.none()), max_size=15))
def test_conservation(con: Any, tmp_path: Path, form: str, content: list[bytes | None]) -> None:
    """Lines in = receipts + rejects + blank, and each good line is a receipt."""
    own = LINE[form]
    content = [None] * 11 + content  # the most lines tell a format
    data = BEGIN[form] + b"".join((own if x is None else x) + b"\n" for x in content)
    with reader(con, tmp_path) as read:
        found = read.read(data)
        capture = read.captures[-1]
    assert capture.format == form
    assert capture.lines == data.count(b"\n")
    assert len(found) == capture.lines - capture.blank
    first = 1 + BEGIN[form].count(b"\n")
    good = {n for n, x in enumerate(content, first) if x is None or x == own}
    told = zip(found["line"].to_pylist(), found["reason"].to_pylist(), strict=True)
    assert good <= {line for line, reason in told if reason is None}


@pytest.mark.parametrize("form", ["ndjson", "access_log", "form", "csv"])
@pytest.mark.parametrize(
    "first", [b"{", b"{}", b"garbage", b'1.2.3.4 - - [x] "GET / HTTP/1.1"', b"a=b"]
)
def test_a_strange_first_line(con: Any, tmp_path: Path, form: str, first: bytes) -> None:
    """A strange line at the beginning does not decide what a capture is (a header does)."""
    own = (LINE[form] + b"\n") * 3
    data = BEGIN[form] + first + b"\n" + own if form == "csv" else first + b"\n" + own
    with reader(con, tmp_path) as read:
        assert read.read(data)["kind"].null_count == 3
        assert read.captures[-1].format == form or (form, first) == ("ndjson", b"{")


@pytest.mark.parametrize("seed", sorted(SEEDS.glob("*")), ids=lambda path: path.name)
def test_seeds(con: Any, tmp_path: Path, seed: Path) -> None:
    """What once broke a reader does so no more."""
    with reader(con, tmp_path) as read:
        read_whole(read, seed.read_bytes())
