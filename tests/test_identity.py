"""A capture is known by its content: whatever becomes of its file, each line counts once."""

from __future__ import annotations

import bz2
import gzip
import itertools
import json
import lzma
import os
import signal
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import judge_support as core
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from backports import zstd
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from reconcile import engine
from reconcile.receipts import ingest, lines
from reconcile.receipts.intake import Capture, Wishes
from reconcile.store import Store
from reconcile.tables import REJECTED_LINES

AS_OF = datetime(2026, 2, 1, tzinfo=UTC)
# So many lines are more than the 4 KiB by which a capture is known.
MANY = 60
COMPRESS: dict[str, Callable[[bytes], bytes]] = {
    "gz": gzip.compress, "bz2": bz2.compress, "xz": lzma.compress, "zst": zstd.compress,
}  # fmt: skip
packed = pytest.mark.parametrize("ending", COMPRESS)


def dlr(n: int, **changes: Any) -> dict[str, Any]:
    """The fields of a receipt with an id of its own."""
    own = {"messageId": f"{n:016X}", "status": "delivered", "to": "Acmé",
           "message-timestamp": f"2026-01-{5 + n % 2:02} 10:00:00"}  # fmt: skip
    return own | changes


def line(n: int, **changes: Any) -> bytes:
    """A receipt as a line of NDJSON."""
    return json.dumps(dlr(n, **changes), ensure_ascii=False).encode() + b"\n"


def some(*numbers: int) -> bytes:
    """The lines from the first number up to the last."""
    return b"".join(map(line, range(*numbers)))


@dataclass
class Captures:
    """A folder of captures, and a store that takes them in as a nightly run does."""

    store: Store
    con: Any
    folder: Path
    problems: list[str] = field(default_factory=list)

    def write(self, name: str, data: bytes) -> Path:
        """A file of this content."""
        path = self.folder / name
        path.write_bytes(data)
        return path

    def append(self, name: str, data: bytes) -> None:
        """What a web server or an application does."""
        with (self.folder / name).open("ab") as file:
            file.write(data)

    def take(self, *files: Path) -> list[Capture]:
        """Ingests these files, or the folder, knowing no more than the store, and holds the sums.

        No row goes or changes, each new one is accounted for, rejects have their bytes.
        """
        before = {name: self.rows(name) for name in ("receipts", "rejects")}
        found = list(files) or ingest.find([str(self.folder)])[0]
        taken = ingest.ingest(self.store, self.con, self.store.ledger(), found, [], AS_OF,
                              Wishes("keep"), lambda *_: None)  # fmt: skip
        self.problems = [problem.reason for problem in taken.problems]
        for name, old in before.items():
            rows = self.rows(name)
            assert [row for row in rows if row in old] == old
            new = Counter(row["source"] for row in rows) - Counter(row["source"] for row in old)
            told = {c.source: getattr(c, name) for c in taken.captures if getattr(c, name)}
            assert dict(new) == told
        keys = [key(row) for name in before for row in self.rows(name)]
        assert len(keys) == len(set(keys))
        assert list(map(key, self.rows("rejects"))) == list(map(key, self.rows("rejected_lines")))
        return taken.captures

    def numbers(self) -> list[int]:
        """The number of each receipt in the store."""
        return sorted(int(row["message_id"], 16) for row in self.rows("receipts"))

    def rows(self, table: str) -> list[dict[str, Any]]:
        """The rows of a table, in the order of source and line."""
        files = (self.store.root / table).rglob("*.parquet")
        return sorted((row for f in files for row in pq.ParquetFile(f).read().to_pylist()), key=key)

    def sources(self) -> set[str]:
        """The names of all captures, without their folder."""
        return {Path(source).name for source in self.store.ledger().captures}


def key(row: dict[str, Any]) -> tuple[str, int]:
    return row["source"], row["line"]


@pytest.fixture(scope="module")
def one_engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """An engine for many stores."""
    backend = engine.connect("1GB", 2, tmp_path_factory.mktemp("spill"))
    yield backend
    backend.disconnect()


