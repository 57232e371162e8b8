"""Takes send logs into `sent` and `rejects`: what is new, each line once, as captures are.

Their sources begin with `send_log:`, so that a file may be a capture as well.
"""

# ruff: noqa: S608 - SQL is put together from names of our own; texts of others are quoted

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc

from reconcile.engine import quote
from reconcile.errors import ContractError
from reconcile.receipts.adding import FileRead, Kind, Problem, known_of, publish, read_new
from reconcile.receipts.formats import Block, Reading, found_in
from reconcile.receipts.identity import Place, is_there
from reconcile.receipts.intake import RAW_BYTES, Progress, ended, stand_in
from reconcile.receipts.lines import CutError
from reconcile.sendlog import parse
from reconcile.store import Ledger, Store, parquet_query
from reconcile.tables import REJECTED_LINES, REJECTS, SENT

if TYPE_CHECKING:
    from ibis.backends.duckdb import Backend

PREFIX = "send_log:"
# What is read: columns of `sent` and their `day`, rejects, and the bytes of those.
PARTS, BAD_PARTS, RAW_PARTS = "sent_parts", "sent_bad_parts", "sent_raw_parts"
COUNTED = ("lines", "answers", "rejects", "blank", "messages", "refused")


KIND = Kind(
    SENT, "send_logs", "send_intake", "send_changed", (*COUNTED, "strangers"),
    PARTS, BAD_PARTS, "true", RAW_PARTS,
)  # fmt: skip


@dataclass
class Log(FileRead):
    """What a run read of one send log; lines = answers + rejects + blank.

    Attributes:
        messages: what the answers name; `refused` of them were not accepted.
    """

    answers: int = 0
    messages: int = 0
    refused: int = 0


@dataclass
class Taken:
    """What an ingest did: the logs that it read, and what is wrong with files."""

    logs: list[Log] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)


def ingest(
    store: Store, con: Backend, ledger: Ledger, files: list[Path], as_of: datetime, pii: str,
    progress: Progress, urls: Mapping[str, str] | None = None,
) -> Taken:  # fmt: skip
    """Reads what is new among `files`, and publishes it; a log that cannot be read stops no other.

    `urls` tells where files came from that were fetched, by path.

    Raises:
        ContractError: lines are unaccounted for.
    """
    intake, known = _Intake(con, pii, progress), known_of(ledger, KIND, PREFIX, urls)
    taken = Taken(*read_new(store, intake, KIND, known, files))
    publish(store, con, ledger, KIND, known, intake, taken.logs, as_of)
    intake.close()
    return taken


