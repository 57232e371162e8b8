"""The file of an asynchronous report: a ZIP of one CSV, as real ones are."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable
from datetime import datetime
from pathlib import Path

from reconcile.sandbox.protocol import Query
from reconcile.sandbox.world import World, quoted

_COPY_BYTES = 1 << 18


def write_archive(
    world: World,
    query: Query,
    at: datetime,
    target: Path,
    member: str,
    stopped: Callable[[], bool],
    longest: int | None = None,
    order: str = "rowid",
) -> int:
    """Writes a listing of the world at a moment, through files so that memory stays bounded.

    Args:
        world, query, at: which listing.
        target: the archive.
        member: the name of its CSV.
        stopped: where it says so, the archive ends early.
        longest: how many records it holds at most.
        order: by what a day's records are sorted; its row ids stand newest first.

    Returns:
        How many records it holds.
    """
    part = target.with_suffix(".csv")
    records = 0
    # A real archive is written to a stream, its sizes behind the content: readers must cope.
    with (
        _Stream(target, "w") as stream,
        zipfile.ZipFile(stream, "w") as archive,
        archive.open(_Utf8Name(member, at), "w") as csv,
    ):
        csv.write((",".join(f'"{name}"' for name in query.fields()) + "\n").encode())
        for _, select, values in world.listing(query, at, shows_place=False):
            if stopped():
                break
            limit = "" if longest is None else f"LIMIT {max(0, longest - records)}"
            copy = f"COPY ({select} ORDER BY {order} {limit}) TO '{quoted(part)}'"
            options = "FORMAT csv, HEADER false, FORCE_QUOTE *, QUOTE '\"', ESCAPE '\"'"
            records += world.fetch(f"{copy} ({options})", values)[0][0]
            with part.open("rb") as lines:
                while (chunk := lines.read(_COPY_BYTES)) and not stopped():
                    csv.write(chunk)
    part.unlink(missing_ok=True)
    return records


class _Stream(io.FileIO):
    """A file that does not say where it stands, as a socket does not."""

    def tell(self) -> int:
        raise io.UnsupportedOperation


class _Utf8Name(zipfile.ZipInfo):
    """A member whose name is flagged as UTF-8 even where it is plain ASCII, as in real archives."""

    def __init__(self, name: str, at: datetime) -> None:
        super().__init__(name, at.timetuple()[:6])
        self.compress_type = zipfile.ZIP_DEFLATED

    # zipfile has no public way to set the flag; without this hook it would only stay unset.
    def _encodeFilenameFlags(self) -> tuple[bytes, int]:  # noqa: N802 - zipfile's name
        return self.filename.encode(), self.flag_bits | 0x800
