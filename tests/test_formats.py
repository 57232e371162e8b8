"""Formats × compressions × field styles: the same receipts, written in each, come out equal.

`python -m tests.test_formats` prints the table for 10,000 receipts.
"""

from __future__ import annotations

import bz2
import gzip
import io
import json
import lzma
import random
import sys
import tempfile
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from reconcile import border, engine
from reconcile.receipts import ingest
from reconcile.receipts.intake import Wishes
from reconcile.settings import Settings
from reconcile.store import Store
from tests.test_receipts import AS_OF

Receipt = dict[str, str]
EQUAL = ("message_id", "account_id", "product", "client_ref", "sender", "recipient",
         "network_code", "status", "error_code", "price", "pushed_at", "scts", "captured_at",
         "signature")  # fmt: skip


def receipts(count: int, seed: int = 1) -> list[Receipt]:
    """DLRs of whole seconds, with what is optional missing now and then."""
    rng = random.Random(seed)
    found = []
    for n in range(count):
        moment = datetime(2026, 1, 5, tzinfo=UTC) + timedelta(seconds=n)
        told = {
            "msisdn": f"4477009{n:05d}", "to": rng.choice(["Acme", "Caf\u00e9 & Co", "a=b"]),
            "network-code": "23410", "messageId": f"{rng.getrandbits(64):016X}",
            "price": rng.choice(["0.03330000", "0.1"]), "scts": f"{moment:%y%m%d%H%M}",
            "status": rng.choice(["delivered", "failed", "accepted"]), "err-code": str(n % 7),
            "api-key": "5a4d0b0e", "client-ref": f'say "{n}", \\ 100 %',
            "message-timestamp": rng.choice([f"{moment:%Y-%m-%d %H:%M:%S}",
                                             f"{moment:%Y-%m-%d %H:%M:%S} +0000",
                                             f"{moment:%Y-%m-%dT%H:%M:%S}.000+00:00"]),
        }  # fmt: skip
        for name in ("network-code", "scts", "client-ref", "err-code"):
            if rng.random() < 0.1:
                del told[name]
        found.append(told | {"captured_at": f"{moment + timedelta(seconds=2):%Y-%m-%dT%H:%M:%SZ}"})
    return found


def camel(name: str) -> str:
    first, *rest = name.replace("-", "_").split("_")
    return first + "".join(word.title() for word in rest)


STYLES: dict[str, Callable[[str], str]] = {
    "as Vonage": lambda name: name,
    "under_score": lambda name: "message_id" if name == "messageId" else name.replace("-", "_"),
    "camelCase": camel,
    "UPPER": lambda name: name.upper().replace("-", "_"),
}


def split(rows: list[Receipt]) -> list[tuple[str, Receipt]]:
    return [(r["captured_at"], {k: v for k, v in r.items() if k != "captured_at"}) for r in rows]


def ndjson(rows: list[dict[str, Any]]) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)


