"""The send log in a whole run: what is concluded of it, how it heals, what the manifest says."""

from __future__ import annotations

import json
from datetime import date, timedelta
from pathlib import Path

import judge_support as core
import pytest

from reconcile import healing, job, judging
from reconcile.days import parse_moment
from reconcile.explaining.explain import explain
from reconcile.explaining.told import Given, OnlySent
from reconcile.run import looked_at
from reconcile.sandbox.demo import sample_data
from reconcile.sandbox.server import Sandbox
from reconcile.settings import load
from reconcile.store import Store
from reconcile.tables import REASONS, SENT, UNRECORDED, VERDICTS

NIGHTS = [parse_moment(f"2026-10-{n}T02:30:00Z") for n in (13, 14, 17)]
DAY = date(2026, 10, 12)


def answer(message_id: str, hour: int, **fields: str) -> str:
    told = {"to": "44000100001", "message-id": message_id, "status": "0", "network": "23410"}
    return json.dumps({"sent_at": f"2026-10-12T{hour:02}:00:00Z", **told, **fields})


def run(folder: Path, sandbox: Sandbox, night: int, monkeypatch: pytest.MonkeyPatch) -> job.Run:
    sandbox.now = NIGHTS[night]
    monkeypatch.setenv("VONAGE_API_KEY", sandbox.api_key)
    monkeypatch.setenv("VONAGE_API_SECRET", sandbox.api_secret)
    key = folder / "pii.key"
    key.write_text("a key for tests only, 32 letters")
    settings = load(
        None, store=folder / "store", dlr=[str(sample_data() / "dlr" / "*")], lookback="5d",
        send_log=[str(folder / "sent" / "*")], base_url=sandbox.base_url, pii_key_file=key,
        poll_first="50ms", longest_validity="72h",
    )  # fmt: skip
    return job.run(settings, job.Asked(), NIGHTS[night], lambda *_: None)


def explain_one(folder: Path, message_id: str) -> OnlySent:
    with looked_at(load(store=folder / "store"), NIGHTS[2]) as this:
        [told] = explain(this, Given((message_id,)), None).told
    assert isinstance(told, OnlySent)
    return told


@pytest.mark.slow
def test_nights(tmp_path: Path, clean_environment: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Accepted and unknown to Reports: not concluded until the next day is here, then it is; what
    Reports knows and the log does not is said of messages within the log's hours."""
    (tmp_path / "sent").mkdir()
    log = tmp_path / "sent" / "sent.ndjson"
    log.write_text("\n".join([
        answer("0A000000C1D20001", 0), answer("0B00000127FDC101", 0), answer("FFFF000000000001", 1),
        answer("FFFF000000000002", 1, status="9"), answer("", 2, status="1"), "no answer",
        answer("EEEE000000000001", 0, sent_at="2026-09-20T10:00:00Z"),
    ]) + "\n")  # fmt: skip
    with Sandbox(sample_data()) as sandbox:
        first = run(tmp_path, sandbox, 0, monkeypatch)
        store = Store.open(tmp_path / "store")
        [lone] = core.published(store, UNRECORDED, DAY)
        assert (lone["message_id"], lone["kind"]) == ("FFFF000000000001", "uncovered")
        [told] = first.manifest["send_logs"]
        assert (told["lines"], told["answers"], told["rejects"]) == (7, 6, 1)
        # No record of that day was ever asked for: nobody can say that Reports does not know it.
        [never] = core.published(store, UNRECORDED, date(2026, 9, 20))
        assert (never["message_id"], never["kind"]) == ("EEEE000000000001", "uncovered")
        [judged] = [d for d in first.manifest["judged"] if d["day"] == str(DAY)]
        assert judged["unrecorded_uncovered"] == 1
        run(tmp_path, sandbox, 1, monkeypatch)
        ended = run(tmp_path, sandbox, 2, monkeypatch)
    assert ended.exit_code == 0, ended.holes
    [lone] = core.published(store, UNRECORDED, DAY)
    assert (lone["message_id"], lone["kind"]) == ("FFFF000000000001", "unrecorded")
    assert lone["recipient"] != "44000100001"
    told = [
        explain_one(tmp_path, message_id) for message_id in ("FFFF000000000001", "FFFF000000000002")
    ]
    assert [(each.unrecorded, each.lines[0]["status"]) for each in told] == [
        ("unrecorded", "0"), (None, "9")]  # fmt: skip
    assert "refused" in told[1].sentence
    assert len(core.published(store, SENT, DAY)) == 5
    unsent = {
        row["message_id"]: row["received_at"] for row in core.published(store, VERDICTS, DAY)
        if "unsent_by_us" in row["reasons"]
    }  # fmt: skip
    # The log speaks of 00:00 to 02:00, so of what was received until 03:00.
    assert unsent
    assert not {"0A000000C1D20001", "0B00000127FDC101"} & set(unsent)
    assert max(unsent.values()) <= parse_moment("2026-10-12T03:00:00Z")
    reasons = core.published(store, REASONS, DAY)
    assert sum(r["messages"] for r in reasons if r["reason"] == "unsent_by_us") == len(unsent)


@pytest.mark.slow
def test_a_late_log_touches_closed_days(tmp_path: Path) -> None:
    """A log of a closed day, or of the day beside it, makes it judged again; no other does."""
    received = core.AS_OF - timedelta(days=12)
    records = [core.record(f"R{n}", received_at=received + timedelta(days=n)) for n in range(3)]
    receipts = [core.receipt(r["message_id"], pushed_at=r["finalized_at"]) for r in records]
    store = core.fill_store(tmp_path / "store", records, receipts)
    days = [r["received_at"].date() for r in records]
    with core.bench_for(store, core.AS_OF) as bench:
        for day in days:
            assert judging.judge_day(bench, day, covered=True, recorded=True).closed
        path = store.path(SENT, days[1])
        path.parent.mkdir(parents=True)
        moment = received + timedelta(days=1)
        row = dict.fromkeys(SENT.names) | {
            "message_id": "R1", "status": "0", "sent_at": moment, "source": "send_log:x",
            "line": 1, "part": 1,
        }  # fmt: skip
        core.pq.write_table(core.arrow(SENT, [row]), path)
        bench.ledger.send_changed = [str(days[1])]
        found = healing.touched(bench, lambda _: True, lambda _: True)
    assert found == {days[1]}
