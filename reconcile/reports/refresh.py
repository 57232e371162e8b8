"""Asks for the newest state of messages by their ids, 20 a call; each answer is on disk at once."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from reconcile.days import iso, parse_moment
from reconcile.errors import ApiError, ContractError, VonageError
from reconcile.reports import raw as raw_slices
from reconcile.reports.client import IDS_PER_CALL, Client
from reconcile.reports.slices import Source
from reconcile.reports.underway import Kept, Pages
from reconcile.store import read_json, write_json

Submit = Callable[..., Future[Any]]
PREFIX = "by-id-"


@dataclass(frozen=True)
class Wanted:
    """One message to ask for: by its message id, or by the API's own id if that is of no use."""

    message_id: str
    record_id: str | None = None


@dataclass
class Answers:
    """What one source has answered by id, as it lies on disk.

    Attributes:
        source, folder: whose messages, and where its files lie.
        as_of: of the run that asked.
        asked: message ids that were asked for and answered, found or not.
        left_out: how many were not asked for: past `refresh_limit`, or behind a failure.
        billed: records that came.
        failure: why not all were asked for.
        is_refused: whether asking by id is what Vonage refuses.
    """

    source: Source
    folder: Path
    as_of: datetime
    asked: set[str] = field(default_factory=set)
    billed: int = 0
    left_out: int = 0
    failure: VonageError | ContractError | None = None
    is_refused: bool = False
    kept: Kept = lambda: None
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def raw(self) -> Path:
        """The raw slice of what came."""
        return self._path("parquet")

    def ask(self, client: Client, wanted: list[Wanted], submit: Submit, progress: Any) -> None:
        """Asks for those that were not asked for yet; what fails is noted, what came is kept.

        The first call goes alone: where Vonage knows none of its message ids, the API's own ids
        are tried, and if they are known, asked for from then on.
        """
        new = [w for w in wanted if w.message_id not in self.asked]
        todo = [tuple(new[at : at + IDS_PER_CALL]) for at in range(0, len(new), IDS_PER_CALL)]
        if not todo:
            return
        self._begin()
        first, *rest = todo
        by_record_id = self._ask_first(client, first, progress)
        tasks = [submit(self._ask, client, batch, by_record_id, progress) for batch in rest]
        for task in tasks:
            task.result()

    def write(self) -> bool:
        """Writes the raw slice; says whether a record came at all."""
        raw_slices.write_pages((page["records"] for page in self._pages), self.raw)
        return self.billed > 0

    def forget(self) -> None:
        """Drops all files: what came is in the store."""
        for ending in ("pages", "parquet", "json"):
            self._path(ending).unlink(missing_ok=True)
        self.kept()

    def _begin(self) -> None:
        """Lets the note be where its answers will be: without it nobody finds them again."""
        if not self._path("json").exists():
            self._pages.forget()  # answers without a note were taken in
        write_json(self._path("json"), {"as_of": iso(self.as_of), "source": self._named()})
        self.kept()

    def _ask_first(self, client: Client, batch: tuple[Wanted, ...], progress: Any) -> bool:
        """Whether the ids to ask with are the API's own."""
        known = self.billed
        self._ask(client, batch, False, progress, is_first=True)
        others = tuple(w for w in batch if w.record_id and w.record_id != w.message_id)
        if self.failure or self.billed > known or not others:
            return False
        self._ask(client, others, True, progress, is_first=True)
        return self.billed > known

    def _ask(
        self, client: Client, batch: tuple[Wanted, ...], by_record_id: bool, progress: Any,
        is_first: bool = False,
    ) -> None:  # fmt: skip
        if self.failure:
            return
        ids = [(w.record_id or w.message_id) if by_record_id else w.message_id for w in batch]
        try:
            page = client.records_by_id(self.source, ids)
        except (VonageError, ContractError) as error:
            self.failure = self.failure or error
            refusal = isinstance(error, ApiError) and error.status in (400, 403, 404, 422)
            self.is_refused = self.is_refused or (is_first and refusal)
            return
        with self._lock:
            self._pages.append({"asked": [w.message_id for w in batch], "records": page.records})
            self.asked.update(w.message_id for w in batch)
            self.billed += len(page.records)
        progress(f"{self.source.name} by id", len(page.records))

    @property
    def _pages(self) -> Pages:
        return Pages(self._path("pages"), self.kept)

    def _named(self) -> list[str]:
        return [self.source.account_id, self.source.product]

    def _path(self, ending: str) -> Path:
        return self.folder / f"{PREFIX}{self.source.name}.{ending}"


def left(folder: Path, kept: Kept) -> Iterator[Answers]:
    """What runs before have asked for by id and did not take in."""
    for path in sorted(folder.glob(f"{PREFIX}*.json")):
        note = read_json(path)
        answers = Answers(Source(*note["source"]), folder, parse_moment(note["as_of"]), kept=kept)
        for page in answers._pages:
            answers.asked.update(page["asked"])
            answers.billed += len(page["records"])
        yield answers
