"""Which capture a file is, told by its content: so a log that was rotated, renamed, gzipped or that
grew is known again, and one that was truncated and written anew is another.

A capture is known by the digest of its first 4 KiB of decompressed bytes and of the 4 KiB before
the offset that was read; both must match to read on. What does not even differ in size, first and
last bytes on disk is not opened again.
"""

from __future__ import annotations

import os
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from reconcile.errors import InputError
from reconcile.receipts.lines import PROBE_BYTES, Mark, digest, is_quiet, opened, told

MOST_COPIES = 32


@dataclass(frozen=True)
class Place:
    """What is to be read of a file.

    Attributes:
        path: the file.
        source: the capture that it is: its name in the tables.
        start: where to read on.
        entry: what the ledger holds of the capture; empty if it is new.
        fingerprint: the file as it lies on disk.
        first: the digest of its first line.
        perhaps: longer captures that begin like it, of one of which it may be a part.
    """

    path: Path
    source: str
    start: Mark
    entry: dict[str, Any]
    fingerprint: str
    first: str = ""
    perhaps: tuple[str, ...] = ()


@dataclass
class Known:
    """The captures that the ledger knows, found by content.

    Attributes:
        captures: source → its entry.
        prefix: begins the names of new ones.
        urls: where files came from that were fetched, by path: new ones are named so.
    """

    captures: dict[str, dict[str, Any]]
    prefix: str = ""
    urls: dict[str, str] = field(default_factory=dict)
    _by_print: dict[str, str] = field(default_factory=dict)
    _by_head: dict[tuple[int, str], list[str]] = field(default_factory=dict)
    _by_first: dict[str, list[str]] = field(default_factory=dict)
    _names: dict[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for source, entry in self.captures.items():
            self._enter(source, entry)

    def remember(self, source: str, entry: dict[str, Any]) -> None:
        """Notes how far a capture is read by now."""
        if entry["print"] and not _lies_as(Path(entry["path"]), entry["print"]):
            entry["print"] = ""  # it is not sure that what was looked at is what was read
        self.captures[source] = entry
        self._enter(source, entry)

    def own_first(self, files: list[Path]) -> list[Path]:
        """Files in the order to look at them: first those that lie where their capture lay."""
        at_home = {entry["path"] for entry in self.captures.values()}
        return sorted(files, key=lambda file: (str(file) not in at_home, str(file)))

    def place(self, path: Path) -> Place | None:
        """What is to be read of a file; None: nothing.

        Raises:
            InputError: it cannot be read.
        """
        shown = fingerprint(path)
        source = self._by_print.get(shown)
        if source and not self.captures[source].get("waits"):
            self.captures[source]["path"] = str(path)
            return None
        with opened(path) as file:
            head = file.read(PROBE_BYTES)
            if not head and file.damage and is_quiet(path):
                raise InputError(f"the capture {path} cannot be read: {file.damage}")
            if not head:
                return None
            alike = self._alike(head)
            marks = sorted((mark_of(self.captures[s]).offset, s) for s in alike)
            at, tail, same = len(head), head, []
            for offset, name in marks:
                if offset > at:
                    behind = file.skip(offset - at)
                    if len(behind) < min(offset - at, PROBE_BYTES):
                        break  # the file is shorter
                    tail, at = (tail + behind)[-PROBE_BYTES:], offset
                here = head[:offset][-PROBE_BYTES:] if offset <= len(head) else tail
                if digest(here) == mark_of(self.captures[name]).tail:
                    same.append(name)
        first = digest(head.split(b"\n", 1)[0].rstrip(b"\r"))
        if same:
            entry = self.captures[same[-1]]
            return Place(path, same[-1], mark_of(entry), entry, shown, first)
        longer = [s for s in self._by_first.get(first, [])
                  if mark_of(self.captures[s]).head_bytes > len(head)]  # fmt: skip
        return Place(path, self._name(path), Mark(), {}, shown, first, (*alike, *longer))

    def lines_of(self, path: Path) -> int:
        """How many lines of a file are known that lies there as it was read."""
        source = self._by_print.get(fingerprint(path))
        return mark_of(self.captures[source]).line if source else 0

    def note_part(self, source: str, place: Place) -> None:
        """Notes that a file is a part of a capture, so that it is not read again."""
        if _lies_as(place.path, place.fingerprint):
            entry = self.captures[source]
            entry["copies"] = [*entry.get("copies", []), place.fingerprint][-MOST_COPIES:]
            self._by_print[place.fingerprint] = source

    def _alike(self, head: bytes) -> list[str]:
        """Captures that begin like this."""
        found = []
        for size in {size for size, _digest in self._by_head if size <= len(head)}:
            found += self._by_head.get((size, digest(head[:size])), [])
        return sorted(found)

    def _name(self, path: Path) -> str:
        """The path, numbered where another capture had it before."""
        name = f"{self.prefix}{self.urls.get(str(path), path)}"
        count = self._names.get(name, 0)
        return name if not count else f"{name}#{count + 1}"

    def _enter(self, source: str, entry: dict[str, Any]) -> None:
        for shown in (entry["print"], *entry.get("copies", [])):
            self._by_print[shown] = source
        mark = mark_of(entry)
        if mark.head_bytes:
            names = self._by_head.setdefault((mark.head_bytes, mark.head), [])
            if source not in names:
                names.append(source)
        names = self._by_first.setdefault(entry.get("first", ""), [])
        if source not in names:
            names.append(source)
        path, _, number = source.rpartition("#")
        own, count = (path, int(number)) if path and number.isdigit() else (source, 1)
        self._names[own] = max(self._names.get(own, 0), count)


def mark_of(entry: dict[str, Any]) -> Mark:
    """How far an entry of the ledger says that its capture was read."""
    return Mark(**entry["mark"])


def entry_of(mark: Mark) -> dict[str, Any]:
    """A mark as the ledger holds it."""
    return asdict(mark)


def is_there(path: Path, mark: Mark) -> bool:
    """Whether a log still holds what was read of it; of compressed files nothing is cut."""
    with opened(path) as file:
        if file.is_compressed or not mark.offset:
            return True
        head = file.read(mark.head_bytes)
        tail = (head + file.skip(mark.offset - len(head)))[-PROBE_BYTES:]
        return digest(head) == mark.head and digest(tail) == mark.tail


def _lies_as(path: Path, shown: str) -> bool:
    try:
        return fingerprint(path) == shown
    except InputError:
        return False


def fingerprint(path: Path) -> str:
    """A file as it lies on disk: its size, and a digest of its first and last 4 KiB.

    Raises:
        GoneError: it is not there any more.
        UnreadableError: it cannot be read.
    """
    with told(path), path.open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        start = file.read(PROBE_BYTES)
        file.seek(max(size - PROBE_BYTES, 0))
        return f"{size}-{digest(start + file.read(PROBE_BYTES))}"
