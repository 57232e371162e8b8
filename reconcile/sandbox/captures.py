"""Receipts as a company's webhooks would have kept them: four styles, one file a day and style."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import date, timedelta
from pathlib import Path
from types import TracebackType
from typing import IO, Self

import numpy as np

from reconcile.sandbox.letters import Moments, Numbers, Text, join, take

DAY_MS = 86_400_000
_EPOCH = date(1970, 1, 1)
# Senders are the only words that may hold a comma; none holds a quote or a backslash.
FIELDS = (
    "msisdn", "to", "network-code", "messageId", "price", "status", "scts", "err-code", "api-key",
    "client-ref", "message-timestamp", "captured_at",
)  # fmt: skip


@dataclass(frozen=True)
class Style:
    """How one collector writes: file name, names of FIELDS in its order, form of the times.

    `noise` is written once into each file: lines that are blank, or no receipt.
    """

    file: str
    share: float
    names: dict[str, str]
    timestamp: Callable[[Moments], Text]
    noise: tuple[str, ...]

    @property
    def is_csv(self) -> bool:
        """Whether it is CSV with a header, and not NDJSON."""
        return ".csv" in self.file


def _underscores(*fields: str) -> dict[str, str]:
    return {name: name.replace("-", "_").replace("messageId", "message_id") for name in fields}


def _plain(moments: Moments) -> Text:
    return join(moments.date(), " ", moments.time())


def _with_offset(moments: Moments) -> Text:
    return join(moments.date(), " ", moments.time(), " +0000")


def _iso(moments: Moments) -> Text:
    return join(moments.date(), "T", moments.time(), ".000+00:00")


_INBOUND = json.dumps(
    {
        "msisdn": "44000000777",
        "to": "10000005678",
        "messageId": "0C000000217B7F02",
        "text": "STOP",
        "type": "text",
        "keyword": "STOP",
        "message-timestamp": "2026-01-05 09:00:00",
    }
)
_TIME_FIRST = ("captured_at", "messageId", "status", "err-code", "msisdn", "to", "network-code",
               "price", "api-key", "client-ref", "message-timestamp", "scts")  # fmt: skip
STYLES = (
    Style(
        "hooks-{}.ndjson", 0.45, {name: name for name in FIELDS}, _plain,
        ("", '{"msisdn":"44000000001","to":"Acme","messageId":"0B0000'),
    ),
    Style(
        "queue-{}.ndjson.gz", 0.25, _underscores(*FIELDS), _iso,
        (_INBOUND,),
    ),
    Style(
        "export-{}.csv", 0.2, _underscores(*_TIME_FIRST), _with_offset,
        ("", "2026-01-05T00:00:00.000Z"),
    ),
    Style(
        "archive-{}.csv.gz", 0.1,
        {name: name.replace("messageId", "message-id") for name in FIELDS[:-1]}, _plain,
        ("",),
    ),
)  # fmt: skip
WITHOUT_CAPTURE_TIME = next(n for n, s in enumerate(STYLES) if "captured_at" not in s.names)


@dataclass(frozen=True)
class Lines:
    """Receipts as text, one column a field of FIELDS but the times."""

    columns: dict[str, Text]
    pushed_ms: Numbers
    captured_ms: Numbers
    style: Numbers


@dataclass
class Captures:
    """Writes receipts into the files of `folder`, day by day, with few of them open at a time."""

    folder: Path
    receipts: int = 0
    rejects: int = 0
    blank: int = 0
    _files: dict[tuple[int, int], _File] = field(default_factory=dict)

    def __enter__(self) -> Self:
        self.folder.mkdir(parents=True)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        self.close_before(None)

    def write(self, lines: Lines) -> None:
        """Appends receipts to the files of the days on which they were captured."""
        for number, style in enumerate(STYLES):
            rows = np.flatnonzero(lines.style == number)
            rows = rows[np.argsort(lines.captured_ms[rows], kind="stable")]
            if len(rows) == 0:
                continue
            text = _lines(style, lines, rows)
            days = lines.captured_ms[rows] // DAY_MS
            starts = np.flatnonzero(np.diff(days, prepend=-1))
            for start, end in zip(starts, [*starts[1:], len(rows)], strict=True):
                self._file(int(days[start]), number).write(_bytes(text, int(start), int(end)))
        self.receipts += len(lines.style)

    def close_before(self, day: int | None) -> None:
        """Closes the files of the days before one (days since 1970), or all."""
        for key in sorted(self._files):
            if day is None or key[0] < day:
                self._files.pop(key).close()

    def _file(self, day: int, number: int) -> _File:
        if (day, number) not in self._files:
            style = STYLES[number]
            name = style.file.format(_EPOCH + timedelta(days=day))
            file = self._files[day, number] = _File(self.folder / name)
            if style.is_csv:
                file.write(f"{','.join(style.names.values())}\n".encode())
            for line in style.noise:
                file.write(f"{line}\n".encode())
                self.blank += not line
                self.rejects += bool(line)
        return self._files[day, number]


class _File:
    """A file, compressed where its name says so; the same content makes the same bytes."""

    def __init__(self, path: Path) -> None:
        self._raw = path.open("xb")
        self._to: IO[bytes] | gzip.GzipFile = self._raw
        if path.suffix == ".gz":
            self._to = gzip.GzipFile("", "wb", 1, self._raw, mtime=0)

    def write(self, content: bytes | memoryview) -> None:
        self._to.write(content)

    def close(self) -> None:
        self._to.close()
        self._raw.close()


def _lines(style: Style, lines: Lines, rows: Numbers) -> Text:
    """One line a receipt, its line end included."""
    captured = Moments(lines.captured_ms[rows])
    columns = {name: take(text, rows) for name, text in lines.columns.items()}
    columns["message-timestamp"] = style.timestamp(Moments(lines.pushed_ms[rows]))
    columns["captured_at"] = join(
        captured.date(), "T", captured.time(), captured.thousandths(), "Z"
    )
    parts: list[str | Text] = []
    for field_name, name in style.names.items():
        if style.is_csv:
            quote = '"' if field_name == "to" else ""
            parts += [",", quote, columns[field_name], quote]
        else:
            parts += [f',"{name}":"', columns[field_name], '"']
    if style.is_csv:
        return join(*parts[1:], "\n")
    return join("{" + str(parts[0])[1:], *parts[1:], "}\n")


def _bytes(text: Text, start: int, end: int) -> memoryview:
    """The content of some of the strings, which lies side by side."""
    _, offsets, content = text.buffers()
    places = np.frombuffer(offsets, np.int32)
    return memoryview(content)[places[start] : places[end]]