def table(rows: list[Receipt], delimiter: str) -> str:
    import csv

    out = io.StringIO()
    names = list(dict.fromkeys(name for row in rows for name in row))[::-1]
    writer = csv.DictWriter(out, names, delimiter=delimiter, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return out.getvalue()


def log(rows: list[Receipt], before: str = "10.0.0.1") -> str:
    return "".join(
        f'{before} - - [{datetime.fromisoformat(at):%d/%b/%Y:%H:%M:%S} +0000] "GET '
        f'/dlr?{urlencode(row)} HTTP/1.1" 204 0 "-" "Vonage"\n'
        for at, row in split(rows)
    )


def parquet(rows: list[Receipt]) -> bytes:
    names = list(dict.fromkeys(name for row in rows for name in row))
    out = io.BytesIO()
    columns = {name: pa.array([row.get(name) for row in rows]) for name in names}
    pq.write_table(pa.table(columns), out, row_group_size=1000)
    return out.getvalue()


def epoch(at: str) -> float:
    return datetime.fromisoformat(at).timestamp()


FORMATS: dict[str, Callable[[list[Receipt]], str | bytes]] = {
    "ndjson": ndjson,
    "array": json.dumps,
    "array, pretty": lambda rows: json.dumps(rows, indent=2),
    "objects, pretty": lambda rows: "".join(json.dumps(r, indent=1) + "\n" for r in rows),
    "csv": lambda rows: table(rows, ","),
    "csv ;": lambda rows: table(rows, ";"),
    "tsv": lambda rows: table(rows, "\t"),
    "parquet": parquet,
    "access log": log,
    "access log, vhost": lambda rows: log(rows, "dlr.example:443 10.0.0.1"),
    "json access log": lambda rows: ndjson(
        [{"time_iso8601": at, "request": f"GET /dlr?{urlencode(r)} HTTP/1.1", "status": 204}
         for at, r in split(rows)]),
    "caddy": lambda rows: ndjson(
        [{"ts": epoch(at), "request": {"method": "GET", "uri": f"/dlr?{urlencode(r)}"}}
         for at, r in split(rows)]),
    "body object": lambda rows: ndjson([{"received_at": at, "body": r} for at, r in split(rows)]),
    "body text": lambda rows: ndjson(
        [{"received_at": epoch(at) * 1000, "body": json.dumps(r)} for at, r in split(rows)]),
    "body form": lambda rows: ndjson(
        [{"captured_at": at, "args": "", "body": urlencode(r)} for at, r in split(rows)]),
    "query": lambda rows: ndjson([{"timestamp": at, "query": r} for at, r in split(rows)]),
    "payload": lambda rows: ndjson(
        [{"@timestamp": at, "payload": {"data": json.dumps(r)}} for at, r in split(rows)]),
    "gateway": lambda rows: ndjson(
        [{"requestContext": {"timeEpoch": int(epoch(at) * 1000)}, "body": None,
          "queryStringParameters": r} for at, r in split(rows)]),
    "docker": lambda rows: ndjson(
        [{"log": line + "\n", "stream": "stdout", "time": "2026-01-09T00:00:00Z"}
         for line in ndjson(rows).splitlines()]),
    "csv of payloads": lambda rows: table(
        [{"created_at": at, "payload": json.dumps(r)} for at, r in split(rows)], ","),
}  # fmt: skip


def zstd(data: bytes) -> bytes:
    from reconcile.receipts.lines import _zstd

    return bytes(_zstd().compress(data))


COMPRESSIONS: dict[str, Callable[[bytes], bytes]] = {
    "plain": bytes, "gzip": gzip.compress, "zstd": zstd, "bzip2": bz2.compress,
    "xz": lambda data: lzma.compress(data, preset=0),
}  # fmt: skip


def read(data: bytes) -> list[tuple[Any, ...]]:
    """What a capture of these bytes becomes, in order of the ids."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        (folder / "capture").write_bytes(data)
        (folder / "key").write_text("a key for tests only, 32 letters")
        store = Store.open(folder / "store", create=True)
        con = engine.connect("500MB", 2, folder / "spill")
        border.set_key(con, Settings(pii_key_file=folder / "key"))
        with store.lock():
            taken = ingest.ingest(store, con, store.ledger(), [folder / "capture"], [], AS_OF,
                                  Wishes("hash"), lambda *_: None)  # fmt: skip
            assert taken.problems == []
            assert [c.rejects for c in taken.captures] == [0]
        con.disconnect()
        rows = pq.read_table(folder / "store" / "receipts", columns=list(EQUAL)).to_pylist()
    return sorted(tuple(row[name] for name in EQUAL) for row in rows)


def written(rows: list[Receipt], form: str, style: str) -> bytes:
    named = [{n if n == "captured_at" else STYLES[style](n): v for n, v in row.items()}
             for row in rows]  # fmt: skip
    data = FORMATS[form](named)
    return data.encode() if isinstance(data, str) else data


ROWS = receipts(120)


@pytest.fixture(scope="module")
def wanted() -> list[tuple[Any, ...]]:
    found = read(written(ROWS, "ndjson", "as Vonage"))
    assert len(found) == len(ROWS)
    assert {row[EQUAL.index("recipient")] for row in found} != {None}
    return found


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize("form", FORMATS)
def test_formats_and_styles(form: str, style: str, wanted: list[tuple[Any, ...]]) -> None:
    """Each format in each style of names says the same, field by field."""
    assert read(written(ROWS, form, style)) == wanted


@pytest.mark.parametrize("packed", COMPRESSIONS)
@pytest.mark.parametrize("form", FORMATS)
def test_formats_and_compressions(form: str, packed: str, wanted: list[tuple[Any, ...]]) -> None:
    """Each format in each compression says the same, field by field."""
    assert read(COMPRESSIONS[packed](written(ROWS, form, "as Vonage"))) == wanted


def main() -> None:
    """Prints the table for 10,000 receipts: equal or not, of each."""
    rows = receipts(10_000)
    wanted = read(written(rows, "ndjson", "as Vonage"))
    print("| format | style |", " | ".join(COMPRESSIONS), "|")
    print("|---|---|" + "---|" * len(COMPRESSIONS))
    failed = 0
    for form in FORMATS:
        for style in STYLES:
            data = written(rows, form, style)
            told = ["equal" if read(pack(data)) == wanted else "NOT"
                    for pack in COMPRESSIONS.values()]  # fmt: skip
            failed += told.count("NOT")
            print(f"| {form} | {style} |", " | ".join(told), "|", flush=True)
    print(f"{len(wanted):,} receipts; {failed} of {len(FORMATS) * len(STYLES) * 5} not equal")
    sys.exit(bool(failed))


if __name__ == "__main__":
    main()
