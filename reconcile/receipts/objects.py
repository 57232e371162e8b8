"""Finds the JSON objects in a stretch of bytes: an array's elements, or values one after another.

Only braces outside of strings are counted, all at once as columns; what lies between two objects
(commas, brackets, spaces) is passed over, and anything else there is a part of its own. Where an
object is broken, what follows is looked at object by object, so that it spoils no other.
"""

from __future__ import annotations

import json
import re

import numpy as np

QUOTE, BACKSLASH, OPEN, CLOSE, NEWLINE = b'"\\{}\n'
BETWEEN = b" \t\r\n,[]"
SOMETHING = re.compile(rb"[^ \t\r\n,\[\]]")
# Where the next object may begin behind a broken one: a value of a field stands behind a colon.
BEGINS = re.compile(r"[,{}\[\]\n][ \t\r]*(?=\{)")
# A value that is cut off within so many bytes of the end may go on there.
LONGEST_ESCAPE = 8
# An error costs the decoder as much as all that stands before it, so it is given little at first.
WINDOW = 4096
_DECODER = json.JSONDecoder(parse_int=str, parse_float=str)  # numbers of any length


def split(data: bytes, longest: int) -> tuple[list[bytes], int]:
    """The objects that end in `data`, in order, and how many bytes they take.

    An object that is broken, or does not end within `longest` bytes, ends where another may begin.
    """
    starts, ends = _bounds(data)
    parts, at = [], 0
    for start, end in zip(starts, ends, strict=False):
        gap = data[at:start].strip(BETWEEN)
        if gap:
            parts += _one_by_one(gap, 0, whole=True)[0] if b"{" in gap else [gap]
        parts.append(data[start:end])
        at = end
    more, used = _one_by_one(data[at:], longest, whole=False)
    return [*parts, *more], at + used


def _one_by_one(data: bytes, longest: int, *, whole: bool) -> tuple[list[bytes], int]:
    """As `split`, for bytes in which something is broken; `whole`: nothing goes on behind them."""
    text, parts, used = data.decode("latin-1"), [], 0  # a char a byte: JSON's own signs are ASCII
    while (at := _begin(data, used)) < len(text):
        end = _end(text, at)
        if end is None and not whole and len(text) - at <= longest:
            break
        if end is None or end < 0:
            next_one = BEGINS.search(text, at)
            end = next_one.end() if next_one else len(text)
        parts.append(data[at:end].rstrip(BETWEEN))
        used = end
    return parts, at if at - used > longest else used


def _begin(data: bytes, at: int) -> int:
    """Where something stands that is not between objects, or the end."""
    found = SOMETHING.search(data, at)
    return found.start() if found else len(data)


def _end(text: str, at: int) -> int | None:
    """Where an object ends; -1: it is broken; None: it goes on behind the end."""
    if text[at] != "{":
        return -1
    size = WINDOW
    while (end := _end_within(text[at : at + size])) is None and at + size < len(text):
        size *= 8
    return end if end is None or end < 0 else at + end


def _end_within(text: str) -> int | None:
    try:
        return _DECODER.raw_decode(text)[1]
    except json.JSONDecodeError as error:
        cut = error.msg.startswith("Unterminated") or error.pos > len(text) - LONGEST_ESCAPE
        return None if cut else -1
    except RecursionError:
        return -1


def _bounds(data: bytes) -> tuple[list[int], list[int]]:
    """Where objects that are in no other begin, and where they end."""
    codes = np.frombuffer(data, np.uint8)
    quotes = np.flatnonzero(codes == QUOTE)
    if BACKSLASH in data:
        quotes = quotes[~_escaped(codes, quotes)]
    braces = np.flatnonzero((codes == OPEN) | (codes == CLOSE))
    # No string goes on behind a line's end: a quote too many spoils its own line only.
    lines = np.concatenate([[0], np.flatnonzero(codes == NEWLINE)])
    before = np.searchsorted(quotes, lines)[np.searchsorted(lines, braces, side="right") - 1]
    braces = braces[(np.searchsorted(quotes, braces) - before) % 2 == 0]
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
