"""Numbers to text, whole columns at a time: ids, digits and moments as Arrow strings."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import date, timedelta
from functools import cache
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

Numbers = npt.NDArray[np.int64]
Hashes = npt.NDArray[np.uint64]
_Bytes = npt.NDArray[np.uint8]
_FourLetters = npt.NDArray[np.uint32]
Text = Any
"""A `pa.StringArray`; releases of pyarrow differ in how they type it."""

_DAY_S = 86_400
_EPOCH = date(1970, 1, 1)
_AT_ONCE = 4  # digits
_UUID_PARTS = (0, 8, 12, 16, 20, 32)  # where they begin and end, without the dashes between


def message_ids(numbers: Numbers, seed: int) -> Text:
    """Ids as SMS has them, such as `0B00000127FDBC63`; different numbers, different ids.

    A route (`00` to `1F`), a counter and a scrambled part. Many look like numbers to a
    spreadsheet: `0E…`, `1E…`, leading zeros, nothing but digits.
    """
    counted = numbers.astype(np.uint64)
    low = _scramble32(counted, seed)
    route = mix(counted, seed + 1) % np.uint64(32)
    high = (counted >> np.uint64(32)) + np.uint64(1)
    return _fixed(_hex((route << np.uint64(56)) | (high << np.uint64(32)) | low, upper=True))


def uuids(numbers: Numbers, seed: int) -> Text:
    """Ids as records have them, in the form of a UUID."""
    halves = [_hex(mix(numbers.astype(np.uint64), seed + half)) for half in (2, 3)]
    digits_of = np.concatenate(halves, axis=1)
    letters = np.full((len(numbers), 36), ord("-"), np.uint8)
    for dashes, (start, end) in enumerate(pairwise(_UUID_PARTS)):
        letters[:, start + dashes : end + dashes] = digits_of[:, start:end]
    return _fixed(letters)


def mix(numbers: Hashes, seed: int) -> Hashes:
    """An invertible 64-bit hash (the end of SplitMix64)."""
    salt = (seed * 0x9E3779B97F4A7C15 + 0x9E3779B97F4A7C15) % 2**64
    mixed = numbers + np.uint64(salt)
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return mixed ^ (mixed >> np.uint64(31))


def _scramble32(numbers: Hashes, seed: int) -> Hashes:
    """An invertible hash of the lowest 32 bits (the end of MurmurHash3)."""
    mask = np.uint64(0xFFFFFFFF)
    mixed = (numbers ^ np.uint64(mix(np.array([seed], np.uint64), 0)[0])) & mask
    mixed = ((mixed ^ (mixed >> np.uint64(16))) * np.uint64(0x85EBCA6B)) & mask
    mixed = ((mixed ^ (mixed >> np.uint64(13))) * np.uint64(0xC2B2AE35)) & mask
    return mixed ^ (mixed >> np.uint64(16))


def digits(numbers: Numbers, width: int) -> Text:
    """Decimal digits with leading zeros."""
    letters = np.empty((len(numbers), width), np.uint8)
    left = numbers
    for end in range(width, 0, -_AT_ONCE):
        left, four = np.divmod(left, 10**_AT_ONCE)
        start = max(end - _AT_ONCE, 0)
        chosen = _fours()[four].view(np.uint8).reshape(-1, _AT_ONCE)
        letters[:, start:end] = chosen[:, start - end :]
    return _fixed(letters)


def pick(words: Iterable[str], which: Numbers) -> Text:
    """`words[which]`, as a column."""
    return take(pa.array(list(words), pa.string()), which)


def take(column: Any, which: Numbers) -> Any:
    """The places of a column that are asked for, in that order."""
    places: Any = pa.array(which)
    return column.take(places)


def join(*parts: str | Text) -> Text:
    """Columns and constants side by side."""
    columns: tuple[Any, ...] = (*parts, "")
    return pc.binary_join_element_wise(*columns)


class Moments:
    """Moments as text, each in the forms that are asked of it.

    Args:
        ms: milliseconds since 1970-01-01 UTC.
    """

    def __init__(self, ms: Numbers) -> None:
        seconds, self._ms = np.divmod(ms, 1000)
        self._days, self._seconds = np.divmod(seconds, _DAY_S)

    def date(self) -> Text:
        """`2026-01-31`."""
        return self._of_days("%Y-%m-%d")

    def time(self) -> Text:
        """`12:00:00`."""
        return take(_clock(), self._seconds)

    def thousandths(self) -> Text:
        """`.000`."""
        return take(_thousandths(), self._ms)

    def minute(self) -> Text:
        """`2601311200`, as scts has it."""
        return join(self._of_days("%y%m%d"), take(_minutes(), self._seconds // 60))

    def _of_days(self, form: str) -> Text:
        first, last = (int(f(self._days)) if len(self._days) else 0 for f in (np.min, np.max))
        words = [f"{_EPOCH + timedelta(days=day):{form}}" for day in range(first, last + 1)]
        return pick(words, self._days - first)


@cache
def _clock() -> Any:
    return pa.array([f"{s // 3600:02}:{s // 60 % 60:02}:{s % 60:02}" for s in range(_DAY_S)])


@cache
def _thousandths() -> Any:
    return pa.array([f".{ms:03}" for ms in range(1000)])


@cache
def _minutes() -> Any:
    return pa.array([f"{m // 60:02}{m % 60:02}" for m in range(1440)])


@cache
def _fours() -> _FourLetters:
    letters = "".join(f"{n:04}" for n in range(10**_AT_ONCE)).encode()
    return np.frombuffer(letters, np.uint32)


@cache
def _hex_fours(upper: bool) -> _FourLetters:
    form = "04X" if upper else "04x"
    letters = "".join(f"{n:{form}}" for n in range(1 << 16)).encode()
    return np.frombuffer(letters, np.uint32)


def _hex(numbers: Hashes, upper: bool = False) -> _Bytes:
    fours = _hex_fours(upper)[numbers.astype(">u8").view(">u2")]
    letters: _Bytes = fours.view(np.uint8).reshape(len(numbers), 16)
    return letters


def _fixed(letters: _Bytes) -> Text:
    """Rows of equally many ASCII letters as strings, without a look at each."""
    rows, width = letters.shape
    offsets: Any = np.arange(0, (rows + 1) * width, width, dtype=np.int32)
    flat: Any = np.ascontiguousarray(letters)
    return pa.StringArray.from_buffers(rows, pa.py_buffer(offsets), pa.py_buffer(flat))
