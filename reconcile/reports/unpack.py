"""The file of a report → the CSVs in it: a ZIP's members, or a bare CSV, gzipped or not.

The content says what a file is, its name does not. Archives are not trusted: nothing is written
under a member's name, and no more is inflated than a report can hold.
"""

from __future__ import annotations

import gzip
import io
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath
from typing import cast

from reconcile.errors import ReportError

ZIP_MAGICS = (b"PK\x03\x04", b"PK\x05\x06")  # the second begins a ZIP of nothing
GZIP_MAGIC = b"\x1f\x8b"
# What a real report never reaches: its CSV deflates to a fifth, and it has one member an account.
INFLATED_BYTES = 1 << 30
INFLATED_RATIO = 200
MEMBERS = 10_000
DIRECTORY_BYTES = 16 << 20
ENCRYPTED = 0x1  # a member's flag
DAMAGED = (
    zipfile.BadZipFile, gzip.BadGzipFile, zlib.error, EOFError, NotImplementedError,
    UnicodeDecodeError,  # of a member's name
)  # fmt: skip
CHUNK_BYTES = 1 << 19


@dataclass(frozen=True)
class Member:
    """A CSV that can be read from its beginning, as often as needed."""

    name: str
    open: Callable[[], io.BufferedIOBase]
    is_bare: bool = True


class Measured(io.BufferedIOBase):
    """The bytes of a CSV, which together with all others of its file must stay within reason.

    Args:
        source: gives the bytes.
        left: how many more there may be, in a list that all share.
        length: how many are announced, where they are.
    """

    def __init__(
        self, source: io.BufferedIOBase, left: list[int], length: int | None = None
    ) -> None:
        self._source, self._left, self._missing = source, left, length

    def readable(self) -> bool:
        return True

    def read(self, size: int | None = -1, /) -> bytes:
        found = self._source.read(CHUNK_BYTES if size is None or size < 0 else size)
        self._left[0] -= len(found)
        if self._left[0] < 0:
            raise zipfile.BadZipFile("it inflates beyond all measure")
        if self._missing is not None:
            self._missing -= len(found)
            if not found and self._missing:
                raise zipfile.BadZipFile("a member is not as long as it says")
        return found

    read1 = read

    def close(self) -> None:
        self._source.close()
        super().close()


class Guarded(io.FileIO):
    """A file of which nobody takes too much at once, as `zipfile` would a huge directory."""

    def read(self, size: int | None = -1, /) -> bytes:
        if size is not None and size > DIRECTORY_BYTES:
            raise zipfile.BadZipFile("its directory is as large as no report's")
        return super().read(-1 if size is None else size)

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        if whence == io.SEEK_SET and offset < 0:
            raise zipfile.BadZipFile("its directory names places that it does not have")
        return super().seek(offset, whence)


@contextmanager
def members(archive: Path) -> Iterator[list[Member]]:
    """The CSVs of a report's file, as long as it is open."""
    with archive.open("rb") as file:
        head = file.read(len(ZIP_MAGICS[0]))
    left = [max(INFLATED_BYTES, INFLATED_RATIO * archive.stat().st_size)]
    if head in ZIP_MAGICS:
        with Guarded(archive) as guarded, zipfile.ZipFile(guarded) as zipped:
            yield [
                Member(m.filename, partial(_open_member, zipped, m, left), is_bare=False)
                for m in _csv_members(zipped, archive.name)
            ]
    else:
        is_gzip = head.startswith(GZIP_MAGIC)
        yield [Member(archive.name, partial(_open_bare, archive, left, is_gzip=is_gzip))]


def _open_bare(file: Path, left: list[int], *, is_gzip: bool) -> Measured:
    return Measured(gzip.GzipFile(file) if is_gzip else file.open("rb"), left)


def _open_member(zipped: zipfile.ZipFile, member: zipfile.ZipInfo, left: list[int]) -> Measured:
    return Measured(cast(io.BufferedIOBase, zipped.open(member)), left, member.file_size)


def _csv_members(zipped: zipfile.ZipFile, name: str) -> list[zipfile.ZipInfo]:
    """The members that are to be read; nothing is ever written under a member's name.

    Raises:
        ReportError: there are none, or the archive is none that Vonage would have made.
    """
    members = zipped.infolist()
    if len(members) > MEMBERS:
        raise ReportError(f"{name} has {len(members)} members: no report has so many")
    strange = next((m.orig_filename for m in members if _is_strange(m.orig_filename)), None)
    if strange is not None:
        raise ReportError(f"{name} has a member named {strange[:80]!r}: it is no report of Vonage")
    found = [m for m in members if _is_csv(m.filename)]
    if not found:
        first = f" (its first member is {members[0].filename[:80]!r})" if members else ""
        raise ReportError(f"{name} holds no CSV{first}: ask for the report again")
    if any(m.flag_bits & ENCRYPTED for m in found):
        raise ReportError(f"{name} is encrypted: decrypt it first")
    if any(m.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED) for m in found):
        raise ReportError(f"{name} is compressed in a way that no report is: zip it anew")
    return found


def _is_strange(name: str) -> bool:
    """Whether a name would lead out of a folder, or is none that people can read."""
    path = PurePosixPath(name)
    return path.is_absolute() or ".." in path.parts or "\\" in name or not name.isprintable()


def _is_csv(name: str) -> bool:
    path = PurePosixPath(name)
    # A Mac puts a ._NAME, which is no CSV, beside each NAME.
    return name.lower().endswith(".csv") and not path.name.startswith("._")
