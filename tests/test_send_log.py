"""The send log: every line once, nothing guessed; and what it and the records know."""

from __future__ import annotations

import bz2
import csv
import functools
import gzip
import io
import json
import os
import random
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import ibis
import judge_support as core
import pyarrow.parquet as pq
import pytest

from reconcile.judge import sendlog
from reconcile.judge.pair import Scope
from reconcile.receipts import ingest as captures
from reconcile.receipts.ingest import find
from reconcile.receipts.intake import Wishes
from reconcile.sendlog import judging, parse
from reconcile.sendlog.ingest import PREFIX, Log, ingest
from reconcile.store import UNDATED, Store
from reconcile.tables import RECORDS, SENT, UNRECORDED, VERDICTS

AS_OF = datetime(2026, 2, 1, tzinfo=UTC)
HANDSET = "447700900001"
TIME = "2026-01-05T10:00:00Z"
Fields = dict[str, Any]


def message(n: int = 1, **changes: Any) -> Fields:
    """What the API says of an accepted message; a field that is None is left out."""
    own = {"to": HANDSET, "message-id": f"{n:016X}", "status": "0", "remaining-balance": "3.14",
           "message-price": "0.0333", "network": "23410", "client-ref": "order 7"}  # fmt: skip
    given = own | {name.replace("_", "-"): value for name, value in changes.items()}
    return {name: value for name, value in given.items() if value is not None}


def answer(*messages: Fields, **around: Any) -> Fields:
    """The API's answer to one request."""
    return {"message-count": str(len(messages)), "messages": list(messages)} | around


def ndjson(*lines: Any) -> bytes:
    """Objects, one a line; texts as they are."""
    return "".join((o if isinstance(o, str) else json.dumps(o)) + "\n" for o in lines).encode()


def some(*numbers: int) -> bytes:
    """Answers with one message each, from the first number up to the last."""
    return ndjson(*(answer(message(n), ts=TIME) for n in range(*numbers)))


