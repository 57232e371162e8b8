"""Slices under way: what is on disk of a slice, from its first request until it is taken in.

What Vonage was paid for lies in `.work/slices` before anything else happens, so that a crash does
not make us ask for it again: but for the answers in flight at that moment, at most one page of each
listing, which were billed and are not here.

    NAME.json       the note: begun when, which report, how much billed; and how it came out
    NAME.pages      whole pages, a JSON object a line
    NAME.zip        the file of its report
    NAME.parquet    all of it, as it came
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

from reconcile.days import Window, iso, parse_moment
from reconcile.errors import DiskError, trouble
from reconcile.reports.raw import RawSlice
from reconcile.reports.slices import Fetched, Slice
from reconcile.store import read_json, write_json

Kept = Callable[[], None]


class UnderWay:
    """One slice's files and its note, which is on disk whenever a method returns.

    Args:
        folder: where slices lie.
        part: the slice.
        as_of: the run's; a slice that an earlier run began keeps that run's.
        via: how it is to come; likewise.
        kept: called whenever something more is on disk that was paid for.
    """

    def __init__(
        self, folder: Path, part: Slice, as_of: datetime, via: str, kept: Kept = lambda: None
    ) -> None:
        self.part, self._stem, self._kept = part, folder / part.name, kept
        self._note = self._path("json")
        if not self._note.exists():
            folder.mkdir(parents=True, exist_ok=True)
            of = [part.account_id, part.product, part.subaccounts, *_text(part.window)]
            write_json(self._note, {"slice": of, "as_of": iso(as_of), "via": via})
            kept()
        self.facts = read_json(self._note)

    @property
    def begun_at(self) -> datetime:
        """The as_of of the run that began it.

        A report that a stopped run asked for shows the records as they were then, not as now.
        """
        return parse_moment(str(self.facts["as_of"]))

    @property
    def via(self) -> str:
        """The way by which it comes."""
        return str(self.facts["via"])

    @property
    def archive(self) -> Path:
        """Where the file of its report goes."""
        return self._path("zip")

    @property
    def pages(self) -> Pages:
        """Its pages."""
        return Pages(self._path("pages"), self._kept)

    @property
    def unfinished(self) -> Path:
        """Where it is written before it is whole."""
        return self._path("part")

    def jot(self, **facts: Any) -> None:
        """Adds to the note; None takes a fact away."""
        kept = {name: fact for name, fact in (self.facts | facts).items() if fact is not None}
        write_json(self._note, kept)
        self.facts = kept
        self._kept()

    # --- how it came out ------------------------------------------------------------------

    def whole(self, taken: RawSlice, request_id: str, billed: int) -> None:
        """Notes that all of it is here."""
        self.keep(self.part, taken, request_id, billed)

    def keep(self, kept: Slice, taken: RawSlice, request_id: str, billed: int) -> None:
        """Notes that this much of it is here: all, or a slice within it with a note of its own."""
        folder = self._stem.parent
        of = (
            self
            if kept == self.part
            else UnderWay(folder, kept, self.begun_at, self.via, self._kept)
        )
        taken.path.replace(of._path("parquet"))
        of.jot(asked=_text(self.part.window), request_id=request_id, rows=taken.rows,
               billed=billed, new_columns=taken.new_columns)  # fmt: skip

    def fetched(self) -> Fetched:
        """What is here, as its note tells; to be asked only where `is_whole`."""
        note = self.facts
        return Fetched(
            self.part, _window(note["asked"]), self._path("parquet"), self.via,
            note["request_id"], self.begun_at, note["rows"], note["billed"], note["new_columns"],
        )  # fmt: skip

    @property
    def is_whole(self) -> bool:
        """Whether all of it is here."""
        return "rows" in self.facts

    def split(self, windows: list[Window], billed: int) -> None:
        """Notes that it goes on as several slices; what it has cost so far is not forgotten."""
        self.jot(split=[_text(window) for window in windows], billed=billed)
        self.archive.unlink(missing_ok=True)
        self.pages.forget()

    @property
    def splits(self) -> list[Slice]:
        """The slices that it goes on as, if it does."""
        windows = map(_window, self.facts.get("split", []))
        return [self.part.source.slice(window) for window in windows]

    def _path(self, ending: str) -> Path:
        return self._stem.with_name(f"{self._stem.name}.{ending}")


class Pages:
    """A file of whole answers, one JSON object a line; a line that a crash tore is cut off."""

    def __init__(self, path: Path, kept: Kept = lambda: None) -> None:
        self._path, self._kept = path, kept

    def append(self, answer: dict[str, Any]) -> None:
        """Adds an answer, and returns when it is on disk."""
        line = json.dumps(answer) + "\n"
        try:
            with self._path.open("a", encoding="utf-8") as file:
                file.write(line)
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise DiskError(f"{self._path} cannot be written: {trouble(error)}") from None
        self._kept()

    def __iter__(self) -> Iterator[dict[str, Any]]:
        if not self._path.exists():
            return
        good = 0
        with self._path.open("rb") as file:
            for line in file:
                if not line.endswith(b"\n"):
                    break
                good += len(line)
                yield json.loads(line)
        if good < self._path.stat().st_size:
            os.truncate(self._path, good)

    def forget(self) -> None:
        """Drops all of them."""
        self._path.unlink(missing_ok=True)


def begun(folder: Path) -> list[tuple[Slice, str]]:
    """The slices that runs before have left here, each with its via; no piece of another one."""
    found = []
    for note in map(read_json, folder.glob("*.json")):
        if "slice" not in note:
            continue
        account_id, product, subaccounts, *ends = note["slice"]
        found.append((Slice(account_id, _window(ends), product, subaccounts), str(note["via"])))
    return sorted((part, via) for part, via in found
                  if not any(_holds(other, part) for other, _ in found))  # fmt: skip


def _holds(whole: Slice, part: Slice) -> bool:
    return (
        whole != part
        and whole.source == part.source
        and whole.window.start <= part.window.start
        and whole.window.end >= part.window.end
    )


def clear(folder: Path, *slices: Slice) -> None:
    """Drops every file of these slices."""
    for part in slices:
        for path in folder.glob(f"{part.name}.*"):
            path.unlink(missing_ok=True)


def _text(window: Window) -> list[str]:
    return [iso(window.start), iso(window.end)]


def _window(texts: list[str]) -> Window:
    start, end = map(parse_moment, texts)
    return Window(start, end)