class _Intake:
    """Reads logs into the engine's tables."""

    def __init__(self, con: Backend, pii: str, progress: Progress) -> None:
        self.con, self._pii, self._progress = con.con, pii, progress
        for name, table, more in (
            (PARTS, SENT, "NULL::VARCHAR AS day"), (BAD_PARTS, REJECTS, ""),
            (RAW_PARTS, REJECTED_LINES, ""),
        ):  # fmt: skip
            columns = f"*, {more}" if more else "*"
            self.con.execute(f"CREATE OR REPLACE TABLE {name} AS SELECT {columns} "
                             f"FROM ({parquet_query(table, [])})")  # fmt: skip

    def close(self) -> None:
        """Drops what was read."""
        for name in (PARTS, BAD_PARTS, RAW_PARTS):
            self.con.execute(f"DROP TABLE IF EXISTS {name}")

    def drop(self, place: Place) -> None:
        """Takes back what was read behind a place's start."""
        for name in (PARTS, BAD_PARTS, RAW_PARTS):
            self.con.execute(
                f"DELETE FROM {name} WHERE source = ? AND line > ?",
                [place.source, place.start.line],
            )

    def read(self, place: Place) -> tuple[Log, Reading]:
        """Reads what is new of a log, block by block.

        Raises:
            InputError: it is in no known format, or its columns are not an answer's.
            CutError: it was cut or replaced while it was being read.
            ContractError: a line is neither answer nor reject nor blank.
        """
        log = Log(place.source, str(place.path))
        state = dict(place.entry.get("state", {}))
        reading = Reading(place.path, place.start, ended(place), state, place.start)
        found = found_in(place.path, parse.FORMATS)
        if found is None:
            return log, reading
        log.format = found.name
        for work in found.read(self.con, reading):
            block = work(self.con)
            fields = block.fields
            lines = pc.count_distinct(fields["line"]).as_py()
            log.lines += lines
            log.blank += pc.sum(fields["blank"]).as_py() or 0
            if lines:
                self._sort_out(block, place.source)
            self._progress(place.path.name, lines)
        if not is_there(place.path, reading.mark):
            raise CutError(f"{place.path} was cut while it was read: the next run reads it")
        log.waits, log.damage = reading.waits, reading.damage
        self._count(log, place.start.line)
        return log, reading

    def stands_in(self, place: Place, other: str, sent: str, rejected: str) -> bool:
        """Whether all that was read of a place stands under another log, line for line."""
        same = "message_id, status, client_ref, sent_at, line, part"
        sides = ((PARTS, same, "true", sent), (RAW_PARTS, "line, raw", "true", rejected))
        return stand_in(self.con, place.source, other, sides)

    def days(self) -> tuple[set[str], bool]:
        """The partitions of what was read, and whether there are rejects."""
        found = self.con.execute(f"SELECT DISTINCT day FROM {PARTS}").fetchall()
        bad = self.con.execute(f"SELECT count(*) FROM {BAD_PARTS}").fetchone()
        return {day for (day,) in found}, bad != (0,)

    def _sort_out(self, block: Block, source: str) -> None:
        """Enters a block's messages; a line with one that cannot be read is a reject as a whole."""
        self.con.register("answers", block.fields)
        self.con.execute("CREATE OR REPLACE TEMP TABLE sorted_out AS "
                         + parse.messages("answers", source, self._pii))  # fmt: skip
        self.con.unregister("answers")
        bad = self.con.execute(
            "SELECT source, line, arg_min(kind, part) AS kind, arg_min(reason, part) AS reason "
            "FROM sorted_out WHERE reason IS NOT NULL GROUP BY ALL"
        ).to_arrow_table()
        self.con.register("bad_lines", bad)
        self.con.execute(f"INSERT INTO {BAD_PARTS} BY NAME FROM bad_lines")
        self.con.execute(
            f"INSERT INTO {PARTS} BY NAME SELECT * EXCLUDE (kind, reason) FROM sorted_out "
            "ANTI JOIN bad_lines USING (line)"
        )
        self.con.unregister("bad_lines")
        self.con.execute("DROP TABLE sorted_out")
        if bad.num_rows:
            raw = block.raw(bad["line"].combine_chunks())
            cut = pc.binary_slice(pc.fill_null(raw["raw"], b""), 0, RAW_BYTES)
            named = pa.array([source] * len(raw), pa.string())
            table = pa.table([named, raw["line"], cut], names=["source", "line", "raw"])
            self.con.register("raw_lines", table)
            self.con.execute(f"INSERT INTO {RAW_PARTS} FROM raw_lines")
            self.con.unregister("raw_lines")

    def _count(self, log: Log, before: int) -> None:
        own = f"WHERE source = {quote(log.source)} AND line > {before}"
        found = self.con.execute(
            f"SELECT count(DISTINCT line), count(*), count(*) FILTER (status <> '0'), "
            f"list(DISTINCT day) FROM {PARTS} {own}"
        ).fetchone() or (0, 0, 0, None)
        log.answers, log.messages, log.refused = map(int, found[:3])
        log.days = set(found[3] or ())
        stranger = f"starts_with(kind, {quote(parse.NOT_AN_ANSWER)})"
        bad = self.con.execute(
            f"SELECT count(*), count(*) FILTER ({stranger}) FROM {BAD_PARTS} {own}"
        ).fetchone() or (0, 0)
        log.rejects, log.strangers = map(int, bad)
        if log.lines != log.answers + log.rejects + log.blank:
            raise ContractError(
                f"{log.source}: {log.lines} lines, but {log.answers} answers, "
                f"{log.rejects} rejects and {log.blank} blank"
            )
