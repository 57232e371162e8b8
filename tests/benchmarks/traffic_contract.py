"""Chunks of the generator's traffic as rows of `records` and `receipts`, without a file between.

Column for column this is what the job's own readers make of the same traffic served and captured
(tests/test_benchmark_traffic.py holds it against them, row for row), many times as fast: the words
are known to be clean already. What is left to the engine are the keyed hashes of the handsets.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime, timedelta
from threading import Lock
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from reconcile import border
from reconcile.sandbox.captures import DAY_MS, STYLES, WITHOUT_CAPTURE_TIME, Lines
from reconcile.sandbox.generate import Made
from reconcile.sandbox.letters import Numbers
from reconcile.sandbox.places import NETWORKS
from reconcile.sandbox.traffic import HANDSETS
from reconcile.tables import MONEY, RECEIPTS, RECORDS, TIME

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

EPOCH = date(1970, 1, 1)
# Columns of `records` that stand in the world under another name, and those that nothing is in.
RECORD_NAMES = {
    "record_id": "id", "sender": "from", "network_code": "network", "received_at": "date_received",
    "finalized_at": "date_finalized", "latency_ms": "latency", "price": "total_price",
    "validity_ms": "validity_period",
}  # fmt: skip
# The same of `receipts`, and of a webhook's fields.
RECEIPT_NAMES = {
    "message_id": "messageId", "account_id": "api-key", "client_ref": "client-ref", "sender": "to",
    "network_code": "network-code", "error_code": "err-code",
}  # fmt: skip
EACH_ITS_OWN = ("message_id", "client_ref")
# Days since 1970 and number of the style: a capture.
Source = tuple[int, int]


@dataclass(frozen=True)
class Rows:
    """A chunk's rows.

    Attributes:
        records: in the contract of `records`, texts of few words as dictionaries.
        receipts: in that of `receipts`, likewise; their lines count from 0, within this chunk.
        parts: where in `receipts` those of each day of push stand.
        sources: how many lines the chunk has of each capture.
    """

    records: pa.Table
    receipts: pa.Table
    parts: dict[str, slice]
    sources: dict[Source, int]


class Hidden:
    """The keyed hashes of the invented handsets, each made by the engine when it is first needed.

    Numbers of the generator are a dial code, 000 and six digits, so that each has a place: looked
    up there, a hash is had a dozen times as fast as it is made. All of them are 192 MB.

    Args:
        con: an engine with the key, one thread, and insertion order kept.
    """

    def __init__(self, con: DuckDBPyConnection) -> None:
        self._con, self._lock = con, Lock()
        dials = sorted({int(network.country.dial) for network in NETWORKS})
        self._country = np.full(1000, -1)
        self._country[dials] = np.arange(len(dials))
        self._known = np.zeros(len(dials) * HANDSETS, bool)
        self._hashes = np.zeros(len(dials) * HANDSETS, f"S{border.HASH_DIGITS}")

    def of(self, numbers: Any) -> Any:
        """Numbers as the job hides them."""
        values = numbers.cast(pa.int64()).to_numpy()
        places = self._country[values // 10**9] * HANDSETS + values % HANDSETS
        self._learn(numbers, places)
        letters = self._hashes[places]
        width = letters.itemsize
        offsets = np.arange(0, (len(letters) + 1) * width, width, dtype=np.int32)
        return pa.StringArray.from_buffers(
            len(letters), pa.py_buffer(offsets), pa.py_buffer(letters.view(np.uint8))
        )

    def _learn(self, numbers: Any, places: Numbers) -> None:
        with self._lock:
            new = np.flatnonzero(~self._known[places])
            if not len(new):
                return
            once, first = np.unique(places[new], return_index=True)
            table = pa.table({"number": numbers.take(pa.array(new[first]))})
            self._con.register("numbers", table)
            hidden = f"SELECT {border.recipient('number', 'hash')} AS hidden FROM numbers"
            found = self._con.execute(hidden).to_arrow_table()["hidden"]
            self._con.unregister("numbers")
            self._hashes[once] = found.to_numpy().astype(self._hashes.dtype)
            self._known[once] = True


def rows_of(hidden: Hidden, made: Made, fetched_at: datetime) -> Rows:
    """What the job would have in its store of a chunk that was fetched then."""
    records = _records(made.records, hidden.of(made.records["to"].combine_chunks()), fetched_at)
    heard = pa.concat_arrays([lines.columns["msisdn"] for lines in made.lines])
    return Rows(records, *_receipts(made.lines, hidden.of(heard)))


def file_of(source: Source) -> str:
    """The name of a capture's file."""
    day, style = source
    return STYLES[style].file.format(EPOCH + timedelta(days=day))