def as_csv(*rows: Fields, delimiter: str = ",") -> bytes:
    """Rows below the names of the first of them."""
    out = io.StringIO()
    writer = csv.DictWriter(out, list(rows[0]), delimiter=delimiter, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return out.getvalue().encode()


@dataclass
class Logs:
    """A folder of send logs, and a store that takes them in as a nightly run does."""

    store: Store
    con: Any
    folder: Path
    pii: str = "hash"
    problems: list[str] = field(default_factory=list)

    def write(self, name: str, data: bytes) -> Path:
        """A log of this content."""
        path = self.folder / name
        path.write_bytes(data)
        return path

    def take(self, *files: Path) -> list[Log]:
        """Ingests these files, or the folder, knowing no more than the store; holds the sums."""
        found = list(files) or find([str(self.folder)])[0]
        ledger = self.store.ledger()
        taken = ingest(self.store, self.con, ledger, found, AS_OF, self.pii, lambda *_: None)
        self.problems = [problem.reason for problem in taken.problems]
        assert self.store.ledger() == ledger
        assert not ledger.send_intake
        for log in taken.logs:
            assert log.lines == log.answers + log.rejects + log.blank
        sent, bad = self.rows("sent"), self.rows("rejects")
        assert len({(r["source"], r["line"], r["part"]) for r in sent}) == len(sent)
        lines = Counter(source for source, _line in {(r["source"], r["line"]) for r in sent})
        messages = Counter(row["source"] for row in sent)
        rejects = Counter(row["source"] for row in bad)
        for source, entry in ledger.send_logs.items():
            assert (lines[source], messages[source]) == (entry["answers"], entry["messages"])
            assert rejects[source] == entry["rejects"]
            assert entry["lines"] == entry["answers"] + entry["rejects"] + entry["blank"]
            assert entry["lines"] == entry["mark"]["line"]
        kept = [(row["source"], row["line"]) for row in self.rows("rejected_lines")]
        assert kept == [(row["source"], row["line"]) for row in bad]
        return taken.logs

    def one(self, *lines: Any) -> list[Fields]:
        """The messages of a log of these lines."""
        self.take(self.write("one.ndjson", ndjson(*lines)))
        return self.rows("sent")

    def numbers(self) -> list[int]:
        """The number of each message in the store."""
        return sorted(int(row["message_id"], 16) for row in self.rows("sent"))

    def reasons(self) -> list[str]:
        """Why lines are rejects, in their order."""
        return [row["reason"] for row in self.rows("rejects")]

    def kinds(self) -> list[str]:
        """The kinds of rejects, in the order of their lines."""
        return [row["kind"] for row in self.rows("rejects")]

    def rows(self, table: str) -> list[Fields]:
        """The rows of a table, in the order of source, line and part."""
        files = (self.store.root / table).rglob("*.parquet")
        rows = (row for f in files for row in pq.ParquetFile(f).read().to_pylist())
        return sorted(rows, key=lambda row: (row["source"], row["line"], row.get("part", 0)))


@pytest.fixture
def logs(con: Any, tmp_path: Path) -> Logs:
    """An empty folder, and an empty store."""
    folder = tmp_path / "sent's"
    folder.mkdir()
    return Logs(Store.open(tmp_path / "store", create=True), con, folder)


# --- forms ---------------------------------------------------------------------------------------


def test_an_answer(logs: Logs) -> None:
    """Every field of the API's answer has its column, and `to` is the handset."""
    logs.pii = "keep"
    first, second = logs.one(answer(message(1), message(2, status="0"), sent_at=TIME,
                                    api_key="abcd1234"))  # fmt: skip
    assert list(first) == SENT.names
    assert first == {
        "message_id": "0000000000000001", "status": "0", "account_id": "abcd1234",
        "recipient": HANDSET, "network_code": "23410", "price": Decimal("0.03330000"),
        "client_ref": "order 7", "sent_at": datetime(2026, 1, 5, 10, tzinfo=UTC),
        "source": f"{PREFIX}{logs.folder / 'one.ndjson'}", "line": 1, "part": 1,
    }  # fmt: skip
    assert (second["message_id"], second["line"], second["part"]) == ("0000000000000002", 1, 2)
    assert logs.store.days(SENT) == ["2026-01-05"]


FORMS: dict[str, Any] = {
    "answer": answer(message(), timestamp=TIME),
    "flat": message() | {"ts": TIME},
    "camel case": {"messageId": f"{1:016X}", "to": HANDSET, "status": 0, "network": "23410",
                   "messagePrice": 0.0333, "clientRef": "order 7", "@timestamp": TIME},
    "snake case": {"message_id": f"{1:016X}", "to": int(HANDSET), "status": "0",
                   "network": "23410", "price": "0.03330000", "client_ref": "order 7",
                   "time": 1767607200},
    "response": {"sent_at": TIME, "response": answer(message())},
    "body as text": {"time": TIME, "status": 200, "body": json.dumps(answer(message()))},
    "payload": {"ts": TIME, "payload": message()},
    "result": {"ts": "1767607200000", "result": json.dumps(message())},
    "a list": {"ts": TIME, "response": [message()]},
    "in a container's log": {"log": json.dumps({"ts": TIME, "response": answer(message())}),
                             "time": "2026-01-05T10:00:01Z"},
    "messages as text": {"ts": TIME, "messages": json.dumps([message()])},
}  # fmt: skip


@pytest.mark.parametrize("form", FORMS)
def test_forms_say_the_same(logs: Logs, form: str) -> None:
    """Whatever wraps it and however it spells its names: it is the same message."""
    logs.pii = "keep"
    [row] = logs.one(FORMS[form])
    assert {name: row[name] for name in SENT.names if name not in ("source", "account_id")} == {
        "message_id": f"{1:016X}", "status": "0", "recipient": HANDSET, "network_code": "23410",
        "price": Decimal("0.03330000"), "client_ref": "order 7",
        "sent_at": datetime(2026, 1, 5, 10, tzinfo=UTC), "line": 1, "part": 1,
    }  # fmt: skip


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_csv(logs: Logs, delimiter: str) -> None:
    """A header, then a message a line."""
    rows = [message(n) | {"sent_at": TIME} for n in (1, 2)]
    [log] = logs.take(logs.write("a.csv", as_csv(*rows, delimiter=delimiter)))
    assert (log.format, log.lines, log.answers, log.blank) == ("csv", 3, 2, 1)
    assert [(row["line"], row["part"]) for row in logs.rows("sent")] == [(2, 1), (3, 1)]
    assert logs.rows("sent")[0]["price"] == Decimal("0.03330000")
    assert logs.rows("sent")[0]["sent_at"] == datetime(2026, 1, 5, 10, tzinfo=UTC)


def test_csv_with_answers(logs: Logs) -> None:
    """A column of a table may hold the answer as JSON."""
    rows = [{"time": TIME, "response": json.dumps(answer(message(1), message(2)))},
            {"time": TIME, "response": "gone"}]  # fmt: skip
    [log] = logs.take(logs.write("a.csv", as_csv(*rows)))
    assert (log.answers, log.messages, log.rejects) == (1, 2, 1)
    assert {str(row["sent_at"]) for row in logs.rows("sent")} == {"2026-01-05 10:00:00+00:00"}


def test_objects_over_several_lines(logs: Logs) -> None:
    """An array of answers, as some tools write it."""
    text = json.dumps([answer(message(n), ts=TIME) for n in (1, 2)], indent=1)
    [log] = logs.take(logs.write("a.json", text.encode()))
    assert (log.format, log.answers) == ("json", 2)


def test_refused(logs: Logs) -> None:
    """A refused message is kept and counted, with its status; it may have no id and no number."""
    [log] = logs.take(logs.write("a.ndjson", ndjson(
        answer({"status": "2", "error-text": "Missing to param"}, ts=TIME),
        {"status": "1", "to": HANDSET, "error-text": "Throttled", "ts": TIME},
        answer(message(1), message(2, status="9"), ts=TIME),
    )))  # fmt: skip
    assert (log.answers, log.messages, log.refused, log.rejects) == (3, 4, 3, 0)
    assert [row["status"] for row in logs.rows("sent")] == ["2", "1", "0", "9"]
    assert [row["message_id"] is None for row in logs.rows("sent")] == [True, True, False, False]


def test_undated(logs: Logs) -> None:
    """A message without a time, or with one that is none, waits in a partition of its own."""
    logs.one(answer(message(1)), answer(message(2), ts="yesterday"), answer(message(3), ts=TIME))
    assert logs.store.days(SENT) == ["2026-01-05", UNDATED]
    assert logs.store.ledger().send_changed == ["2026-01-05", UNDATED]


@pytest.mark.parametrize(
    ("time", "day"),
    [("2026-01-05T23:59:59.999Z", "2026-01-05"), ("2026-01-06T00:00:00Z", "2026-01-06"),
     ("2026-01-06T00:30:00+01:00", "2026-01-05"), (1767657600, "2026-01-06")],
)  # fmt: skip
def test_day_is_utc(logs: Logs, time: Any, day: str) -> None:
    """A partition is the UTC day of the log's own time."""
    logs.one(answer(message(), ts=time))
    assert logs.store.days(SENT) == [day]


# --- bad input -----------------------------------------------------------------------------------

BAD: dict[str, tuple[Any, str]] = {
    "no JSON": ("POST /sms 200", parse.NO_JSON),
    "half a line": ('{"message-count":"1","messages":[{"to"', parse.NO_JSON),
    "a number": ("17", parse.NO_JSON),
    "number id": (answer(message(message_id=123)), parse.NUMBER_ID),
    "number id, flat": ({"message_id": 1.5e15, "status": 0}, parse.NUMBER_ID),
    "number id in the second": (answer(message(), message(2, message_id=5)), parse.NUMBER_ID),
    "no id": (answer(message(message_id=None)), parse.NO_ID),
    "blank id": (answer(message(message_id=" ")), parse.NO_ID),
    "listed id": (answer(message(message_id=["A"])), parse.NESTED_ID),
    "no status": (message(status=None), parse.NO_STATUS),
    "strange status": (message(status="sent"), parse.NO_CODE),
    "status of HTTP": (message(status=200), parse.NO_CODE),
    "two ids": (message() | {"messageId": "B"}, parse.TWICE),
    "two ids of one name": ('{"message-id":"A","message-id":"B","status":"0"}', parse.TWICE),
    "no messages": (answer(), parse.NO_MESSAGE),
    "null among messages": ({"messages": [message(), None]}, parse.NO_OBJECT),
    "broken list": ({"messages": '[{"status"'}, parse.NO_MESSAGE),
    "a receipt": ({"messageId": "A", "to": "Acme", "status": "delivered"}, parse.A_RECEIPT),
    "a health check": ({"status": "ok"}, parse.OTHER),
    "another line": ({"level": "info", "msg": "started"}, parse.OTHER),
    "too deep": (functools.reduce(lambda inner, _: {"body": inner}, range(9), message()),
                 parse.OTHER),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD)
def test_bad_line_is_a_reject(logs: Logs, case: str) -> None:
    """A line that cannot be read is a reject as a whole, with its reason."""
    bad, reason = BAD[case]
    around = answer(message(100), ts=TIME)
    assert len(logs.one(around, bad, around)) == 2
    [found] = logs.rows("rejects")
    assert found["line"] == 2
    assert re.sub(r"^message \d: ", "", found["reason"]) == reason
    strange = reason in (parse.A_RECEIPT, parse.OTHER)
    assert found["kind"].startswith(parse.NOT_AN_ANSWER if strange else "unreadable")
    [kept] = logs.rows("rejected_lines")
    assert kept["raw"].rstrip() == ndjson(bad).rstrip()


def test_csv_without_message_id(logs: Logs) -> None:
    """A table that names no message is a problem that tells what it lacks, and no number."""
    logs.write("a.csv", as_csv({"to": HANDSET, "status": "0"}))
    logs.write("b.ndjson", some(2))
    assert len(logs.take()) == 1
    [problem] = logs.problems
    assert "has no column message_id" in problem
    assert logs.numbers() == [0, 1]
    logs.write("a.csv", f"{HANDSET},0,0B1\n".encode())
    logs.take()
    assert HANDSET not in "".join(logs.problems)


def test_csv_bad_rows(logs: Logs) -> None:
    """Rows of another width, and ids that a spreadsheet has rounded, are rejects."""
    text = "message-id,status,to\n0A,0,1\n0B,0\n1.4E+15,0,1\n,0,1\n,5,1\n\n"
    [log] = logs.take(logs.write("a.csv", text.encode()))
    assert (log.lines, log.answers, log.rejects, log.blank) == (7, 2, 3, 2)
    assert logs.reasons()[1:] == [parse.NUMBER_ID, parse.NO_ID]


@pytest.mark.parametrize("name", ["a.log", "a.csv", "a.ndjson", "a.bin", "a.gz"])
@pytest.mark.parametrize("seed", range(3))
def test_random_bytes(logs: Logs, name: str, seed: int) -> None:
    """Bytes that mean nothing are rejects or a problem, never a message, and harm no neighbour."""
    noise = random.Random(seed)
    logs.write(name, noise.randbytes(20_000))
    logs.write("good.ndjson", some(3))
    logs.take()
    assert logs.numbers() == [0, 1, 2]
    assert logs.problems or logs.rows("rejects")


def test_mutilated_lines(logs: Logs) -> None:
    """Answers with bytes changed, cut out or doubled: every line is accounted for."""
    noise = random.Random(7)
    lines = []
    for n in range(300):
        data = bytearray(ndjson({"ts": TIME, "body": json.dumps(answer(message(n), message(n)))}))
        for _ in range(noise.randrange(1, 4)):
            at = noise.randrange(len(data) - 1)
            data[at : at + noise.randrange(3)] = noise.randbytes(noise.randrange(3))
        lines.append(bytes(data).replace(b"\n", b" ") + b"\n")
    [log] = logs.take(logs.write("a.ndjson", b"".join(lines)))
    assert log.lines == 300
    assert log.answers
    assert log.rejects


def test_many_messages_a_line(logs: Logs) -> None:
    """A line of thousands of messages."""
    logs.one(answer(*(message(n) for n in range(5000)), ts=TIME))
    assert [row["part"] for row in logs.rows("sent")] == list(range(1, 5001))


# --- read on, never twice ------------------------------------------------------------------------


def test_growing(logs: Logs) -> None:
    """A log is read on from where it ended; its half-written last line waits."""
    whole = some(70)
    cut = len(some(65)) + 20
    path = logs.write("a.ndjson", whole[:cut])
    [log] = logs.take()
    assert (log.lines, log.waits) == (65, 20)
    path.write_bytes(whole)
    [log] = logs.take()
    assert log.lines == 5
    assert logs.numbers() == list(range(70))
    assert [row["line"] for row in logs.rows("sent")] == list(range(1, 71))
    assert logs.take() == []


def test_growing_csv(logs: Logs) -> None:
    """The header is remembered."""
    whole = as_csv(*(message(n) | {"ts": TIME} for n in range(80)))
    path = logs.write("a.csv", whole[: whole.index(b"\n", 4000) + 1])
    logs.take()
    path.write_bytes(whole)
    assert logs.take()[0].blank == 0
    assert logs.numbers() == list(range(80))


@pytest.mark.parametrize(("ending", "pack"), [("gz", gzip.compress), ("bz2", bz2.compress)])
def test_rotated_and_packed(logs: Logs, ending: str, pack: Any) -> None:
    """A log that was renamed, grew before it was, and is packed later is one log."""
    path = logs.write("a.ndjson", some(60))
    logs.take()
    path.write_bytes(some(65))
    path.rename(logs.folder / "a.ndjson.1")
    logs.write("a.ndjson", some(65, 68))
    logs.take()
    packed = logs.write(f"a.ndjson.1.{ending}", pack(some(65)))
    (logs.folder / "a.ndjson.1").unlink()
    logs.take()
    assert logs.numbers() == list(range(68))
    assert logs.take(packed) == []
    assert len(logs.store.ledger().send_logs) == 2


def test_copy_that_is_not_finished(logs: Logs) -> None:
    """Half a copy of a known log, or an older state of it, brings nothing."""
    bad = b"not an answer\n"
    logs.write("a.ndjson", some(60) + bad + some(60, 90))
    logs.take()
    logs.write("copy.ndjson", some(60) + bad)
    assert logs.take() == []
    assert logs.numbers() == list(range(90))
    assert len(logs.rows("rejects")) == 1


def test_truncated_and_written_anew(logs: Logs) -> None:
    """Another log at the same place has another name, and all its lines count."""
    logs.write("a.ndjson", some(3))
    logs.take()
    logs.write("a.ndjson", some(10, 12))
    logs.take()
    assert logs.numbers() == [0, 1, 2, 10, 11]
    names = {Path(source).name for source in logs.store.ledger().send_logs}
    assert names == {"a.ndjson", "a.ndjson#2"}


def test_file_that_is_a_capture_too(logs: Logs) -> None:
    """One file with answers and receipts, named in both settings: neither disturbs the other."""
    receipt = {"messageId": "0A", "status": "delivered", "message-timestamp": "2026-01-05 10:00:00"}
    path = logs.write("app.ndjson", ndjson(answer(message(1), ts=TIME), receipt))
    logs.take()
    for _ in range(2):
        ledger = logs.store.ledger()
        captures.ingest(logs.store, logs.con, ledger, [path], [], AS_OF, Wishes("hash"),
                        lambda *_: None)  # fmt: skip
    assert logs.take() == []
    assert len(logs.rows("sent")) == len(logs.rows("receipts")) == 1
    assert {(Path(r["source"]).name, r["line"]) for r in logs.rows("rejects")} == {
        ("app.ndjson", 1), ("app.ndjson", 2)
    }  # fmt: skip
    assert len({row["source"] for row in logs.rows("rejects")}) == 2


CRASH = """
import os, signal, sys
from pathlib import Path
from datetime import UTC, datetime
from reconcile import engine
from reconcile.receipts.ingest import find
from reconcile.sendlog.ingest import ingest
from reconcile.store import Store

root, folder, moment = sys.argv[1:]
store = Store.open(Path(root))
con = engine.connect("1GB", 1, Path(root) / "spill")
own = store.publish if moment != "saved" else store.save
calls = 0

def published(staged):
    for part in staged:
        own([part])
        os.kill(os.getpid(), signal.SIGKILL)

def saved(ledger):
    global calls
    calls += 1
    if calls == 2:
        os.kill(os.getpid(), signal.SIGKILL)
    own(ledger)

if moment == "saved":
    store.save = saved
else:
    store.publish = published
ledger = store.ledger()
ingest(store, con, ledger, find([folder])[0], datetime(2026, 1, 31, tzinfo=UTC), "drop",
       lambda *_: None)
"""


@pytest.mark.slow
@pytest.mark.parametrize("moment", ["publishing", "saved"])
@pytest.mark.parametrize("read_before", [True, False])
def test_crash_between(logs: Logs, moment: str, read_before: bool) -> None:
    """A run that was killed amid its renames, or before the ledger, is undone by the next; whatever
    became of the log, each line counts once, and the rejects of captures stay."""
    day_after = ndjson(answer(message(900), ts="2026-01-06T10:00:00Z"), "bad")
    path = logs.write("a.ndjson", some(60))
    other = logs.folder.parent / "receipts.ndjson"
    other.write_bytes(b'{"messageId": 5, "status": "delivered"}\n')
    captures.ingest(logs.store, logs.con, logs.store.ledger(), [other], [],
                    datetime(2026, 1, 31, tzinfo=UTC), Wishes("hash"), lambda *_: None)  # fmt: skip
    if read_before:
        logs.take()
    path.write_bytes(some(64) + day_after)
    ended = subprocess.run(
        [sys.executable, "-c", CRASH, str(logs.store.root), str(logs.folder), moment],
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert ended.returncode == -9, ended.stderr
    assert logs.store.ledger().send_intake
    path.rename(logs.folder / "a.ndjson.1")
    logs.write("a.ndjson", some(64, 66))
    logs.take()
    assert logs.numbers() == [*range(66), 900]
    assert len(logs.rows("rejects")) == 2
    assert logs.take() == []


def test_unread_log_stops_no_other(logs: Logs) -> None:
    """A damaged log is told, once nobody writes to it; what was before the damage counts."""
    data = gzip.compress(some(9))
    path = logs.write("a.ndjson.gz", data[:-12])
    os.utime(path, (0, 0))
    logs.write("b.ndjson", some(20, 22))
    logs.take()
    assert logs.numbers()[-2:] == [20, 21]
    assert "damaged" in logs.problems[0]


def test_nothing_to_read(logs: Logs) -> None:
    """An empty file, or one of blank lines, is no log yet; nothing is published."""
    logs.write("a.ndjson", b"")
    logs.write("b.ndjson", b"\n \n")
    logs.take()
    assert not (logs.store.root / "sent").exists()
    assert logs.store.ledger().send_logs == {}


# --- privacy -------------------------------------------------------------------------------------


def test_no_number_in_any_table(logs: Logs) -> None:
    """By default numbers are hidden as those of records are; bytes of rejects are private."""
    logs.one(answer(message(1), ts=TIME), message(2), answer(message(3, message_id=7)))
    logs.take(logs.write("b.csv", as_csv(message(4))))
    digits = logs.con.con.execute(
        f"SELECT left(sha256(getvariable('pii_key') || '{HANDSET}'), 16)"
    ).fetchone()[0]
    assert {row["recipient"] for row in logs.rows("sent")} == {digits}
    for path in logs.store.root.rglob("*"):
        if path.is_file() and "rejected_lines" not in path.parts and path.suffix == ".parquet":
            assert HANDSET not in str(pq.ParquetFile(path).read().to_pylist())
        elif path.suffix == ".json":
            assert HANDSET not in path.read_text("utf-8")
    [kept] = (logs.store.root / "rejected_lines").rglob("*.parquet")
    assert kept.stat().st_mode & 0o077 == 0


@pytest.mark.parametrize(("pii", "shown"), [("keep", HANDSET), ("drop", None)])
def test_numbers_as_told(logs: Logs, pii: str, shown: str | None) -> None:
    """`pii` says what becomes of numbers."""
    logs.pii = pii
    [row] = logs.one(answer(message(to="+44 7700 900001"), ts=TIME))
    assert row["recipient"] == shown


def test_tables_keep_their_contract(logs: Logs) -> None:
    """What is written has the contract's columns, and each message once."""
    logs.one(*(answer(message(n), message(n + 1), ts=TIME) for n in range(0, 90, 2)))
    [path] = (logs.store.root / "sent").rglob("*.parquet")
    rows = pq.ParquetFile(path).read()
    assert rows.schema.remove_metadata().equals(SENT.schema)
    keys = list(zip(*(rows[name].to_pylist() for name in SENT.key), strict=True))
    assert len(set(keys)) == len(keys) == 90


# --- unrecorded ----------------------------------------------------------------------------------

NOON = datetime(2026, 10, 15, 12, tzinfo=UTC)
DAY = NOON.date()


def sent(message_id: str | None, **fields: Any) -> core.Row:
    """A row of `sent` of an accepted message; all that is not named is blank."""
    given = dict.fromkeys(SENT.names) | {"message_id": message_id, "status": "0", "sent_at": NOON,
                                         "source": "log", "line": 1, "part": 1}  # fmt: skip
    assert set(fields) <= set(SENT.names)
    return given | fields


@functools.cache
def _unrecorded_view(accounts: frozenset[str], covered: bool) -> str:
    con = core.connection()
    day = ibis.memtable([(covered,)], schema={"is_covered": "boolean"})
    name = f"unrecorded_{len(accounts)}_{covered}"
    scope = Scope(core.AS_OF, several_owners=False)
    rows = sendlog.unrecorded(con.table("sent_in"), con.table("known_in"), day, accounts, scope)
    con.create_view(name, rows)
    return name


def unrecorded_of(
    log: list[core.Row], records: list[core.Row], *, covered: bool = True,
    accounts: tuple[str, ...] = ("a1",),
) -> dict[str, str]:  # fmt: skip
    """The kinds of the messages of a log that no record has."""
    core.put("sent_in", SENT, log)
    core.put("known_in", RECORDS, records)
    view = _unrecorded_view(frozenset(accounts), covered)
    rows = core.connection().con.execute(f"SELECT message_id, kind FROM {view}").fetchall()
    assert len(dict(rows)) == len(rows)
    return dict(rows)


def test_unrecorded() -> None:
    """Accepted, and no record has its id; refused ones were never to have one."""
    log = [sent("1A"), sent("2B", line=2), sent(None, status="2", line=3),
           sent("3C", status="9", line=4)]  # fmt: skip
    assert unrecorded_of(log, [core.record("1A")]) == {"2B": "unrecorded"}
    assert unrecorded_of(log, [core.record("1A")], covered=False) == {"2B": "uncovered"}


def test_unrecorded_once() -> None:
    """A message that the log names three times is one row: that of its first line."""
    log = [sent("2B", source=s, line=n) for s, n in (("b", 1), ("a", 9), ("a", 10))]
    assert unrecorded_of(log, []) == {"2B": "unrecorded"}
    view = _unrecorded_view(frozenset({"a1"}), True)
    where = core.connection().con.execute(f"SELECT source, line FROM {view}").fetchall()
    assert where == [("a", 9)]


def test_unrecorded_of_others() -> None:
    """An account that is none of ours is said to be so; without one in the log it may be ours."""
    log = [sent("1A", account_id="a9"), sent("2B", account_id="a1", line=2), sent("3C", line=3)]
    assert unrecorded_of(log, [])["1A"] == "foreign_account"
    assert unrecorded_of(log, [], covered=False)["1A"] == "foreign_account"
    assert set(unrecorded_of(log, []).values()) == {"foreign_account", "unrecorded"}
    assert set(unrecorded_of(log, [], accounts=()).values()) == {"unrecorded"}


def test_unrecorded_knows_no_future() -> None:
    """What was sent after as_of is not known yet, nor is a record that was received after it."""
    later = core.AS_OF + timedelta(seconds=1)
    assert unrecorded_of([sent("1A", sent_at=later)], []) == {}
    assert unrecorded_of([sent("1A")], [core.record("1A", received_at=later)]) != {}
    assert unrecorded_of([sent("1A", sent_at=None)], []) != {}


def test_all_kinds_have_a_sentence() -> None:
    """The kinds that this file meets are those that are explained."""
    assert set(sendlog.KINDS) == {"foreign_account", "uncovered", "unrecorded"}


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Any]:
    """A bench over a store with records of three days, each of one message, and a log of them."""
    days = [NOON + timedelta(days=n) for n in (-1, 0, 1)]
    records = [core.record(f"{n}A", received_at=day) for n, day in enumerate(days)]
    store = core.fill_store(tmp_path / "store", records, [])
    with core.bench_for(store, core.AS_OF) as found:
        yield found


def put_log(bench: Any, *rows: core.Row) -> None:
    """Publishes rows of `sent` in their partitions."""
    parts: dict[str, list[core.Row]] = {}
    for row in rows:
        day = str(row["sent_at"].date()) if row["sent_at"] else UNDATED
        parts.setdefault(day, []).append(row)
    for day, own in parts.items():
        table = core.arrow(SENT, own)
        bench.con.con.register("put_log", table)
        staged = bench.store.write(bench.con, "SELECT * FROM put_log", SENT, day, core.AS_OF)
        bench.store.publish([staged])


def test_unrecorded_in_a_store(bench: Any) -> None:
    """Records of the days around are known, those farther off are not; the result is a table."""
    late = NOON.replace(hour=23)
    put_log(bench, sent("0A"), sent("1A", line=2), sent("2A", line=3, sent_at=late),
            sent("9F", line=4, recipient="abc"), sent("8F", line=5, sent_at=None))  # fmt: skip
    staged = judging.judge_unrecorded(bench, DAY, covered=True)
    assert judging.counts(bench, staged) == {
        "unrecorded": 1, "unrecorded_uncovered": 0, "unrecorded_foreign": 0
    }  # fmt: skip
    bench.store.publish([staged])
    [row] = core.published(bench.store, UNRECORDED, DAY)
    assert list(row) == UNRECORDED.names
    assert (row["message_id"], row["kind"], row["recipient"]) == ("9F", "unrecorded", "abc")
    staged = judging.judge_unrecorded(bench, DAY, covered=False)
    assert judging.counts(bench, staged)["unrecorded_uncovered"] == 1


def test_unrecorded_without_a_time(bench: Any) -> None:
    """A message without a time is held against all records, and nothing is concluded."""
    put_log(bench, sent("0A", sent_at=None), sent("9F", line=2, sent_at=None))
    staged = judging.judge_unrecorded(bench, None, covered=True)
    bench.store.publish([staged])
    rows = core.published(bench.store, UNRECORDED, UNDATED)
    assert [(row["message_id"], row["kind"]) for row in rows] == [("9F", "uncovered")]


def test_no_log_no_table(bench: Any) -> None:
    """Where no log speaks of a day nothing is said."""
    assert judging.judge_unrecorded(bench, DAY, covered=True) is None
    assert judging.counts(bench, None) == {}
    assert not judging.has_log(bench, DAY)


def test_covering_days() -> None:
    """A message of a day may be recorded in the day before and in the day after it."""
    assert judging.covering_days(date(2026, 3, 1)) == [
        date(2026, 2, 28), date(2026, 3, 1), date(2026, 3, 2)
    ]  # fmt: skip


# --- unsent_by_us --------------------------------------------------------------------------------


@functools.cache
def _unsent_view() -> str:
    con = core.connection()
    con.create_view("unsent", sendlog.with_unsent(
        con.table("pairs_in"), con.table("log_of_day"), con.table("log_around"),
        Scope(core.AS_OF, several_owners=False)))  # fmt: skip
    return "unsent"


def unsent_of(messages: list[core.Row], log: list[core.Row]) -> dict[str, bool]:
    """Which messages of DAY the log does not have, though it covers them."""
    core.put("pairs_in", VERDICTS, messages)
    core.put("log_around", SENT, log)
    core.put("log_of_day", SENT, [r for r in log if r["sent_at"] and r["sent_at"].date() == DAY])
    view = _unsent_view()
    told = core.connection().con.execute(f"SELECT * FROM {view}").to_arrow_table()
    assert told.column_names == [*VERDICTS.names, "unsent_by_us"]
    assert not told["unsent_by_us"].null_count
    found = {row["message_id"]: row["unsent_by_us"] for row in told.to_pylist()}
    assert len(found) == told.num_rows == len(messages)
    return found


def is_unsent(log: list[core.Row], **fields: Any) -> bool:
    """Whether a message of NOON, that the log does not have, is said not to be ours."""
    return unsent_of([core.verdict("9F", **({"received_at": NOON} | fields))], log)["9F"]


def test_unsent_by_us() -> None:
    """The log covers the hour and does not have the id; refused ones that have one were ours."""
    log = [sent("1A"), sent("2B", status="9", line=2)]
    messages = [core.verdict(i, received_at=NOON) for i in ("1A", "2B", "9F")]
    assert unsent_of(messages, log) == {"1A": False, "2B": False, "9F": True}


@pytest.mark.parametrize(
    ("apart", "is_covered"),
    [(timedelta(hours=-1), True), (timedelta(hours=-1, milliseconds=-1), False),
     (timedelta(hours=3), True), (timedelta(hours=3, milliseconds=1), False)],
    ids=["an hour before", "longer before", "an hour behind", "longer behind"],
)  # fmt: skip
def test_borders_of_the_log(apart: timedelta, is_covered: bool) -> None:
    """An hour before its first message and behind its last one the log still speaks."""
    log = [sent("1A"), sent("2B", line=2, sent_at=NOON + timedelta(hours=2))]
    assert is_unsent(log, received_at=NOON + apart) is is_covered


def test_log_of_neighbours_alone() -> None:
    """A log that has nothing of the day says nothing of it, though it goes on around it."""
    around = [sent("1A", sent_at=NOON - timedelta(days=1)),
              sent("2B", line=2, sent_at=NOON + timedelta(days=1))]  # fmt: skip
    assert not is_unsent(around)
    assert is_unsent([*around, sent("3C", line=3)], received_at=NOON - timedelta(hours=11))
    assert not is_unsent([sent("1A", sent_at=None)])
    assert not is_unsent([])


def test_id_of_a_neighbouring_day() -> None:
    """A message that was sent around midnight, or without a time, is in the log."""
    log = [sent("1A"), sent("9F", line=2, sent_at=NOON + timedelta(days=1))]
    assert not is_unsent(log)
    assert not is_unsent([sent("1A"), sent("9F", line=2, sent_at=None)])


def test_log_of_an_account() -> None:
    """A log speaks of the account that it names; where it names none, of any."""
    assert is_unsent([sent("1A", account_id="a1")], account_id="a1")
    assert not is_unsent([sent("1A", account_id="a2")], account_id="a1")
    assert is_unsent([sent("1A", account_id="a2"), sent("2B", line=2)], account_id="a1")
    far = sent("1A", account_id="a1", sent_at=NOON - timedelta(hours=2))
    assert not is_unsent([far])
    assert is_unsent([far, sent("2B", line=2)])


def test_other_products() -> None:
    """A log of the SMS API's answers says nothing of messages of another API."""
    assert not is_unsent([sent("1A")], product="MESSAGES")


def test_log_knows_no_future() -> None:
    """What was sent after as_of does not make the log longer."""
    later = sent("1A", sent_at=core.AS_OF + timedelta(hours=1))
    assert not is_unsent([later])


def test_unsent_views(bench: Any) -> None:
    """The views that the core reads are laid from the store."""
    put_log(
        bench,
        sent("1A"),
        sent("2A", line=2, sent_at=NOON + timedelta(days=1)),
        sent("7F", line=3, sent_at=NOON + timedelta(days=2)),
        sent("8F", line=4, sent_at=None),
    )
    judging.lay(bench, DAY)
    assert judging.has_log(bench, DAY)
    found = {name: bench.con.con.execute(f"SELECT message_id FROM {name} ORDER BY 1").fetchall()
             for name in ("sent_of_day", "sent_around")}  # fmt: skip
    assert found == {"sent_of_day": [("1A",)], "sent_around": [("1A",), ("2A",), ("8F",)]}