@pytest.fixture
def logs(one_engine: Any, tmp_path: Path) -> Captures:
    """An empty folder, and an empty store."""
    folder = tmp_path / "dlr"
    folder.mkdir()
    return Captures(Store.open(tmp_path / "store", create=True), one_engine, folder)


# Growth and rotation


@pytest.mark.parametrize("count", [1, MANY])
def test_growth(logs: Captures, count: int) -> None:
    """A log that grew is read on from where it ended, and its lines are numbered on."""
    path = logs.write("a.ndjson", some(count))
    logs.take()
    logs.append("a.ndjson", some(count, count + 3))
    [read] = logs.take()
    assert (read.lines, read.source) == (3, str(path))
    assert [row["line"] for row in logs.rows("receipts")] == list(range(1, count + 4))
    assert logs.numbers() == list(range(count + 3))
    assert logs.take() == []


@pytest.mark.parametrize("grown", [0, 2])
@pytest.mark.parametrize("count", [2, MANY])
def test_rotated(logs: Captures, count: int, grown: int) -> None:
    """A log that was rotated is known under its new name; what it had not told yet is read."""
    path = logs.write("a.ndjson", some(count))
    logs.take()
    logs.append("a.ndjson", some(count, count + grown))
    path.rename(logs.folder / "a.ndjson.1")
    logs.write("a.ndjson", some(100, 103))
    assert sum(read.lines for read in logs.take()) == 3 + grown
    assert logs.numbers() == [*range(count + grown), 100, 101, 102]
    assert logs.sources() == {"a.ndjson", "a.ndjson#2"}
    assert logs.take() == []


def test_names_move_on(logs: Captures) -> None:
    """Night after night all names move by one, and each line is counted in its own night."""
    for night in range(5):
        for n in range(night, 0, -1):
            (logs.folder / f"a.{n}").rename(logs.folder / f"a.{n + 1}")
        logs.write("a.1", some(night * MANY, (night + 1) * MANY))
        assert [read.lines for read in logs.take()] == [MANY]
    assert logs.numbers() == list(range(5 * MANY))


@packed
@pytest.mark.parametrize(("grown", "count"), [(0, MANY), (2, 2), (2, MANY)])
def test_compressed(logs: Captures, ending: str, grown: int, count: int) -> None:
    """A log that was compressed is not counted again, and what it grew before that is read."""
    path = logs.write("a.ndjson", some(count))
    logs.take()
    logs.write(f"a.ndjson.1.{ending}", COMPRESS[ending](some(count + grown)))
    path.write_bytes(some(100, 101))
    assert sum(read.lines for read in logs.take()) == grown + 1
    assert logs.numbers() == [*range(count + grown), 100]
    assert logs.take() == []


def test_beside_its_original(logs: Captures) -> None:
    """Original and compressed copies, side by side, are one capture."""
    logs.write("a.ndjson", some(MANY))
    for ending, compress in COMPRESS.items():
        logs.write(f"a.{ending}", compress(some(MANY)))
    logs.take()
    assert logs.numbers() == list(range(MANY))


def test_renamed(logs: Captures) -> None:
    """A new name makes no new capture, and it grows on under it."""
    path = logs.write("a.ndjson", some(3))
    logs.take()
    path.rename(logs.folder / "b.ndjson")
    assert logs.take() == []
    logs.append("b.ndjson", some(3, 5))
    assert [(read.source, read.lines) for read in logs.take()] == [(str(path), 2)]
    assert logs.store.ledger().captures[str(path)]["path"] == str(logs.folder / "b.ndjson")


# Copies that are being made


def test_copytruncate(logs: Captures) -> None:
    """The copy is the capture that was read; its original begins anew."""
    logs.write("a.ndjson", some(MANY))
    logs.take()
    logs.append("a.ndjson", some(MANY, MANY + 2))
    logs.write("a.ndjson.1", some(MANY + 2))
    assert [read.lines for read in logs.take()] == [2]
    logs.write("a.ndjson", b"")
    assert logs.take() == []
    logs.append("a.ndjson", some(100, 104))
    assert [read.lines for read in logs.take()] == [4]
    assert logs.numbers() == [*range(MANY + 2), *range(100, 104)]


