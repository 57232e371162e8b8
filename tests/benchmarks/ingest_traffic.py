"""Makes the captures that the programs take in: callbacks of several days, and what else a log has.

Of every thousand lines or so one is blank and one broken; inbound SMS and health checks came to the
same webhook, and some receipts lack their message-timestamp, or have an odd capture time.
"""

from __future__ import annotations

import argparse
import gzip
import io
import json
import random
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import urlencode

SEED = 20260105
START = datetime(2026, 1, 5, 7, 30, tzinfo=UTC)
SPAN = timedelta(days=4)
COLUMNS = (
    "msisdn", "to", "network-code", "messageId", "price", "status", "scts", "err-code", "api-key",
    "client-ref", "message-timestamp", "captured_at",
)  # fmt: skip
STATUSES = ["delivered"] * 12 + ["failed", "expired", "accepted", "Buffered"]
PRICES = ["0.03330000"] * 6 + ["0.0075", "0.05120000", "0.033300005", "1e-2"]
REFERENCES = ["campaign-{}"] * 6 + ["Café {}", "", "a, b & c {}", "{}% off + more"]


class Traffic:
    """Callbacks in order of time, a fixed seed."""

    def __init__(self, lines: int, seed: int) -> None:
        self.random = random.Random(seed)
        self._step = SPAN / lines

    def receipt(self, n: int) -> tuple[dict[str, str], datetime]:
        """A DLR's parameters, and when it was captured."""
        r, at = self.random, START + n * self._step
        pushed = at - timedelta(milliseconds=r.randrange(300, 90_000))
        made = {
            "msisdn": f"4477009{r.randrange(10**5):05d}",
            "to": r.choice(("Acme", "My Bank", "15550001")),
            "network-code": r.choice(("23410", "310004", "63902", "26201")),
            "messageId": f"{r.getrandbits(64):016X}" if r.random() < 0.9 else _uuid(r),
            "price": r.choice(PRICES),
            "status": r.choice(STATUSES),
            "scts": f"{at:%y%m%d%H%M}",
            "err-code": r.choice("00000012"),
            "api-key": "5a4d0b0e",
            "client-ref": r.choice(REFERENCES).format(r.randrange(1000)),
            "message-timestamp": f"{pushed:%Y-%m-%d %H:%M:%S}",
        }
        if r.random() < 0.01:
            del made["message-timestamp"]
        return made, at

    def inbound(self, n: int) -> dict[str, str]:
        """An inbound SMS's parameters."""
        made, _at = self.receipt(n)
        return {
            "msisdn": made["msisdn"], "to": "15550001", "messageId": made["messageId"],
            "text": "STOP please", "type": "text", "keyword": "STOP",
            "message-timestamp": f"{START + n * self._step:%Y-%m-%d %H:%M:%S}",
        }  # fmt: skip


def ndjson(traffic: Traffic, n: int) -> str:
    """A JSON object a line."""
    kind = traffic.random.randrange(1000)
    if kind == 0:
        return traffic.random.choice(("\n", "  \n"))
    if kind <= 5:
        return _json(traffic.inbound(n))
    if kind <= 8:
        return _json({"status": "ok"})
    made, at = traffic.receipt(n)
    captured: str | int | None = f"{at:%Y-%m-%dT%H:%M:%S}.{at.microsecond // 1000:03d}Z"
    if kind <= 18:
        captured = int(at.timestamp() * 1000)
    elif kind <= 22:
        captured = None
        if kind == 22:
            made.pop("message-timestamp", None)
    more = {} if captured is None else {"captured_at": captured}
    if kind == 23:
        more["messageId"] = traffic.random.randrange(10**15, 10**16)
    text = _json(made | more)
    return text[: traffic.random.randrange(1, len(text) - 2)] + "\n" if kind == 24 else text


def access_log(traffic: Traffic, n: int) -> str:
    """nginx's combined format."""
    kind = traffic.random.randrange(1000)
    if kind == 0:
        return "\n"
    made, at = traffic.receipt(n)
    request = f"GET /dlr?{urlencode(made)}"
    if kind <= 5:
        request = f"GET /inbound?{urlencode(traffic.inbound(n))}"
    elif kind <= 8:
        request = "GET /healthz"
    elif kind == 9:
        request = "POST /dlr"
    elif kind == 10:
        request = "GET /favicon.ico"
    when = f"{at.timestamp():.3f}" if 11 <= kind <= 20 else f"{at:%d/%b/%Y:%H:%M:%S +0000}"
    text = f'10.0.0.1 - - [{when}] "{request} HTTP/1.1" 204 0 "-" "Vonage/MessagingHUB/v1.0"\n'
    return text[: traffic.random.randrange(1, 60)] + "\n" if kind == 21 else text


def csv(traffic: Traffic, n: int) -> str:
    """A row of `COLUMNS`; the last one is never empty, `-` where nobody noted the time."""
    kind = traffic.random.randrange(1000)
    if kind == 0:
        return "\n"
    made, at = traffic.receipt(n)
    captured = f"{at:%Y-%m-%dT%H:%M:%S}.{at.microsecond // 1000:03d}Z"
    if kind <= 10:
        captured = str(int(at.timestamp() * 1000))
    elif kind <= 14:
        captured = "-"
        if kind == 14:
            made.pop("message-timestamp", None)
    elif kind <= 18:
        made["messageId" if kind == 15 else "status"] = ""
    values = made | {"captured_at": captured}
    fields = [values.get(name, "") for name in COLUMNS]
    if kind == 19:
        fields = fields[:-3]
    elif kind == 20:
        fields.append("one more")
    return ",".join(f'"{field}"' if "," in field else field for field in fields) + "\n"


FORMATS: dict[str, Callable[[Traffic, int], str]] = {
    "ndjson": ndjson, "log": access_log, "csv": csv,
}  # fmt: skip


def make(file: Path, lines: int, seed: int) -> None:
    """Writes a capture of so many lines, in the format (and the compression) that its name says."""
    kind = file.name.removesuffix(".gz").rpartition(".")[2]
    traffic, line = Traffic(lines, seed), FORMATS[kind]
    with file.open("wb") as raw:
        packed = gzip.GzipFile(fileobj=raw, mode="wb", mtime=0) if file.suffix == ".gz" else raw
        with io.TextIOWrapper(io.BufferedWriter(packed, 1 << 20), "utf-8", newline="") as out:
            header = kind == "csv"
            if header:
                out.write(",".join(COLUMNS) + "\n")
            for n in range(header, lines):
                out.write(line(traffic, n))


def _uuid(r: random.Random) -> str:
    text = f"{r.getrandbits(128):032x}"
    return "-".join((text[:8], text[8:12], text[12:16], text[16:20], text[20:]))


def _json(made: dict[str, object]) -> str:
    return json.dumps(made, separators=(",", ":"), ensure_ascii=False) + "\n"


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("file", type=Path)
    parser.add_argument("lines", type=int)
    parser.add_argument("--seed", type=int, default=SEED)
    told = parser.parse_args()
    make(told.file, told.lines, told.seed)
