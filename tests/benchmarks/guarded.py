"""Runs a program in a process of its own, which is ended where it takes too much memory or time."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tests.benchmarks.harness import environment

LOOK_EVERY = 0.1
ENDED = ("Z", "X")  # as /proc says it
MB, PAGE = 2**20, os.sysconf("SC_PAGE_SIZE")
# What programs say last that found no memory, each in its own words.
NO_MEMORY = (
    "MemoryError", "OutOfMemory", "Out of Memory", "OutOfMemoryException", "memory allocation of",
    "std::bad_alloc", "Unable to allocate", "Cannot allocate memory", "malloc of size",
    "ran out of memory",
)  # fmt: skip
NO_ROOM, TOO_LONG, FAILED = "does not fit", "too long", "failed"


@dataclass(frozen=True)
class Ended:
    """How a program ended.

    Attributes:
        seconds: by its own clock, or how long it ran until it was ended.
        peak_mb: the most memory that it held, together with its children.
        trouble: empty, or one of `does not fit`, `too long`, `failed`.
        why: in one line, what it did or what was done to it.
    """

    seconds: float
    peak_mb: float
    trouble: str = ""
    why: str = ""

    def as_json(self) -> dict[str, Any]:
        """Its fields, without those that are empty; numbers as they are read."""
        fields = asdict(self) | {"seconds": round(self.seconds, 3), "peak_mb": round(self.peak_mb)}
        return {name: value for name, value in fields.items() if value != ""}


def run(python: Path, call: Sequence[object], most_mb: float, longest: float) -> Ended:
    """Runs a script by a Python; its whole session is killed at a bound, which crashes nothing."""
    command = [python, *map(str, call)]
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err:
        begun = time.monotonic()
        process = subprocess.Popen(
            command, stdout=out, stderr=err, env=environment(), start_new_session=True
        )
        try:
            peak, trouble, why = _watched(process, most_mb, begun + longest)
        finally:
            _end(process)
        seconds = time.monotonic() - begun
        out.seek(0)
        err.seek(0)
        if not trouble and process.returncode == 0:
            told = json.loads(out.read().splitlines()[-1])
            return Ended(told["seconds"], max(told["peak_mb"], peak))
        if not trouble:
            trouble, why = _said(process.returncode, err.read(), peak)
        return Ended(seconds, peak, trouble, why)


def _watched(
    process: subprocess.Popen[bytes], most_mb: float, until: float
) -> tuple[float, str, str]:
    """The most that it held, and what is wrong as soon as something is; else when it ended."""
    begun, peak = time.monotonic(), 0.0
    while process.poll() is None:
        held = held_mb(process.pid)
        peak = max(peak, held)
        if held > most_mb:
            return peak, NO_ROOM, f"was ended at {held:,.0f} MB of {most_mb:,.0f}"
        if time.monotonic() > until:
            return peak, TOO_LONG, f"was ended after {time.monotonic() - begun:,.0f} s"
        time.sleep(LOOK_EVERY)
    return peak, "", ""


def held_mb(session: int) -> float:
    """Memory of all processes of a session, in MB."""
    return sum(pages for _, pages in _members(session)) * PAGE / MB


def _members(session: int) -> Iterator[tuple[int, int]]:
    """The processes of a session that live, in whatever group, and the pages that each holds."""
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text("utf-8").rpartition(")")[2].split()
        except OSError:  # it ended meanwhile
            continue
        if int(fields[3]) == session and fields[0] not in ENDED:
            yield int(stat.parent.name), int(fields[21])


def most_of_memory() -> float:
    """Nine tenths of this machine's memory, or less where less is free, in MB."""
    lines = Path("/proc/meminfo").read_text("utf-8").splitlines()
    kb = {line.split(":")[0]: int(line.split()[1]) for line in lines}
    return min(0.9 * kb["MemTotal"], kb["MemAvailable"] - 0.02 * kb["MemTotal"]) / 1024


def _said(code: int, text: str, peak: float) -> tuple[str, str]:
    """What was wrong by its exit code and its last words."""
    lines = [line.strip()[:200] for line in text.splitlines() if line.strip()]
    if lacking := [line for line in lines if any(words in line for words in NO_MEMORY)]:
        return NO_ROOM, f"held {peak:,.0f} MB, then: {lacking[-1]}"
    if code == -signal.SIGKILL:
        return NO_ROOM, f"was killed at {peak:,.0f} MB"
    return FAILED, f"ended with exit code {code}: {lines[-1] if lines else 'it said nothing'}"


def _end(process: subprocess.Popen[bytes]) -> None:
    """Its session, and it is waited for."""
    while there := [pid for pid, _ in _members(process.pid)]:
        for pid in there:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(LOOK_EVERY / 10)
    process.wait()