def lines_before(source: Source) -> int:
    """The header and the noise that a capture begins with."""
    style = STYLES[source[1]]
    return style.is_csv + len(style.noise)


def _records(world: pa.Table, recipient: Any, fetched_at: datetime) -> pa.Table:
    n = len(world)
    made = {
        "client_ref": _said(world["client_ref"]),
        "sender_used": _either(_said(world["changed_from"]), _said(world["forced_from"])),
        "recipient": recipient,
        "status": _either(world["status"], world["status_before"]),
        # As long as it is not final, the API shows no error.
        "error_code": pc.if_else(
            world["status"].is_valid(), world["error_code"].cast(pa.string()), None
        ).dictionary_encode(),
        "currency": _said(world["currency"]),
        "fetched_at": pa.repeat(pa.scalar(fetched_at, TIME), n),
        "asked_at": pa.nulls(n, TIME),
    }
    names = RECORDS.names
    columns = [
        made[name] if name in made else world[RECORD_NAMES.get(name, name)] for name in names
    ]
    return pa.table(columns, names)


def _receipts(
    groups: tuple[Lines, ...], recipient: Any
) -> tuple[pa.Table, dict[str, slice], dict[Source, int]]:
    """Receipts by day of push, then in the order of their captures; see `Rows`."""
    pushed_ms, captured_ms, style, group = (
        np.concatenate(parts)
        for parts in zip(
            *((g.pushed_ms, g.captured_ms, g.style, np.full(len(g.style), n))
              for n, g in enumerate(groups)), strict=True)
    )  # fmt: skip
    source, in_its_day = captured_ms // DAY_MS * len(STYLES) + style, captured_ms % DAY_MS
    written = np.argsort((source * len(groups) + group) * DAY_MS + in_its_day, kind="stable")
    known, first, counts = np.unique(source[written], return_index=True, return_counts=True)
    which = np.repeat(np.arange(len(known)), counts)
    day = pushed_ms[written] // DAY_MS
    by_day = np.argsort(day, kind="stable")
    days, starts = np.unique(day[by_day], return_index=True)
    order = written[by_day]

    given = {name: pa.concat_arrays([g.columns[name] for g in groups]).take(pa.array(order))
             for name in groups[0].columns}  # fmt: skip
    sources = [(int(number) // len(STYLES), int(number) % len(STYLES)) for number in known]
    untimed = style[order] == WITHOUT_CAPTURE_TIME
    made = {
        "product": _same("SMS", len(order)),
        "recipient": recipient.take(pa.array(order)),
        "price": _money(given["price"]),
        "pushed_at": _moments(pushed_ms[order]),
        "captured_at": _moments(captured_ms[order], untimed),
        "source": _words([file_of(each) for each in sources], which[by_day]),
        "line": pa.array(np.arange(len(order))[by_day] - first[which[by_day]]),
        "signature": _same("unsigned", len(order)),
    }
    columns = [
        made[name] if name in made
        else _said(given[RECEIPT_NAMES.get(name, name)], few=name not in EACH_ITS_OWN)
        for name in RECEIPTS.names
    ]  # fmt: skip
    ends = [*starts[1:], len(order)]
    parts = {str(EPOCH + timedelta(days=int(each))): slice(int(start), int(end))
             for each, start, end in zip(days, starts, ends, strict=True)}  # fmt: skip
    table = pa.table(columns, RECEIPTS.names)
    return table, parts, dict(zip(sources, map(int, counts), strict=True))


def _said(column: Any, *, few: bool = False) -> Any:
    """Texts, null where they are blank; as a dictionary if they are few."""
    if pa.types.is_dictionary(column.type):
        column = column.cast(pa.string())
    column = pc.if_else(pc.not_equal(column, ""), column, None)
    return column.dictionary_encode() if few else column


def _either(first: Any, second: Any) -> Any:
    return pc.coalesce(first.cast(pa.string()), second.cast(pa.string())).dictionary_encode()


def _money(texts: Any) -> Any:
    encoded = texts.dictionary_encode()
    return encoded.dictionary.cast(MONEY).take(encoded.indices)


def _moments(ms: Numbers, missing: Any = None) -> Any:
    return pa.array(ms * 1000, pa.int64(), mask=missing).cast(TIME)


def _words(words: list[str], which: Numbers) -> Any:
    return pa.DictionaryArray.from_arrays(pa.array(which.astype(np.int32)), pa.array(words))


def _same(word: str, n: int) -> Any:
    return _words([word], np.zeros(n, np.int32))
