"""The same receipts in every shape that captures have: formats × field styles × compressions.

`python -m tests.capture_styles` writes 10,000 receipts in each, reads them, and prints which came
out equal, field by field, to those of the plainest: NDJSON with Vonage's own names.
"""

from __future__ import annotations

import bz2
import csv
import gzip
import io
import json
import lzma
import os
import random
import re
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from reconcile import engine
from reconcile.receipts.identity import Place
from reconcile.receipts.intake import PARTS, Capture, Intake, Wishes
from reconcile.receipts.lines import Mark, _zstd
from reconcile.tables import RECEIPTS

START = datetime(2026, 1, 5, 10, 0, 0, tzinfo=UTC)
# What every format and compression must carry unharmed.
TEXTS = (
    "Acme", "Acme, Ltd", 'say "hi"', "a;b|c", "Käse & Brot=1+1", "100%", "%41", "\\u0041", "'",
    "null", "-", "007", "1E5", "{}", "[x]", "messageId=0A&status=failed", "#5?", "日本 \U0001f600",
)  # fmt: skip
OPTIONAL = ("network-code", "scts", "client-ref", "err-code")
PARAMETERS = ("msisdn", "to", *OPTIONAL, "messageId", "price", "status", "api-key",
              "message-timestamp")  # fmt: skip


@dataclass(frozen=True)
class Callback:
    """One callback as Vonage sent it: its fields in order, and when it came in."""

    fields: dict[str, Any]
    at: datetime


def callbacks(count: int, seed: int = 4) -> list[Callback]:
    """DLRs; any four fields may be missing, and times are written in three forms."""
    rng = random.Random(seed)
    return [_dlr(rng, n) for n in range(count)]


def _dlr(rng: random.Random, n: int) -> Callback:
    pushed = START + timedelta(milliseconds=rng.randrange(86_400_000))
    fields = {
        "msisdn": f"4477009{rng.randrange(100_000):05}",
        "to": rng.choice(TEXTS),
        "network-code": rng.choice(("23410", "310004", "00101")),
        "messageId": rng.choice((f"{rng.getrandbits(64):016X}", f"{n:016}", f"0E{n:014}")),
        "price": f"{rng.randrange(10**8) / 10**8:.8f}",
        "status": rng.choice(("delivered", "failed", "accepted", "Buffered")),
        "scts": f"{pushed:%y%m%d%H%M}",
        "err-code": str(rng.choice((0, 1, 7, 99))),
        "api-key": "5a4d0b0e",
        "client-ref": rng.choice((*TEXTS, str(n))),
        "message-timestamp": _three_forms(pushed, n),
    }
    for bit, name in enumerate(OPTIONAL):
        if n >> bit & 1:
            del fields[name]
    return Callback(fields, pushed + timedelta(milliseconds=rng.randrange(3000)))


def _three_forms(moment: datetime, n: int) -> str:
    forms = ("%Y-%m-%d %H:%M:%S", "%Y-%m-%d %H:%M:%S +0000", "%Y-%m-%dT%H:%M:%S.000+00:00")
    return f"{moment:{forms[n // 16 % 3]}}"


def statuses(count: int, seed: int = 5) -> list[Callback]:
    """Statuses of the Messages API."""
    rng = random.Random(seed)
    return [_status(rng, n) for n in range(count)]


def _status(rng: random.Random, n: int) -> Callback:
    pushed = START + timedelta(milliseconds=rng.randrange(86_400_000))
    fields: dict[str, Any] = {
        "message_uuid": f"aaaaaaaa-bbbb-4ccc-8ddd-{n:012x}",
        "to": f"4477009{rng.randrange(100_000):05}",
        "from": rng.choice(TEXTS),
        "timestamp": f"{pushed:%Y-%m-%dT%H:%M:%S}.{pushed.microsecond // 1000:03}Z",
        "status": rng.choice(("submitted", "delivered", "rejected", "undeliverable")),
        "channel": "sms",
    }
    if n % 2:
        fields["client_ref"] = rng.choice(TEXTS)
    if n % 3:
        fields["usage"] = {"currency": "EUR", "price": f"0.{rng.randrange(10**4):04}"}
    if n % 5:
        fields["destination"] = {"network_code": "23410"}
    if n % 7 == 0:
        title = 1000 + n % 400
        fields["error"] = {
            "type": f"https://developer.nexmo.com/api-errors/messages-olympus#{title}",
            "title": title if n % 2 else str(title), "detail": 'a "detail"', "instance": "x",
        }  # fmt: skip
    if n % 11 == 0:
        fields["sms"] = {"count_total": "3"}
        fields["workflow"] = {"id": "w", "item_number": "2", "total_items": "3"}
    return Callback(fields, pushed + timedelta(milliseconds=rng.randrange(3000)))