@pytest.mark.parametrize("known", [0, 20, MANY])
@pytest.mark.parametrize("at", [0.02, 0.5, 0.97])
def test_copy_in_flight(logs: Captures, known: int, at: float) -> None:
    """A part of a copy counts nothing beside its original, nor does the whole copy then."""
    if known:
        logs.write("a.ndjson", some(known))
        logs.take()
    whole = some(MANY)
    logs.write("a.ndjson", whole)
    logs.write("a.ndjson.1", whole[: int(len(whole) * at)])
    logs.take()
    assert logs.numbers() == list(range(MANY))
    logs.write("a.ndjson.1", whole)
    logs.write("a.ndjson", some(100, 102))
    logs.take()
    assert logs.numbers() == [*range(MANY), 100, 101]


@pytest.mark.parametrize("known", [20, MANY])
@pytest.mark.parametrize("at", [0.02, 0.25, 0.97])
@pytest.mark.parametrize("pack", [bytes, gzip.compress])
def test_copy_in_flight_of_what_is_gone(
    logs: Captures, known: int, at: float, pack: Callable[[bytes], bytes]
) -> None:
    """The original is empty by now: the part of a copy counts what was not known, and no more."""
    logs.write("a.ndjson", some(known))
    logs.take()
    whole = pack(some(MANY))
    logs.write("a.ndjson", b"")
    logs.write("a.ndjson.1", whole[: int(len(whole) * at)])
    logs.take()
    assert len(logs.numbers()) == len(set(logs.numbers()))
    logs.write("a.ndjson.1", whole)
    logs.write("a.ndjson", some(100, 102))
    logs.take()
    assert logs.numbers() == [*range(MANY), 100, 101]
    assert logs.take() == []


# Truncated and written anew


@pytest.mark.parametrize("count", [1, 3, MANY, 2 * MANY])
def test_written_anew(logs: Captures, count: int) -> None:
    """Other content under the same name is another capture."""
    logs.write("a.ndjson", some(MANY))
    logs.take()
    logs.write("a.ndjson", some(100, 100 + count))
    assert [read.lines for read in logs.take()] == [count]
    assert logs.numbers() == [*range(MANY), *range(100, 100 + count)]


@pytest.mark.parametrize("count", [MANY - 5, MANY + 5])
@pytest.mark.parametrize("name", ["a.ndjson", "b.ndjson"])
def test_same_beginning(logs: Captures, name: str, count: int) -> None:
    """A log with the first 4 KiB of another is still another, shorter or longer, here or there."""
    logs.write("a.ndjson", some(MANY))
    logs.take()
    logs.write(name, some(MANY - 10) + some(100, 100 + count - MANY + 10))
    assert len(some(MANY - 10)) > lines.PROBE_BYTES
    assert [read.lines for read in logs.take()] == [count]
    twice = list(range(MANY - 10))
    wanted = [*range(MANY), *twice, *range(100, 100 + count - MANY + 10)]
    assert logs.numbers() == sorted(wanted)
    logs.append(name, some(200, 203))
    assert [read.lines for read in logs.take()] == [3]
    assert logs.numbers() == sorted([*wanted, 200, 201, 202])


@pytest.mark.parametrize("shared", [1, MANY])
@pytest.mark.parametrize("at_once", [True, False])
def test_two_logs_that_begin_alike(logs: Captures, shared: int, at_once: bool) -> None:
    """Two logs that share their first line, or far more, are read each to its end."""
    logs.write("a.ndjson", some(shared) + some(100, 105))
    if not at_once:
        logs.take()
    logs.write("b.ndjson", some(shared) + some(200, 205))
    logs.take()
    for n in range(2):
        logs.append("a.ndjson", line(110 + n))
        logs.append("b.ndjson", line(210 + n))
        assert [read.lines for read in logs.take()] == [1, 1]
    both = [*range(shared), *range(shared)]
    assert logs.numbers() == sorted([*both, *range(100, 105), 110, 111, *range(200, 205), 210, 211])


