"""What is under way in a bucket's store, put as it grows: whichever machine comes next goes on.

Slices (`reports/underway.py`) are files that change all the time. Pages are put as pieces, each of
whole lines, and a note only after what it notes, so that at any moment the bucket holds what can be
gone on with. Nothing is dropped there before what takes its place is put.
"""

from __future__ import annotations

import os
import shutil
import threading
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path

from reconcile.bucket import Bucket

FOLDER = ".work/slices"
# Pages of a slice under way: a file that grows, in pieces; and the note that says what they are of.
GROWING, PIECE, NOTE = ".pages", ".at-", ".json"
CHUNK_BYTES = 1 << 20


class HandingOn:
    """The folder of slices, here and in a bucket.

    Args:
        bucket: where the store is.
        root: what of the store is on this machine.
        check: says no where the bucket may not be written.
    """

    def __init__(self, bucket: Bucket, root: Path, check: Callable[[], None]) -> None:
        self._bucket, self._folder, self._check = bucket, root / FOLDER, check
        self._guard = threading.RLock()
        self._kept: dict[str, tuple[int, int]] = {}  # a file → as it was put
        self._put: dict[str, int] = {}  # a growing file → how much of it is in the bucket

    def keep(self) -> None:
        """Puts what has changed here, then drops what is here no more; threads may share it.

        When it returns, all that was here when it was called is in the bucket.
        """
        with self._guard:
            here = self._here()
            changed = [name for name, state in here.items() if self._kept.get(name) != state]
            for name in sorted(changed, key=lambda name: name.endswith(NOTE)):
                if name.endswith(GROWING):
                    self._put_piece(name, here[name][0])
                else:
                    self._check()
                    self._bucket.put(self._folder / name, f"{FOLDER}/{name}")
                self._kept[name] = here[name]
            self._drop([name for name in self._kept if name not in here])

    def restore(self) -> None:
        """Lets the folder be what it is in the bucket, and pages go on where they end here.

        Pages that a run on this machine was sent and could not put any more are worth having. They
        count where the slice is still under way as it was, and the bucket's are their beginning.
        """
        fresh = self._folder.with_name(f".{self._folder.name}")
        shutil.rmtree(fresh, ignore_errors=True)
        with self._guard:
            self._put, self._kept = {}, {}
            for path in sorted(self._bucket.list(FOLDER)):
                self._fetch(path, fresh)
            for note in fresh.glob(f"*{NOTE}"):
                self._take_over(note.with_suffix(GROWING))
            shutil.rmtree(self._folder, ignore_errors=True)
            if fresh.is_dir():
                fresh.replace(self._folder)

    def _here(self) -> dict[str, tuple[int, int]]:
        """The files that are worth putting, each by its size and when it was written."""
        found = {}
        for entry in os.scandir(self._folder) if self._folder.is_dir() else ():
            if _is_kept(entry.name):
                with suppress(FileNotFoundError):  # another thread has dropped it since
                    told = entry.stat()
                    found[entry.name] = (told.st_size, told.st_mtime_ns)
        return found

    def _put_piece(self, name: str, size: int) -> None:
        """Puts what a growing file has more than the bucket; a line that is half is left for later,
        as it may yet be cut off and another written in its place."""
        start = self._put.get(name, 0)
        if size < start:  # it was begun anew: what was there is of no use
            self._drop([name])
            start = 0
        with (self._folder / name).open("rb") as file:
            file.seek(start)
            piece = file.read(size - start)
        piece = piece[: piece.rfind(b"\n") + 1]
        if piece:
            self._check()
            fresh = self._folder / f".{name}.piece"
            fresh.write_bytes(piece)
            self._bucket.put(fresh, f"{FOLDER}/{name}{PIECE}{start:015}")
            fresh.unlink()
        self._put[name] = start + len(piece)

    def _drop(self, gone: Iterable[str]) -> None:
        """Drops files in the bucket, all by one request: what is killed half-way drops nothing."""
        gone = {*gone}
        if not gone:
            return
        self._check()
        there = self._bucket.list(FOLDER)
        self._bucket.drop(path for path in there if _file_of(path)[0] in gone)
        for name in gone:
            self._kept.pop(name, None)
            self._put.pop(name, None)

    def _fetch(self, path: str, folder: Path) -> None:
        """Fetches an object: a file, or the next piece of one."""
        name, is_piece = _file_of(path)
        folder.mkdir(parents=True, exist_ok=True)
        fresh = folder / f".{name}.piece"
        if self._bucket.get(path, fresh) is None:
            return
        with (folder / name).open("ab" if is_piece else "wb") as file, fresh.open("rb") as part:
            shutil.copyfileobj(part, file)
        fresh.unlink()
        told = (folder / name).stat()
        self._kept[name] = (told.st_size, told.st_mtime_ns)
        if is_piece:
            self._put[name] = told.st_size

    def _take_over(self, pages: Path) -> None:
        """Lets pages of this machine take the place of those that came, if they only go on."""
        note, ours = pages.with_suffix(NOTE), self._folder / pages.name
        if not ours.exists() or not _begins_with(self._folder / note.name, note, whole=True):
            return
        if not pages.exists() or _begins_with(ours, pages):
            ours.replace(pages)
            self._kept[pages.name] = (self._put.get(pages.name, 0), 0)  # the rest is to be put


def _begins_with(path: Path, other: Path, *, whole: bool = False) -> bool:
    """Whether a file begins as another one; `whole`: whether it is the same."""
    try:
        length, begun = path.stat().st_size, other.stat().st_size
    except FileNotFoundError:
        return False
    if length < begun or (whole and length != begun):
        return False
    with path.open("rb") as one, other.open("rb") as begin:
        while chunk := begin.read(CHUNK_BYTES):
            if one.read(len(chunk)) != chunk:
                return False
    return True


def _file_of(path: str) -> tuple[str, bool]:
    """The file that an object is, and whether it is a piece of it."""
    name, piece, _ = path.removeprefix(f"{FOLDER}/").partition(PIECE)
    return name, bool(piece)


def _is_kept(name: str) -> bool:
    """Whether a file of a slice is worth putting: not what is half, nor what can be had again."""
    return not name.startswith(".") and not name.endswith((".part", ".zip"))
