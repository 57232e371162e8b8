"""Finds the JSON objects in a stretch of bytes: an array's elements, or values one after another.

Only braces outside of strings are counted, all at once as columns; what lies between two objects
(commas, brackets, spaces) is passed over, and anything else there is a part of its own.
"""

from __future__ import annotations

import numpy as np

QUOTE, BACKSLASH, OPEN, CLOSE = b'"\\{}'
BETWEEN = b" \t\r\n,[]"


def split(data: bytes, longest: int) -> tuple[list[bytes], int]:
    """The objects that end in `data`, in order, and how many bytes they take.

    Objects that do not end within `longest` bytes are broken: they are cut at the next line end, so
    that what follows is read again.
    """
    starts, ends = _bounds(data)
    parts, at = [], 0
    for start, end in zip(starts, ends, strict=False):
        parts += _strange(data[at:start])
        parts.append(data[start:end])
        at = end
    rest = data[at:]
    if len(rest) <= longest:
        return parts, at
    begun = len(rest) - len(rest.lstrip(BETWEEN))
    cut = rest.find(b"\n", begun + 1) + 1 or longest
    return [*parts, rest[begun:cut]], at + cut


def _strange(gap: bytes) -> list[bytes]:
    gap = gap.strip(BETWEEN)
    return [gap] if gap else []


def _bounds(data: bytes) -> tuple[list[int], list[int]]:
    """Where objects that are in no other begin, and where they end."""
    codes = np.frombuffer(data, np.uint8)
    quotes = np.flatnonzero(codes == QUOTE)
    if BACKSLASH in data:
        quotes = quotes[~_escaped(codes, quotes)]
    braces = np.flatnonzero((codes == OPEN) | (codes == CLOSE))
    braces = braces[np.searchsorted(quotes, braces) % 2 == 0]
    steps = np.where(codes[braces] == OPEN, 1, -1)
    # A brace too many closes nothing: depth counts from its lowest so far.
    sums = np.cumsum(steps)
    depth = sums - np.minimum(np.minimum.accumulate(sums), 0)
    opened = (depth == 1) & (steps == 1)
    closed = (depth == 0) & (steps == -1) & (np.concatenate([[0], depth[:-1]]) == 1)
    return braces[opened].tolist(), (braces[closed] + 1).tolist()


def _escaped(codes: np.ndarray, quotes: np.ndarray) -> np.ndarray:
    """Whether an odd number of backslashes stands before each quote."""
    others = np.flatnonzero(codes != BACKSLASH)
    before = np.searchsorted(others, quotes)  # the quote itself is none of them
    last = np.where(before > 0, others[np.maximum(before - 1, 0)], -1)
    odd: np.ndarray = (quotes - 1 - last) % 2 == 1
    return odd
