"""`reconcile ingest`: what it says, what it leaves alone, and the dry run."""

from __future__ import annotations

import gzip
import json
import os
from collections.abc import Callable
from pathlib import Path

import pyarrow.parquet as pq
import pytest

Called = tuple[int, str, str]
GOOD = {"messageId": "0A0001", "status": "delivered", "message-timestamp": "2026-01-05 10:00:00"}
LINES = [
    json.dumps(GOOD), json.dumps(GOOD | {"messageId": "0A0002"}), "", "{broken",
    '{"status": "ok"}', json.dumps({"messageId": "0A0003", "msisdn": "447700900000", "text": "hi"}),
    '{"messageId": 12, "status": "failed"}', "{broken again",
]  # fmt: skip


@pytest.fixture
def captures(tmp_path: Path) -> Path:
    """A mixed folder: NDJSON, a compressed CSV, something else."""
    folder = tmp_path / "dlr"
    folder.mkdir()
    (folder / "a.ndjson").write_text("\n".join(LINES) + "\n")
    csv = "messageId;status\n0B0001;failed\n0B0002;expired\n"
    (folder / "b.csv.gz").write_bytes(gzip.compress(csv.encode()))
    (folder / "c.bin").write_bytes(bytes(range(256)))
    return folder


def test_dry_run(console: Callable[..., Called], captures: Path) -> None:
    """It says what each file holds, and neither makes a store nor keeps anything."""
    code, out, err = console("ingest", "--dry-run", "dlr")
    assert code == 6
    assert "c.bin is in no format that is known" in err
    told = "ndjson: 8 lines = 2 receipts + 2 not receipts + 3 errors + 1 blank"
    assert told in out
    assert "2 × unreadable, first in line 4: it is no JSON object" in out
    assert "1 × not_a_receipt:health_check, first in line 5" in out
    assert "csv in gzip: 3 lines = 2 receipts" in out
    assert not Path("store").exists()
    assert console("ingest", "dlr/a.ndjson", "dlr/b.csv.gz")[0] == 0
    before = sorted(p.stat().st_mtime_ns for p in Path("store").rglob("*"))
    _, out, _ = console("ingest", "--dry-run", "dlr/a.ndjson")
    assert "the first 8 lines were taken in before" in out
    assert sorted(p.stat().st_mtime_ns for p in Path("store").rglob("*")) == before


def test_dry_run_as_json(console: Callable[..., Called], captures: Path) -> None:
    """Programs get the same numbers, and the first line of each kind of reject."""
    _, out, _ = console("ingest", "--dry-run", "dlr/a.ndjson", "--format", "json")
    [told] = json.loads(out)
    assert (told["lines"], told["receipts"], told["errors"], told["blank"]) == (8, 2, 3, 1)
    assert (told["first"], told["known_ids"]) == ("2026-01-05T10:00:00Z", 0.0)
    first = {each["kind"]: each["first_line"] for each in told["rejects"]}
    assert first["not_a_receipt:inbound_sms"] == 6


def test_a_bad_file_keeps_no_other_out(console: Callable[..., Called], captures: Path) -> None:
    """What can be read is taken in; what cannot is named, one line each, exit 6."""
    code, out, err = console("ingest", "dlr")
    assert (code, err.count("\n")) == (6, 1)
    assert "8 lines = 2 receipts + 5 rejects + 1 blank; 2 of the rejects are no receipts" in out
    receipts = pq.read_table("store/receipts").to_pylist()
    assert len(receipts) == 4
    assert "447700900000" not in out + err


def test_rejected_lines_are_for_their_owner(console: Callable[..., Called], captures: Path) -> None:
    """Rejects keep their bytes, where nobody else can read them."""
    console("ingest", "dlr/a.ndjson")
    [file] = Path("store/rejected_lines").rglob("*.parquet")
    assert file.stat().st_mode & 0o077 == 0
    kept = {row["line"]: row["raw"] for row in pq.read_table(file).to_pylist()}
    assert {line: kept[line] for line in (4, 6)} == {
        4: b"{broken\n", 6: LINES[5].encode() + b"\n",
    }  # fmt: skip
    rejects = pq.read_table("store/rejects").to_pylist()
    assert sorted(kept) == sorted(row["line"] for row in rejects)


def test_nothing_matches(console: Callable[..., Called]) -> None:
    """A glob that matches nothing is an error, unless that is allowed."""
    code, _, err = console("ingest", "nowhere/*")
    assert (code, "nowhere/* matches no file" in err) == (6, True)
    assert console("ingest", "--allow-empty", "nowhere/*") == (0, "nothing new\n", "")


def test_nothing_is_named(console: Callable[..., Called]) -> None:
    """Without captures, here or in the settings, there is nothing to do: say so."""
    for flags in ((), ("--dry-run",)):
        code, _, err = console("ingest", *flags)
        assert (code, "set dlr in the settings" in err) == (2, True)


def test_half_a_line_waits(console: Callable[..., Called], tmp_path: Path) -> None:
    """It says so, and takes the line when it has its end."""
    log = tmp_path / "a.ndjson"
    log.write_text(json.dumps(GOOD) + '\n{"messageId": "0A00')
    _, out, _ = console("ingest", "a.ndjson")
    assert "1 lines = 1 receipts + 0 rejects + 0 blank; 19 bytes wait for their line's end" in out
    with log.open("a") as file:
        file.write('02", "status": "failed"}\n')
    _, out, _ = console("ingest", "a.ndjson")
    assert "1 lines = 1 receipts + 0 rejects + 0 blank\n" in out
    assert console("ingest", "a.ndjson") == (0, "nothing new\n", "")


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads what nobody may read")
def test_a_file_that_may_not_be_read(console: Callable[..., Called], tmp_path: Path) -> None:
    """One clear line that names the file."""
    (tmp_path / "a.ndjson").touch(mode=0o000)
    code, _, err = console("ingest", "a.ndjson")
    assert (code, "a.ndjson cannot be read: Permission denied" in err) == (6, True)