def test_header_is_no_identity(logs: Captures) -> None:
    """Two CSV files that were but their header when they were seen first are two captures."""
    head = b"messageId,status,to\n"
    for name in ("a.csv", "b.csv"):
        logs.write(name, head)
    logs.take()
    assert logs.store.ledger().captures == {}
    logs.append("a.csv", b"0A,delivered,Acme\n")
    logs.append("b.csv", b"0B,delivered,Acme\n")
    assert [read.receipts for read in logs.take()] == [1, 1]
    assert logs.numbers() == [10, 11]


# Last lines


def csv_of(n: int) -> bytes:
    return f"{n:016X},delivered,Acmé,2026-01-05 10:00:00\r\n".encode()


def access_of(n: int) -> bytes:
    query = f"messageId={n:016X}&status=delivered&to=Acmé&message-timestamp=2026-01-05+10:00:00"
    return (f'127.0.0.1 - - [05/Jan/2026:10:00:01 +0000] "GET /dlr?{query} HTTP/1.1" 200 0 "-" "-"'
            "\n").encode()  # fmt: skip


FORMATS = {
    "ndjson": (b"", line),
    "crlf": (b"", lambda n: line(n)[:-1] + b"\r\n"),
    "csv": (b"messageId,status,to,message-timestamp\r\n", csv_of),
    "log": (b"", access_of),
}


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("at", ["first", "amid", "é", "last", "end"])
def test_half_a_line(logs: Captures, name: str, at: str) -> None:
    """A last line without its end waits, wherever it was cut, and is one receipt in the end."""
    head, of = FORMATS[name]
    text = of(2)
    cut = {"first": 1, "amid": 30, "é": text.index("é".encode()) + 1,
           "last": len(text.rstrip()) - 1, "end": len(text) - 1}[at]  # fmt: skip
    path = logs.write(f"a.{name}", head + of(1) + text[:cut])
    [read] = logs.take()
    whole = name in ("ndjson", "crlf") and at == "end"  # a whole JSON object waits for nothing
    assert (read.receipts, read.rejects, read.waits) == (1 + whole, 0, 0 if whole else cut)
    logs.append(path.name, text[cut:] + of(3))
    logs.take()
    assert logs.numbers() == [1, 2, 3]
    assert [row["line"] for row in logs.rows("receipts")] == [n + bool(head) for n in (1, 2, 3)]
    assert {row["sender"] for row in logs.rows("receipts")} == {"Acmé"}
    assert logs.rows("rejects") == []
    assert logs.take() == []


@pytest.mark.parametrize("end", [b"\n", b"\r\n"])
@pytest.mark.parametrize("more", [0, 1])
def test_a_line_that_gets_its_end_later(logs: Captures, end: bytes, more: int) -> None:
    """A JSON line is taken without its end; the end that comes then is no line of its own."""
    logs.write("a.ndjson", line(1) + line(2).rstrip())
    logs.take()
    assert logs.numbers() == [1, 2]
    logs.append("a.ndjson", end[:1])
    assert sum(read.lines for read in logs.take()) == 0
    logs.append("a.ndjson", end[1:] + some(3, 3 + more))
    assert sum(read.lines for read in logs.take()) == more
    logs.append("a.ndjson", line(9))
    logs.take()
    assert logs.numbers() == [1, 2, *range(3, 3 + more), 9]
    assert [row["line"] for row in logs.rows("receipts")] == list(range(1, 4 + more))


def test_an_end_before_it_is_compressed(logs: Captures) -> None:
    """What was read without its last line's end is known again when it has one, compressed."""
    logs.write("a.ndjson", some(3).rstrip())
    logs.take()
    (logs.folder / "a.ndjson").unlink()
    logs.write("a.ndjson.gz", gzip.compress(some(3)))
    assert sum(read.lines for read in logs.take()) == 0
    assert logs.numbers() == [0, 1, 2]


