"""Writes a data folder of labelled traffic: the sandbox's world, the captures, and the truth.

    DIR/sandbox.json                         accounts, what was asked for, how to judge it
    DIR/world/day=YYYY-MM-DD/*.parquet       one row a message, as the Reports API will show it
    DIR/dlr/*                                the captured receipts, with duplicates and noise
    DIR/truth.parquet                        each message's verdict, reason and fault
    DIR/orphans.parquet                      ids of receipts that belong to no message

Traffic is made in chunks, each from its own random numbers: memory stays bounded, and the same
arguments make the same content.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from reconcile.days import end_of, iso, start_of
from reconcile.errors import UsageError
from reconcile.sandbox import traffic, wording
from reconcile.sandbox.captures import DAY_MS, Captures, Lines
from reconcile.sandbox.faults import FAULTS, ORPHAN, counts
from reconcile.sandbox.letters import Numbers
from reconcile.sandbox.traffic import Messages, Random
from reconcile.sandbox.wording import Account

START = date(2026, 1, 5)
CHUNK = 200_000
ACCOUNT = Account("5a4d0b0e", "invented-for-the-sandbox")
_GRACE = timedelta(hours=24)
# The platform gives a message up some minutes after its deadline, and is heard after that.
_MARGIN = timedelta(hours=1)


@dataclass(frozen=True)
class Generated:
    """What was written: counts of messages, receipt lines, other lines, and of each fault.

    From `mature_at` on, judging all of it must give the truth. `command` does that, started in
    the folder with the sandbox's address and the credentials in the environment.
    """

    folder: Path
    messages: int
    receipts: int
    rejects: int
    blank: int
    faults: dict[str, int]
    mature_at: datetime
    command: str


@dataclass(frozen=True)
class Chunk:
    """Messages `first` to `first + messages` of a day; `part` is their part of its traffic."""

    index: int
    day: date
    first: int
    messages: int
    part: tuple[float, float]
    file: str


@dataclass(frozen=True)
class Made:
    """What a chunk is made of.

    Attributes:
        own, strange: its messages, and those of which nothing but receipts will be seen.
        records: one row a message of `own`, as the Reports API will show it.
        lines: the receipts of `own`, then those of `strange`.
    """

    own: Messages
    strange: Messages
    records: pa.Table
    lines: tuple[Lines, ...]


def generate(
    folder: Path,
    *,
    messages: int,
    days: int,
    seed: int,
    start: date = START,
    account: Account = ACCOUNT,
    chunk: int = CHUNK,
    late_records: float = 0.0,
) -> Generated:
    """Writes `messages` in total over `days` UTC days into a folder that is new or empty.

    A share `late_records` of them shows in the API only some hours after the end of its day.

    Raises:
        UsageError: there is something in the folder already, or a number cannot be meant.
    """
    _check(folder, messages, days, chunk)
    if not 0 <= late_records <= 1:
        raise UsageError(f"late_records must be a share from 0 to 1, not {late_records}")
    folder.mkdir(parents=True, exist_ok=True)
    with (
        Captures(folder / "dlr") as captures,
        pq.ParquetWriter(folder / "truth.parquet", wording.TRUTH, compression="zstd") as truth,
        pq.ParquetWriter(folder / "orphans.parquet", wording.ORPHANS, compression="zstd") as lost,
    ):
        for part in plan(messages, days, start, chunk):
            made = make(part, messages, seed, account, late_records)
            _write_world(folder, part, made.records)
            for lines in made.lines:
                captures.write(lines)
            truth.write_table(wording.truth(made.own, seed))
            lost.write_table(wording.orphans(made.strange, seed))
            # Time travellers are captured on the day before their message, no receipt earlier.
            captures.close_before(_midnight_ms(part.day) // DAY_MS - 1)
    counted = captures.receipts, captures.rejects, captures.blank
    command = _command(start, days)
    told = Generated(folder, messages, *counted, counts(messages), mature_at(start, days), command)
    _write_about(told, account, seed, days, start)
    return told


def plan(messages: int, days: int, start: date = START, chunk: int = CHUNK) -> Iterator[Chunk]:
    """The chunks of so many messages over so many days, in order of time."""
    index = first = 0
    for n in range(days):
        of_day = messages * (n + 1) // days - messages * n // days
        pieces = math.ceil(of_day / chunk)
        for piece in range(pieces):
            size = of_day * (piece + 1) // pieces - of_day * piece // pieces
            part = (piece / pieces, (piece + 1) / pieces)
            day = start + timedelta(days=n)
            yield Chunk(index, day, first, size, part, f"part-{piece:04}.parquet")
            index, first = index + 1, first + size


def make(
    part: Chunk, total: int, seed: int, account: Account = ACCOUNT, late_records: float = 0.0
) -> Made:
    """Makes one chunk of `total` messages; it needs no other, and the same arguments make the same.

    Args:
        part: which of the chunks of `plan`.
        total: how many messages all chunks have.
        seed: of all of them.
        account: whose they are.
        late_records: a share of its records shows only some hours after the end of the day.
    """
    random = np.random.default_rng([seed, part.index])
    own, strange = _invent(random, part, total, seed, counts(total))
    records = wording.records(random, own, seed, account)
    if late_records:  # of a generator of their own: all else stays as it is without them
        late = np.random.default_rng([seed, part.index, 1])
        midnight_ms = _midnight_ms(part.day + timedelta(days=1))
        records = wording.with_late(late, records, midnight_ms, late_records)
    lines = tuple(
        wording.lines(random, group, traffic.receipts_of(random, group), seed, account)
        for group in (own, strange)
    )
    return Made(own, strange, records, lines)


def mature_at(start: date, days: int) -> datetime:
    """When everything of days that begin with `start` is mature."""
    last = start + timedelta(days=days - 1)
    return end_of(last) + timedelta(milliseconds=traffic.LONGEST_VALIDITY_MS) + _GRACE + _MARGIN


def _check(folder: Path, messages: int, days: int, chunk: int) -> None:
    for name, number in (("messages", messages), ("days", days), ("chunk", chunk)):
        if number < 1:
            raise UsageError(f"{name} must be at least 1, not {number}")
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UsageError(f"{folder} is not empty: name a new folder for the traffic")


def _invent(
    random: Random, part: Chunk, total: int, seed: int, faults: dict[str, int]
) -> tuple[Messages, Messages]:
    """A chunk's messages, and those of which nothing but receipts will be seen."""
    number = np.arange(part.first, part.first + part.messages)
    orphans = faults[ORPHAN.name]
    ends = (orphans * place // total for place in (part.first, part.first + part.messages))
    strange = total + np.arange(*ends)
    labels = _faults(number, total, seed, faults), np.full(len(strange), FAULTS.index(ORPHAN))

    def group(numbers: Numbers, label: Numbers) -> Messages:
        since_midnight = traffic.times_in_day(random, len(numbers), part.part)
        return traffic.invent(random, numbers, label, _midnight_ms(part.day) + since_midnight)

    return group(number, labels[0]), group(strange, labels[1])


def _faults(number: Numbers, total: int, seed: int, faults: dict[str, int]) -> Numbers:
    """Each message's fault: exactly as many as were counted, spread over all of the traffic."""
    step = round(total * 0.618034) | 1
    while math.gcd(step, total) != 1:
        step += 2
    scattered = (number * step + seed) % total
    ends = np.cumsum([faults[fault.name] for fault in FAULTS if fault is not ORPHAN])
    found = np.searchsorted(ends, scattered, side="right")
    return np.where(found == len(ends), len(FAULTS), found)


def _midnight_ms(day: date) -> int:
    return int(start_of(day).timestamp()) * 1000


def _write_world(folder: Path, part: Chunk, records: pa.Table) -> None:
    path = folder / "world" / f"day={part.day}" / part.file
    path.parent.mkdir(parents=True, exist_ok=True)
    # Without Arrow's own schema: dictionaries speed up writing, readers are to see plain strings.
    pq.write_table(records, path, compression="zstd", store_schema=False)


def _command(start: date, days: int) -> str:
    """What judges all of it when it is mature."""
    span = f"--from {start} --to {start + timedelta(days=days)}"
    at = iso(mature_at(start, days))
    return f"reconcile run {span} --as-of {at} --store store --dlr 'dlr/*'"


def _write_about(made: Generated, account: Account, seed: int, days: int, start: date) -> None:
    about = {
        "format": 1,
        "accounts": [{"api_key": account.api_key, "api_secret": account.api_secret}],
        "seed": seed,
        "messages": made.messages,
        "days": days,
        "start": str(start),
        "mature_at": iso(made.mature_at),
        "receipts": made.receipts,
        "rejects": made.rejects,
        "blank": made.blank,
        "faults": made.faults,
        "command": made.command,
    }
    text = json.dumps(about, indent=2) + "\n"
    (made.folder / "sandbox.json").write_text(text, "utf-8")