def mixed(count: int) -> list[Callback]:
    """DLRs and statuses in turn."""
    pairs = zip(callbacks(count // 2), statuses(count // 2), strict=True)
    return [callback for pair in pairs for callback in pair]


# Field styles

Spell = Callable[[str, int], str]


def _words(name: str) -> list[str]:
    return re.sub("([A-Z])", r"-\1", name).lower().replace("_", "-").split("-")


def _camel(name: str) -> str:
    first, *rest = _words(name)
    return first + "".join(word.title() for word in rest)


_ONE_STYLE: dict[str, Callable[[str], str]] = {
    "vonage": lambda name: name,
    "hyphen": lambda name: "-".join(_words(name)),
    "camel": _camel,
    "underscore": lambda name: "_".join(_words(name)),
    "UPPER": lambda name: "_".join(_words(name)).upper(),
}


def _mixed_style(name: str, n: int) -> str:
    return list(_ONE_STYLE.values())[n % len(_ONE_STYLE)](name)


def _same_for_all(style: Callable[[str], str]) -> Spell:
    return lambda name, _n: style(name)


# How a field is called in the n-th receipt, or, in tables, in the n-th column.
STYLES: dict[str, Spell] = {
    **{name: _same_for_all(style) for name, style in _ONE_STYLE.items()}, "mixed": _mixed_style,
}  # fmt: skip


# Formats

Write = Callable[[list[Callback], Spell], Iterable[str] | bytes]


def iso(moment: datetime) -> str:
    return f"{moment:%Y-%m-%dT%H:%M:%S}.{moment.microsecond // 1000:03}Z"


def local(moment: datetime, hours: int = 0) -> str:
    """A web server's `time_local`, in a zone so many hours off UTC."""
    return f"{moment.astimezone(timezone(timedelta(hours=hours))):%d/%b/%Y:%H:%M:%S %z}"


def seconds(moment: datetime) -> float:
    return round(moment.timestamp() * 1000) // 1 / 1000


def dump(value: Any, **options: Any) -> str:
    return json.dumps(value, ensure_ascii=False, **options)


def named(callback: Callback, spell: Spell, n: int) -> dict[str, Any]:
    return {spell(name, n): value for name, value in callback.fields.items()}


def query(callback: Callback, spell: Spell, n: int) -> str:
    """As Vonage encodes it (`+`), as others do (`%20`), and with escapes in lower case."""
    text = urlencode(named(callback, spell, n), quote_via=quote) if n % 3 == 1 else urlencode(
        named(callback, spell, n))  # fmt: skip
    return re.sub("%..", lambda m: m[0].lower(), text) if n % 3 == 2 else text


def _flat(callbacks: list[Callback], spell: Spell) -> list[dict[str, Any]]:
    return [named(c, spell, n) | {"captured_at": iso(c.at)} for n, c in enumerate(callbacks)]


def _lines(shape: Callable[[dict[str, Any], str, Callback], Any]) -> Write:
    """A line a callback, of its fields and its query."""

    def write(callbacks: list[Callback], spell: Spell) -> Iterator[str]:
        for n, c in enumerate(callbacks):
            line = shape(named(c, spell, n), query(c, spell, n), c)
            yield line if isinstance(line, str) else dump(line)

    return write


def _ndjson(callbacks: list[Callback], spell: Spell) -> list[str]:
    return [dump(line) for line in _flat(callbacks, spell)]


def _array(callbacks: list[Callback], spell: Spell, **options: Any) -> bytes:
    return dump(_flat(callbacks, spell), **options).encode()


def _array_by_line(callbacks: list[Callback], spell: Spell) -> bytes:
    return ("[\n" + ",\n".join(_ndjson(callbacks, spell)) + "\n]\n").encode()


def _pretty(callbacks: list[Callback], spell: Spell) -> list[str]:
    return [dump(line, indent=2) for line in _flat(callbacks, spell)]


def _glued(callbacks: list[Callback], spell: Spell) -> bytes:
    return "".join(_ndjson(callbacks, spell)).encode()


def columns(callbacks: list[Callback], spell: Spell) -> dict[str, list[Any]]:
    """Callbacks as columns, whatever fields any of them has; nested ones by their path."""
    flat = [_unnested(c.fields) | {"captured_at": iso(c.at)} for c in callbacks]
    names = list(dict.fromkeys(name for row in flat for name in row))
    return {spell(name, n): [row.get(name) for row in flat] for n, name in enumerate(names)}


def _unnested(fields: dict[str, Any], before: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in fields.items():
        inner = isinstance(value, dict)
        found |= _unnested(value, f"{before}{name}.") if inner else {before + name: value}
    return found


def _table(delimiter: str, quoting: int = csv.QUOTE_MINIMAL) -> Write:
    def write(callbacks: list[Callback], spell: Spell) -> bytes:
        found = columns(callbacks, spell)
        text = io.StringIO(newline="")
        writer = csv.writer(text, delimiter=delimiter, quoting=quoting)
        writer.writerow(found)
        writer.writerows(zip(*found.values(), strict=True))
        return text.getvalue().encode()

    return write


def _csv_of_payloads(callbacks: list[Callback], spell: Spell) -> bytes:
    """A table of payloads, as a query of a log or a database is exported."""
    text = io.StringIO(newline="")
    writer = csv.writer(text)
    writer.writerow(["id", "created_at", "payload"])
    writer.writerows([n, iso(c.at), dump(named(c, spell, n))] for n, c in enumerate(callbacks))
    return text.getvalue().encode()


def _parquet(callbacks: list[Callback], spell: Spell, codec: str = "NONE") -> bytes:
    texts = {
        name: pa.array([None if v is None else str(v) for v in values], pa.string())
        for name, values in columns(callbacks, spell).items()
    }
    return parquet_bytes(pa.table(texts), codec)


def _typed_parquet(callbacks: list[Callback], spell: Spell, codec: str = "NONE") -> bytes:
    """Times, money and whole numbers as what they are."""
    found = columns(callbacks, lambda name, _n: name)
    pushed = [datetime.fromisoformat(_iso_form(v)) for v in found["message-timestamp"]]
    captured = [datetime.fromisoformat(v) for v in found["captured_at"]]
    codes = [None if v is None else int(v) for v in found["err-code"]]
    typed = {
        "message-timestamp": pa.array(pushed, pa.timestamp("us", "UTC")),
        "captured_at": pa.array([c.replace(tzinfo=None) for c in captured], pa.timestamp("ms")),
        "price": pa.array([Decimal(v) for v in found["price"]], pa.decimal128(18, 8)),
        "err-code": pa.array(codes, pa.int32()),
    }
    table = {n: typed[n] if n in typed else pa.array(v, pa.string()) for n, v in found.items()}
    return parquet_bytes(
        pa.table({spell(name, n): v for n, (name, v) in enumerate(table.items())}), codec
    )


def _iso_form(text: str) -> str:
    return text.replace(" +0000", "+00:00") if "+" in text else text + "+00:00"


def parquet_bytes(table: pa.Table, codec: str = "NONE") -> bytes:
    out = io.BytesIO()
    pq.write_table(table, out, compression=codec)
    return out.getvalue()


AGENT = '"-" "Vonage/MessagingHUB/v1.0"'
IP = "169.63.86.165"
JSON_TYPE = {"Content-Type": "application/json"}


def _http_api(_fields: dict[str, Any], query: str, c: Callback) -> dict[str, Any]:
    """AWS API Gateway, payload version 2.0, a GET."""
    return {
        "version": "2.0", "routeKey": "$default", "rawPath": "/dlr", "rawQueryString": query,
        "headers": {"host": "x"}, "isBase64Encoded": False, "requestContext": {
            "http": {"method": "GET", "path": "/dlr", "sourceIp": IP}, "requestId": "r",
            "time": local(c.at), "timeEpoch": round(c.at.timestamp() * 1000)},
    }  # fmt: skip


def _rest_api(fields: dict[str, Any], _query: str, c: Callback) -> dict[str, Any]:
    """AWS API Gateway, payload version 1.0, a GET."""
    return {
        "resource": "/dlr", "path": "/dlr", "httpMethod": "GET", "headers": {"Host": "x"},
        "queryStringParameters": fields,
        "multiValueQueryStringParameters": {name: [value] for name, value in fields.items()},
        "requestContext": {"requestTimeEpoch": 1, "timeEpoch": round(c.at.timestamp() * 1000)},
        "body": None, "isBase64Encoded": False,
    }  # fmt: skip


def _lambda_post(fields: dict[str, Any], _query: str, c: Callback) -> dict[str, Any]:
    return {
        "version": "2.0", "rawPath": "/dlr", "rawQueryString": "", "headers": JSON_TYPE,
        "requestContext": {"http": {"method": "POST"},
                           "timeEpoch": round(c.at.timestamp() * 1000)},
        "body": dump(fields), "isBase64Encoded": False,
    }  # fmt: skip


def _caddy(_fields: dict[str, Any], query: str, c: Callback) -> dict[str, Any]:
    return {
        "level": "info", "ts": seconds(c.at), "logger": "http.log.access.log0",
        "msg": "handled request", "request": {
            "remote_ip": IP, "method": "GET", "host": "x", "uri": f"/dlr?{query}",
            "headers": {"User-Agent": ["Vonage"]}}, "status": 204, "size": 0,
    }  # fmt: skip


def _nginx_json(fields: dict[str, Any], query: str, c: Callback) -> dict[str, Any]:
    """What the README shows; every other callback is a POST."""
    post = c.at.microsecond // 1000 % 2
    return {
        "captured_at": c.at.strftime("%Y-%m-%dT%H:%M:%S+00:00"), "msec": f"{seconds(c.at):.3f}",
        "args": "" if post else query, "method": "POST" if post else "GET",
        "body": dump(fields) if post else "", "authorization": "",
    }  # fmt: skip


def _request_line(_fields: dict[str, Any], query: str, c: Callback) -> dict[str, Any]:
    return {"time_local": local(c.at, 2), "remote_addr": IP, "status": "204",
            "request": f"GET /dlr?{query} HTTP/1.1", "http_user_agent": "Vonage"}  # fmt: skip


def _combined(query: str, at: str) -> str:
    return f'{IP} - - [{at}] "GET /webhooks/dlr?{query} HTTP/1.1" 204 0 {AGENT}'


def _docker(line: str, c: Callback) -> dict[str, Any]:
    return {"log": line + "\n", "stream": "stdout", "time": iso(c.at)[:-1] + "123456Z"}


def _envelope(name: str, at: str = "received_at", *, text: bool = False) -> Write:
    return _lines(lambda f, _q, c: {at: iso(c.at), name: dump(f) if text else f, "id": "x"})


def _form_envelope(name: str) -> Write:
    return _lines(lambda _f, q, c: {"received_at": iso(c.at), "method": "POST", name: q})


@dataclass(frozen=True)
class Shape:
    """A format of captures.

    Attributes:
        name: what to call it.
        write: makes a capture of callbacks.
        found: the name of the format that the reader finds.
        time: how fine it carries the time of capture: "ms", "s", or "" for not at all.
        nested: whether statuses of the Messages API can be written in it, with all they say.
        codecs: it has a compression of its own.
    """

    name: str
    write: Callable[..., Iterable[str] | bytes]
    found: str
    time: str = "ms"
    nested: bool = True
    codecs: bool = False


SHAPES = (
    Shape("ndjson", _ndjson, "ndjson"),
    Shape("json array, minified", lambda c, s: _array(c, s, separators=(",", ":")), "json"),
    Shape("json array, one a line", _array_by_line, "json"),
    Shape("json array, pretty", lambda c, s: _array(c, s, indent=2), "json"),
    Shape("json objects, pretty", _pretty, "json"),
    Shape("json objects, glued", _glued, "json"),
    Shape("csv", _table(","), "csv"),
    Shape("csv, all quoted", _table(",", csv.QUOTE_ALL), "csv"),
    Shape("tsv", _table("\t"), "csv"),
    Shape("csv, semicolons", _table(";"), "csv"),
    Shape("csv, bars", _table("|"), "csv"),
    Shape("parquet, text", _parquet, "parquet", codecs=True),
    Shape("parquet, typed", _typed_parquet, "parquet", nested=False, codecs=True),
    Shape("nginx combined", _lines(lambda _f, q, c: _combined(q, local(c.at))),
          "access_log", "s", nested=False),
    Shape("Apache combined", _lines(lambda _f, q, c: _combined(q, local(c.at, 1))),
          "access_log", "s", nested=False),
    Shape("Apache vhost_combined",
          _lines(lambda _f, q, c: "www.example.com:443 " + _combined(q, local(c.at, -5))),
          "access_log", "s", nested=False),
    Shape("JSON log, nginx (README)", _lines(_nginx_json), "ndjson", nested=False),
    Shape("JSON log, Caddy", _lines(_caddy), "ndjson", nested=False),
    Shape("JSON log, request line", _lines(_request_line), "ndjson", "s", nested=False),
    Shape("form bodies", _lines(lambda _f, q, _c: q), "form", "", nested=False),
    Shape("query strings", _lines(lambda _f, q, _c: f"?{q}"), "form", "", nested=False),
    Shape("URLs", _lines(lambda _f, q, _c: f"https://x.example/dlr?{q}"), "form", "",
          nested=False),
    Shape("envelope, body: object", _envelope("body"), "ndjson"),
    Shape("envelope, body: JSON text", _envelope("body", text=True), "ndjson"),
    Shape("envelope, body: form", _form_envelope("body"), "ndjson", nested=False),
    Shape("envelope, payload", _envelope("payload", "timestamp"), "ndjson"),
    Shape("envelope, query: object", _envelope("query", "@timestamp"), "ndjson"),
    Shape("envelope, query: text", _form_envelope("query"), "ndjson", nested=False),
    Shape("envelope, message: JSON text", _envelope("message", "@timestamp", text=True), "ndjson"),
    Shape("envelope, data", _envelope("data", "time"), "ndjson"),
    Shape("API gateway 1.0, GET", _lines(_rest_api), "ndjson", nested=False),
    Shape("API gateway 2.0, GET", _lines(_http_api), "ndjson", nested=False),
    Shape("Lambda, POST", _lines(_lambda_post), "ndjson"),
    Shape("csv, payloads", _csv_of_payloads, "csv"),
    Shape("docker, JSON line", _lines(lambda f, _q, c: _docker(dump(f), c)), "ndjson"),
    Shape("docker, access log", _lines(lambda _f, q, c: _docker(_combined(q, local(c.at)), c)),
          "ndjson", nested=False),
)  # fmt: skip


# Compressions

COMPRESS: dict[str, Callable[[bytes], bytes]] = {
    "plain": lambda data: data,
    "gzip": lambda data: gzip.compress(data, 1),
    "zstd": lambda data: bytes(_zstd().compress(data, 1)),
    "bzip2": lambda data: bz2.compress(data, 1),
    "xz": lambda data: lzma.compress(data, preset=0),
}
# What parquet has within instead.
CODECS = {"plain": "NONE", "gzip": "GZIP", "zstd": "ZSTD", "bzip2": "SNAPPY", "xz": "BROTLI"}


def written(shape: Shape, sent: list[Callback], spell: Spell) -> bytes:
    """A capture in this shape."""
    made = shape.write(sent, spell)
    return made if isinstance(made, bytes) else "".join(f"{line}\n" for line in made).encode()


# Reading

TOLD = [name for name in RECEIPTS.names if name not in ("source", "line")]


@dataclass
class Reader:
    """Reads captures as an ingest does, without a store."""

    intake: Intake
    folder: Path
    captures: list[Capture] = field(default_factory=list)

    def read(self, data: bytes, name: str = "capture") -> pa.Table:
        """The lines of a capture that are not blank: receipts' columns, `kind` and `reason`."""
        path = self.folder / name
        path.write_bytes(data)
        os.utime(path, (0, 0))  # nobody has written to it for long: nothing waits
        return self.lines_of(path)

    def lines_of(self, path: Path) -> pa.Table:
        """As `read`, of a file."""
        place = Place(path, str(path), Mark(), {}, "")
        try:
            capture, _reading = self.intake.read(place)
            self.captures.append(capture)
            names = ", ".join((*RECEIPTS.names, "kind", "reason"))
            return self.intake.con.execute(
                f"SELECT {names} FROM {PARTS} WHERE source = ? ORDER BY line", [str(path)]
            ).to_arrow_table()
        finally:
            self.intake.drop(place)


@contextmanager
def reader(con: Any, folder: Path) -> Iterator[Reader]:
    """A reader of captures with an engine of its own."""
    intake = Intake(con, Wishes("keep"), lambda *_: None)
    try:
        yield Reader(intake, folder)
    finally:
        intake.all_read()
        intake.close()


def expected(plain: pa.Table, shape: Shape) -> pa.Table:
    """What a shape must come to, given the receipts of plain NDJSON."""
    at, told = plain.schema.get_field_index("captured_at"), plain["captured_at"]
    if shape.time == "s":
        told = pc.floor_temporal(told, unit="second").cast(told.type)
    if not shape.time:
        told = pa.nulls(len(told), told.type)
    return plain.set_column(at, plain.schema.field(at), told)


def differences(found: pa.Table, wanted: pa.Table) -> str:
    """Where two tables of receipts differ; empty if nowhere."""
    if len(found) != len(wanted):
        return f"{len(found)} lines for {len(wanted)}"
    reasons = sorted(set(found["reason"].to_pylist()) - {None})
    if reasons:
        return f"{len(found) - found['reason'].null_count} rejects: {reasons[0]}"
    for name in TOLD:
        ours, theirs = found[name].combine_chunks(), wanted[name].combine_chunks()
        if not ours.equals(theirs):
            pairs = zip(ours.to_pylist(), theirs.to_pylist(), strict=True)
            odd = [(a, b) for a, b in pairs if a != b]
            return f"{name} differs {len(odd)} times: {odd[0][0]!r} for {odd[0][1]!r}"
    return ""


@dataclass(frozen=True)
class Cell:
    """One field of the table: what came of a shape in a style under a compression."""

    shape: str
    style: str
    compression: str
    difference: str


def cell(
    reader: Reader, sent: list[Callback], plain: pa.Table, shape: Shape, style: str, each: str
) -> Cell:
    """Writes callbacks in one way, reads them, and compares them to those of plain NDJSON."""
    if shape.codecs:
        made = shape.write(sent, STYLES[style], CODECS[each])
        assert isinstance(made, bytes)
    else:
        made = COMPRESS[each](written(shape, sent, STYLES[style]))
    told = differences(reader.read(made), expected(plain, shape))
    if reader.captures[-1].format != shape.found:
        told = f"taken for {reader.captures[-1].format}"
    return Cell(shape.name, style, each, told)


def plain(reader: Reader, sent: list[Callback]) -> pa.Table:
    """The receipts of callbacks in plain NDJSON."""
    return reader.read(written(SHAPES[0], sent, STYLES["vonage"]), "plain.ndjson")


def table(found: list[Cell]) -> list[str]:
    """The table: a line a format, a column a field style, the compressions in which it is equal."""
    styles = list(dict.fromkeys(cell.style for cell in found))
    lines = [f"{'':28} " + " ".join(f"{style:11}" for style in styles)]
    for shape in dict.fromkeys(cell.shape for cell in found):
        row = f"{shape:28} "
        for style in styles:
            own = [c for c in found if (c.shape, c.style) == (shape, style)]
            equal = sum(not c.difference for c in own)
            few = own[0].compression if len(own) == 1 else f"{equal}/{len(own)}"
            row += f"{'equal' if equal == len(own) else 'NOT'} {few}".ljust(12)
        lines.append(row.rstrip())
    for cell in found:
        if cell.difference:
            lines.append(f"  {cell.shape} · {cell.style} · {cell.compression}: {cell.difference}")
    return lines


TRAFFIC: dict[str, Callable[[int], list[Callback]]] = {
    "SMS": callbacks, "Messages": statuses, "both mixed": mixed,
}  # fmt: skip


def shapes_of(traffic: str) -> list[Shape]:
    """The shapes that can carry a kind of traffic."""
    if traffic == "SMS":
        return list(SHAPES)
    return [shape for shape in SHAPES if shape.nested]


def main(count: int) -> int:
    """Prints the table of so many receipts; 1 if anything in it is not equal."""
    began, wrong = time.monotonic(), 0
    with tempfile.TemporaryDirectory() as folder:
        con = engine.connect("2GB", 2, Path(folder, "spill"))
        with reader(con, Path(folder)) as read:
            for traffic, make in TRAFFIC.items():
                shapes, styles = shapes_of(traffic), STYLES if traffic == "SMS" else ["vonage"]
                sent = make(count)
                same = plain(read, sent)
                found = [cell(read, sent, same, shape, style, each)
                         for shape in shapes for style in styles for each in COMPRESS]  # fmt: skip
                wrong += sum(bool(cell.difference) for cell in found)
                print(f"\n{traffic}: {count:,} receipts; in so many of {', '.join(COMPRESS)} equal")
                print(*table(found), sep="\n")
    print(f"\n{wrong} not equal; {time.monotonic() - began:.0f} s")
    return bool(wrong)


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]) if len(sys.argv) > 1 else 10_000))