@pytest.mark.parametrize("name", ["csv", "log"])
def test_a_file_that_does_not_grow(logs: Captures, name: str) -> None:
    """What waits is taken when the next run finds no more of it."""
    head, of = FORMATS[name]
    logs.write(f"a.{name}", head + of(1) + of(2).rstrip())
    assert [(read.receipts, read.waits > 0) for read in logs.take()] == [(1, True)]
    assert [(read.receipts, read.waits) for read in logs.take()] == [(1, 0)]
    logs.append(f"a.{name}", of(2)[len(of(2).rstrip()) :] + of(3))
    logs.take()
    assert logs.numbers() == [1, 2, 3]


@pytest.mark.parametrize("name", ["csv", "log"])
def test_a_quiet_file(logs: Captures, name: str) -> None:
    """A file that nobody has written to for ten minutes is whole."""
    head, of = FORMATS[name]
    path = logs.write(f"a.{name}", head + of(1) + of(2).rstrip())
    now = datetime.now(UTC)
    for minutes, found in ((9, [1]), (11, [1, 2])):
        moment = (now - timedelta(minutes=minutes)).timestamp()
        os.utime(path, (moment, moment))
        if minutes == 11:  # a fresh store: here it did not grow either
            logs.store = Store.open(logs.folder.parent / "another", create=True)
        logs.take()
        assert logs.numbers() == found


# Compressed streams, arrays, columns


@pytest.mark.parametrize("at", [0.4, 0.99])
def test_a_stream_that_is_cut(logs: Captures, at: float) -> None:
    """Of a compressed file that is still being written the rest is read when it is there."""
    whole = gzip.compress(some(3000))
    path = logs.write("a.ndjson.gz", whole[: int(len(whole) * at)])
    logs.take()
    assert logs.problems == []  # a copy under way is no problem, yet
    assert logs.numbers() == list(range(len(logs.numbers())))
    path.write_bytes(whole)
    logs.take()
    assert logs.numbers() == list(range(3000))
    assert logs.take() == []


@packed
@pytest.mark.parametrize("count", [MANY])
def test_members(logs: Captures, ending: str, count: int) -> None:
    """What is appended as a stream of its own is read on."""
    logs.write(f"a.{ending}", COMPRESS[ending](some(count)))
    logs.take()
    logs.append(f"a.{ending}", COMPRESS[ending](some(count, count + 3)))
    assert [read.lines for read in logs.take()] == [3]
    assert logs.numbers() == list(range(count + 3))


@pytest.mark.parametrize("indent", [None, 1])
@pytest.mark.parametrize("count", [1, MANY])
def test_an_array_that_grows(logs: Captures, count: int, indent: int | None) -> None:
    """An array's closing bracket moves; its objects are counted once."""
    for size in (count, count + 2, count + 5):
        logs.write("a.json", json.dumps([dlr(n) for n in range(size)], indent=indent).encode())
        logs.take()
        assert logs.numbers() == list(range(size))
    assert logs.take() == []


def test_parquet(logs: Captures) -> None:
    """A parquet file that was replaced by a longer one is another capture; a renamed one is not."""
    path = logs.folder / "a.parquet"
    pq.write_table(pa.Table.from_pylist([dlr(n) for n in range(3)]), path)
    logs.take()
    path.rename(logs.folder / "b.parquet")
    assert logs.take() == []
    pq.write_table(pa.Table.from_pylist([dlr(n) for n in range(10, 15)]), path)
    assert [(read.format, read.lines) for read in logs.take()] == [("parquet", 5)]
    assert logs.numbers() == [0, 1, 2, *range(10, 15)]
    assert logs.take() == []


def test_one_event_in_two_places(logs: Captures) -> None:
    """The same event, captured in two places, is two lines, one of them a duplicate."""
    logs.write("a.ndjson", some(5) + line(50))
    logs.write("b.ndjson", line(50) + some(60, 65))
    logs.take()
    receipts = [row for row in logs.rows("receipts") if row["message_id"] == f"{50:016X}"]
    assert [Path(row["source"]).name for row in receipts] == ["a.ndjson", "b.ndjson"]
    [at] = {row["pushed_at"] for row in receipts}
    record = core.record(f"{50:016X}", received_at=at - timedelta(seconds=6))
    judged = core.judged_one([record], receipts)
    assert (judged["receipts"], judged["duplicates"]) == (2, 1)


