"""Feeds the readers of captures with bytes that a coverage-guided fuzzer (Atheris) makes.

    pip install atheris
    python -m tests.fuzz_captures [--seconds 600] [--corpus FOLDER]

The first byte picks a compression and what the capture begins with, so that every reader is
reached. An input that breaks something is kept in `tests/seeds`, which a test replays.
"""

from __future__ import annotations

import argparse
import hashlib
import itertools
import os
import sys
import tempfile
import time
from pathlib import Path

from reconcile.errors import InputError
from tests.capture_styles import (
    COMPRESS,
    SHAPES,
    STYLES,
    Reader,
    callbacks,
    mixed,
    reader,
    statuses,
    written,
)

SEEDS = Path(__file__).parent / "seeds"
QUERY = b"messageId=0A&status=failed&sig=x"
BEGINNINGS = (
    b"",
    b'{"messageId":"0A","status":"failed"}\n',
    b'[{"messageId":"0A","status":"failed"},\n',
    b'{\n "messageId": "0A",\n "status": "failed"\n}\n',
    b'{"received_at":1767607201,"body":"messageId=0A&status=x"}\n',
    b"messageId,status,to,captured_at,timestamp\n",
    b"at;body\n",
    b'1.2.3.4 - - [05/Jan/2026:10:00:00 +0000] "GET /d?' + QUERY + b' HTTP/1.1" 204 0\n',
    QUERY + b"\n",
    b"PAR1",
    b"\xff\xfe{\0",
    b"\xef\xbb\xbf{",
)  # fmt: skip
# Every choice of a first byte: bytes beyond are damage to the compressed stream itself.
CHOICES = tuple(itertools.product(("plain", "plain", "gzip", "zstd", "bzip2", "xz"), BEGINNINGS))
BEHIND = b'0A,x,"y",1,2\n{"body":{"a":[1]}}\n&a=%41\n'
MOST_KEPT = 20
OWN_COUNT = ("ndjson", "access_log", "form", "csv")


def capture_of(data: bytes) -> bytes:
    """The capture that a fuzzer's bytes stand for."""
    if not data:
        return b""
    pick = data[0]
    if pick >= len(CHOICES):  # damage: the last bytes say what becomes of a good stream
        name, begin = CHOICES[pick % len(CHOICES)]
        whole = bytearray(COMPRESS[name](begin + data[1:]))
        for at, value in zip(data[1:5], data[5:9], strict=False):
            whole[at % len(whole)] ^= value
        return bytes(whole)
    name, begin = CHOICES[pick]
    return COMPRESS[name](begin + data[1:])


def read_whole(read: Reader, data: bytes) -> int:
    """Reads what a fuzzer's bytes stand for, and holds the sums: how many lines it has.

    An InputError of one line is an answer; anything else that is raised is a finding.
    """
    read.captures.clear()
    path = read.folder / "fuzzed"
    path.write_bytes(capture_of(data))
    os.utime(path, (0, 0))  # nobody has written to it for long: nothing waits
    try:
        found = read.lines_of(path)
    except InputError as error:
        if "\n" in str(error) or "was cut" in str(error):
            raise AssertionError(f"no clear line: {error}") from error
        return 0
    capture = read.captures[-1]
    assert not capture.waits or capture.damage
    numbers = found["line"].to_pylist()
    assert len(numbers) == len(set(numbers)) == capture.receipts + capture.rejects
    assert capture.lines == capture.receipts + capture.rejects + capture.blank
    if capture.format in OWN_COUNT and data[:1] < bytes([len(CHOICES)]) and not capture.damage:
        text = CHOICES[data[0]][1] + data[1:]
        if not text.startswith((b"\xff\xfe", b"\xfe\xff", b"\x1f\x8b", b"BZh", b"\xfd7zXZ",
                                b"\x28\xb5\x2f\xfd")):  # fmt: skip
            text = text.removeprefix(b"\xef\xbb\xbf")
            assert capture.lines == text.count(b"\n") + bool(text.rpartition(b"\n")[2])
    return capture.lines


def corpus(folder: Path) -> None:
    """Inputs to begin with: good captures of each shape, and something behind each beginning."""
    for n, shape in enumerate(SHAPES):
        made = [callbacks(3)] + ([statuses(2), mixed(2)] if shape.nested else [])
        for at, sent in enumerate(made):
            (folder / f"{n}-{at}").write_bytes(b"\0" + written(shape, sent, STYLES["mixed"]))
    for n in range(len(CHOICES)):
        (folder / f"choice-{n}").write_bytes(bytes([n]) + BEHIND)


def fuzz(seconds: int, seen: Path, folder: Path) -> None:
    """Fuzzes for some time, keeps what breaks something, and says what came of it."""
    import atheris

    from reconcile import engine

    began, count, findings = time.monotonic(), 0, 0
    with reader(engine.connect("1GB", 1, folder / "spill"), folder) as read:

        def once(data: bytes) -> None:
            nonlocal count, findings
            count += 1
            try:
                read_whole(read, data)
            except Exception as error:
                findings += 1
                kept = SEEDS / hashlib.sha256(data).hexdigest()[:12]
                if findings <= MOST_KEPT:
                    kept.write_bytes(data)
                print(
                    f"FINDING {kept.name}: {type(error).__name__}: {str(error)[:200]}", flush=True
                )
            took = time.monotonic() - began
            if took > seconds:
                print(f"{took:.0f} s, {count:,} executions, {findings} findings", flush=True)
                os._exit(bool(findings))

        options = ["-max_len=4096", "-timeout=60", "-rss_limit_mb=4096", "-print_final_stats=1"]
        atheris.Setup([sys.argv[0], *options, str(seen)], once)
        atheris.Fuzz()


def main() -> None:
    """Reads the command line, and fuzzes the readers as they are with counters in them."""
    import atheris

    parser = argparse.ArgumentParser()
    parser.add_argument("--seconds", type=int, default=600)
    parser.add_argument("--corpus", type=Path)
    wanted = parser.parse_args()
    folder = Path(tempfile.mkdtemp())
    seen = wanted.corpus or folder / "corpus"
    seen.mkdir(exist_ok=True)
    corpus(seen)
    for name in [m for m in sys.modules if m.startswith(("reconcile.receipts", "tests."))]:
        del sys.modules[name]
    with atheris.instrument_imports(include=["reconcile.receipts"]):
        from tests import fuzz_captures
    fuzz_captures.fuzz(wanted.seconds, seen, folder)


if __name__ == "__main__":
    main()
