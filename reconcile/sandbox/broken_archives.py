"""Files of reports as they come when something is wrong.

Each function writes a spoilt copy of an archive. They hold its content in memory, for the worlds
of tests are small.
"""

from __future__ import annotations

import csv
import io
import threading
import uuid
import zipfile
import zlib
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path

from reconcile.sandbox.broken_answers import Hit, Spoil
from reconcile.sandbox.protocol import Response

BOMB_BYTES = 2 << 30
_HTML = b"<!DOCTYPE html><html><title>The file is being prepared</title></html>\n"
_LOCAL_HEADER = 30
Members = dict[str, str]
"""The text of each member by its name."""


def archive(spoil: Callable[[Path, Path], object]) -> Spoil:
    """Sends a spoilt copy in place of a file; `spoil` makes it of the one as the other, once."""
    made: dict[Path, Path] = {}
    lock = threading.Lock()

    def spoilt(response: Response, _: Hit) -> Response | None:
        if not isinstance(response.body, Path):
            return None
        with lock:  # who asks again, and again, must not have it made beside the first time
            if response.body not in made:
                copy = response.body.with_name(f"{uuid.uuid4()}.zip")
                spoil(response.body, copy)
                made[response.body] = copy
        return replace(response, body=made[response.body])

    return spoilt


def members(change: Callable[[str, str], Members]) -> Spoil:
    """Puts other members in place of each CSV, whose name and text `change` is told."""

    def spoil(source: Path, target: Path) -> None:
        with zipfile.ZipFile(source) as read:
            texts = {name: read.read(name).decode() for name in read.namelist()}
        with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as write:
            for name, text in texts.items():
                others = change(name, text) if name.endswith(".csv") else {name: text}
                for each, content in others.items():
                    write.writestr(each, content)

    return archive(spoil)


def columns(change: Callable[[dict[str, str]], dict[str, str]]) -> Spoil:
    """Changes each record of the CSV, and its header alike."""

    def changed(name: str, text: str) -> Members:
        header, *rows = _rows(text)
        records = (change(dict(zip(header, row, strict=True))) for row in rows)
        names = list(change(dict.fromkeys(header, "")))
        return {name: _text([names, *(record.values() for record in records)])}

    return members(changed)


def cut_short(source: Path, target: Path) -> None:
    """Its end is missing, and with it the list of its members."""
    target.write_bytes(source.read_bytes()[: source.stat().st_size * 2 // 3])


def flipped(source: Path, target: Path) -> None:
    """One bit in the middle of the deflated content is another."""
    with zipfile.ZipFile(source) as read:
        member = max(read.infolist(), key=lambda each: each.compress_size)
    content = bytearray(source.read_bytes())
    start = member.header_offset + _LOCAL_HEADER + len(member.filename)
    content[start + member.compress_size // 2] ^= 1
    target.write_bytes(content)


def two_csvs(name: str, text: str) -> Members:
    """The first half of the records in one, the second in another."""
    header, *records = _rows(text)
    half = (len(records) + 1) // 2
    parts = records[:half], records[half:]
    stem = name.removesuffix(".csv")
    return {f"{stem}_{n}.csv": _text([header, *part]) for n, part in enumerate(parts, 1)}


def with_others(name: str, text: str) -> Members:
    """A folder and a text beside the CSV."""
    return {"README.txt": "Records of your account.\n", "meta/": "", name: text}


def path_trick(name: str, text: str) -> Members:
    """A CSV of junk that would land elsewhere, were its name believed."""
    header = _rows(text)[0]
    junk = [[f"junk {n}"] * len(header) for n in range(3)]
    return {"../../evil.csv": _text([header, *junk]), name: text}


def bomb(source: Path, target: Path) -> None:
    """A second CSV of one endless field under the header of the first, inflating to gigabytes."""
    target.write_bytes(source.read_bytes())
    with zipfile.ZipFile(source) as read, read.open(read.namelist()[0]) as lines:
        start, zeros = lines.readline() + b'"', b"0" * (1 << 20)
    # Flushed in full, the same deflated megabyte can follow itself as often as one likes.
    blocks = BOMB_BYTES // len(zeros)
    deflated = _deflated(start) + _deflated(zeros) * blocks + _deflated(b"", zlib.Z_FINISH)
    with zipfile.ZipFile(target, "a") as write:
        member = zipfile.ZipInfo("report_more.csv")
        write.writestr(member, deflated)
        # Stored as it is, then said to be deflated. Its checksum is wrong, which nobody will learn
        # who does not read all of it first.
        member.compress_type = zipfile.ZIP_DEFLATED
        member.file_size = len(start) + blocks * len(zeros)


def no_archive(_: Path, target: Path) -> None:
    """A page in place of the file, under the file's own headers."""
    target.write_bytes(_HTML)


def _deflated(content: bytes, flush: int = zlib.Z_FULL_FLUSH) -> bytes:
    deflate = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    return deflate.compress(content) + deflate.flush(flush)


def _rows(text: str) -> list[list[str]]:
    return list(csv.reader(io.StringIO(text, newline="")))


def _text(rows: Iterable[Iterable[str]]) -> str:
    out = io.StringIO(newline="")
    csv.writer(out, quoting=csv.QUOTE_ALL, lineterminator="\n").writerows(rows)
    return out.getvalue()