def test_who_may_read_it(logs: Captures) -> None:
    """What was rejected, and what is under way, is for its owner alone."""
    with logs.store.lock():
        logs.write("a.ndjson", line(1) + b"bad\n" + line(2))
        logs.take()
        logs.append("a.ndjson", b"worse\n")
        logs.take()
    path = logs.store.path(REJECTED_LINES, str(AS_OF.date()))
    assert [row["raw"] for row in logs.rows("rejected_lines")] == [b"bad\n", b"worse\n"]
    assert path.stat().st_mode & 0o777 == 0o600
    assert logs.store.work.stat().st_mode & 0o777 == 0o700


# While it is read


def appended(logs: Captures) -> None:
    logs.append("a.ndjson", some(100, 103))


def rotated(logs: Captures) -> None:
    (logs.folder / "a.ndjson").rename(logs.folder / "a.ndjson.1")
    logs.write("a.ndjson", some(100, 100 + 2 * MANY))


def moved(logs: Captures) -> None:
    (logs.folder / "a.ndjson").rename(logs.folder / "a.ndjson.1")


def truncated(logs: Captures) -> None:
    whole = (logs.folder / "a.ndjson").read_bytes()
    logs.write("a.ndjson.1", whole)
    logs.write("a.ndjson", some(100, 105))


@pytest.mark.slow
@pytest.mark.parametrize("happens", [appended, rotated, moved, truncated])
@pytest.mark.parametrize("known", [0, 30])
@pytest.mark.parametrize("at", [0, 2, 4, 7])
def test_while_it_is_read(
    logs: Captures, happens: Callable[[Captures], None], known: int, at: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """Whatever becomes of a log between two reads of it, the next runs put it right."""
    if known:
        logs.write("a.ndjson", some(known))
        logs.take()
    logs.write("a.ndjson", some(MANY))
    reads = itertools.count()
    read = lines.Source.read

    def interrupted(source: lines.Source, size: int) -> bytes:
        if next(reads) == at:
            happens(logs)
        return read(source, size)

    monkeypatch.setattr(lines.Source, "read", interrupted)
    monkeypatch.setattr(lines, "BLOCK_BYTES", 2000)
    logs.take()
    assert logs.problems == []
    monkeypatch.undo()
    assert next(reads) > at
    logs.take()
    assert logs.problems == []
    new = {appended: 3, rotated: 2 * MANY, moved: 0, truncated: 5}[happens]
    assert logs.numbers() == [*range(MANY), *range(100, 100 + new)]
    assert logs.take() == []


# Runs that do not end


@pytest.mark.slow
@pytest.mark.parametrize("gone", [False, True])
@pytest.mark.parametrize("published", range(5))
def test_stopped_while_publishing(
    logs: Captures, published: int, gone: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However many partitions were in place: the next run leaves no line twice, and loses none."""
    path = logs.write("a.ndjson", line(0) + b"bad\n" + line(1))
    logs.take()
    logs.append("a.ndjson", some(2, 6) + b"worse\n")
    other = logs.write("b.ndjson", some(10, 14) + b"bad too\n")
    publish = Store.publish

    def stop(store: Store, staged: Any) -> None:
        publish(store, itertools.islice(staged, published))
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Store, "publish", stop)
        with pytest.raises(KeyboardInterrupt):
            logs.take()
    if gone:
        kept = path.rename(logs.folder.parent / "kept"), other.rename(logs.folder.parent / "kept 2")
        _again(logs, [logs.folder / "nothing"])
        assert logs.numbers() == [0, 1]
        assert [row["raw"] for row in logs.rows("rejected_lines")] == [b"bad\n"]
        kept[0].rename(path)
        kept[1].rename(other)
    _again(logs)
    assert logs.numbers() == [*range(6), *range(10, 14)]
    raws = sorted(row["raw"] for row in logs.rows("rejected_lines"))
    assert raws == [b"bad\n", b"bad too\n", b"worse\n"]
    assert logs.store.ledger().intake == {}
    assert logs.take() == []


def _again(logs: Captures, files: list[Path] | None = None) -> None:
    """A run after one that was stopped: what that had published is no more to be kept."""
    found = ingest.find([str(logs.folder)])[0] if files is None else files
    ingest.ingest(logs.store, logs.con, logs.store.ledger(), found, [], AS_OF,
                  Wishes("keep"), lambda *_: None)  # fmt: skip
    for table in ("receipts", "rejects", "rejected_lines"):
        keys = list(map(key, logs.rows(table)))
        assert len(keys) == len(set(keys))
    assert list(map(key, logs.rows("rejects"))) == list(map(key, logs.rows("rejected_lines")))


@pytest.mark.slow
def test_stopped_again_and_again(logs: Captures, monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs that are stopped one after the other, while the log grows on, still lose nothing."""
    logs.write("a.ndjson", some(2))
    logs.take()
    publish = Store.publish
    for n, published in enumerate((3, 1, 2, 0), 1):
        logs.append("a.ndjson", some(2 * n, 2 * n + 2) + b"bad\n")
        if n == 2:
            logs.write("b.ndjson", some(100, 102))

        def stop(store: Store, staged: Any, count: int = published) -> None:
            publish(store, itertools.islice(staged, count))
            raise KeyboardInterrupt

        with monkeypatch.context() as patch:
            patch.setattr(Store, "publish", stop)
            with pytest.raises(KeyboardInterrupt):
                logs.take()
    (logs.folder / "b.ndjson").rename(logs.folder / "c.ndjson")
    _again(logs)
    assert logs.numbers() == [*range(10), 100, 101]
    assert len(logs.rows("rejects")) == 4
    assert logs.take() == []


KILLED = """
import itertools, os, signal, sys
from reconcile import cli, store
publish = store.Store.publish
def die(self, staged):
    publish(self, itertools.islice(staged, 2))
    os.kill(os.getpid(), signal.SIGKILL)
store.Store.publish = die
sys.argv = ["reconcile", "ingest", "--store", sys.argv[1], "--pii", "keep", sys.argv[2]]
cli.main()
"""


@pytest.mark.slow
@pytest.mark.usefixtures("clean_environment")
def test_killed_while_publishing(logs: Captures) -> None:
    """A run that was killed amid its renames is mended by the next."""
    logs.write("a.ndjson", some(4) + b"bad\n")
    command = [sys.executable, "-c", KILLED, str(logs.store.root), str(logs.folder)]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert ended.returncode == -signal.SIGKILL, ended.stderr
    assert logs.store.ledger().intake
    assert logs.numbers()
    _again(logs)
    assert logs.numbers() == [0, 1, 2, 3]
    assert len(logs.rows("rejects")) == 1
    assert logs.take() == []


# Anything, in any order

EXAMPLES = int(os.environ.get("ROTATION_EXAMPLES", "8"))


class Rotation(RuleBasedStateMachine):
    """A server that logs, a rotation that meddles, and runs at random moments."""

    engine: Any
    head: bytes
    of: Callable[[int], bytes]

    @initialize()
    def begin(self) -> None:
        self.scratch = tempfile.TemporaryDirectory(prefix="rotation-")
        root = Path(self.scratch.name)
        (root / "dlr").mkdir()
        store = Store.open(root / "store", create=True)
        self.logs = Captures(store, self.engine, root / "dlr")
        self.next, self.half, self.old, self.waits = 0, b"", 0, False
        self.log = self.logs.write("a.log", b"")

    def write(self, data: bytes) -> None:
        begun = self.log.stat().st_size or not data
        self.logs.append(self.log.name, data if begun else self.head + data)

    def some(self, count: int) -> bytes:
        numbers = range(self.next, self.next + count)
        self.next += count
        return b"".join(map(self.of, numbers))

    @rule(count=st.sampled_from([1, 2, 50]))
    def append(self, count: int) -> None:
        """Some lines; the first ends what was begun."""
        self.write(self.half + self.some(count))
        self.half, self.waits = b"", False

    @precondition(lambda self: not self.half)
    @rule(cut=st.integers(1, 1000))
    def half_a_line(self, cut: int) -> None:
        text = self.some(1)
        at = min(cut, len(text) - 1)
        self.write(text[:at])
        self.half = text[at:]

    def finish(self) -> None:
        """A server ends its line before its log is another's."""
        self.write(self.half)
        self.half, self.waits = b"", False

    def name(self) -> Path:
        self.old += 1
        return self.logs.folder / f"a.log.{self.old}"

    @precondition(lambda self: self.log.stat().st_size)
    @rule(late=st.booleans())
    def rotate(self, late: bool) -> None:
        """Until it is told, the server goes on to write into the file with the new name."""
        self.finish()
        target = self.log.rename(self.name())
        if late:
            self.ingest()
            self.logs.append(target.name, self.some(2))
        self.log.write_bytes(b"")

    def rotated(self) -> list[Path]:
        return sorted(p for p in self.logs.folder.glob("a.log.*") if p.suffix[1:] not in COMPRESS)

    @precondition(lambda self: self.rotated())
    @rule(data=st.data(), ending=st.sampled_from(sorted(COMPRESS)), run=st.booleans())
    def compress(self, data: st.DataObject, ending: str, run: bool) -> None:
        """As gzip does it: the old file goes when the new one is whole."""
        path = data.draw(st.sampled_from(self.rotated()), label="path")
        whole = COMPRESS[ending](path.read_bytes())
        target = path.with_name(f"{path.name}.{ending}")
        if run:
            target.write_bytes(whole[: len(whole) * 2 // 3])
            self.ingest()
        target.write_bytes(whole)
        path.unlink()

    @precondition(lambda self: self.rotated())
    @rule(data=st.data())
    def rename(self, data: st.DataObject) -> None:
        data.draw(st.sampled_from(self.rotated()), label="path").rename(self.name())

    @precondition(lambda self: self.log.stat().st_size)
    @rule(run=st.sampled_from(["", "copying", "copied"]))
    def copytruncate(self, run: str) -> None:
        self.finish()
        target, data = self.name(), self.log.read_bytes()
        if run == "copying":
            target.write_bytes(data[: len(data) * 2 // 3])
            self.ingest()
        target.write_bytes(data)
        if run == "copied":
            self.ingest()
        self.log.write_bytes(b"")

    @rule()
    def truncate_and_write_anew(self) -> None:
        """What was there is read before; a line that was never whole counts nothing."""
        self.finish()
        self.ingest()
        self.log.write_bytes(self.head + self.some(3))

    @rule()
    def ingest(self) -> None:
        """A run; by the second that finds half a line it is whole: that is another test."""
        if self.waits:
            self.finish()
        self.logs.take()
        assert self.logs.problems == []
        self.waits = bool(self.half)

    @invariant()
    def nothing_twice(self) -> None:
        numbers = self.logs.numbers() if hasattr(self, "logs") else []
        assert len(numbers) == len(set(numbers))

    def teardown(self) -> None:
        if hasattr(self, "logs"):
            self.finish()
            self.ingest()
            assert self.logs.numbers() == list(range(self.next))
            assert self.logs.rows("rejects") == []
            assert self.logs.take() == []
            self.scratch.cleanup()


@pytest.mark.slow
@pytest.mark.parametrize("name", ["ndjson", "log", "csv"])
def test_any_order(one_engine: Any, name: str) -> None:
    """Whatever happens to a log: every line that was written whole is one receipt, none is two."""
    head, of = FORMATS[name]
    own = {"engine": one_engine, "head": head, "of": staticmethod(of)}
    machine = type("Rotation", (Rotation,), own)
    limits = settings(max_examples=EXAMPLES, stateful_step_count=12, deadline=None,
                      suppress_health_check=list(HealthCheck))  # fmt: skip
    run_state_machine_as_test(machine, settings=limits)
