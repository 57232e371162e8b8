"""Captures are taken in while Vonage is waited for: the same night as one after the other.

The sandbox holds answers back until something is in the store that only a thread beside the
download can have put there.
"""

from __future__ import annotations

import gzip
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from test_send_log import some

from reconcile import job
from reconcile.errors import DiskError, LockedError, UnreachableError
from reconcile.meanwhile import meanwhile
from reconcile.receipts import ingest as captures
from reconcile.reports import keep
from reconcile.run import Run, opened
from reconcile.sandbox.generate import Generated
from reconcile.sandbox.protocol import Request, Response
from reconcile.sandbox.server import Sandbox
from reconcile.settings import Settings
from reconcile.store import Store
from reconcile.tables import BY_NAME

DAYS = job.Asked(date(2026, 1, 5), date(2026, 1, 7))
# Longer than anything waits that works; what does not ends as a failure, not as a test that hangs.
PATIENCE = 120.0
IN_NO_ORDER = "records"


def quiet(_what: str, _rows: int) -> None:
    """No progress."""


class Waiting(Sandbox):
    """Holds records and reports' files back until `ready` says so; `waited`: what it said at last.

    Each page of records has one more that can be none: it has no message_id.
    """

    ready: Callable[[Request], bool] = staticmethod(lambda _request: True)

    def __init__(self, *given: Any, **more: Any) -> None:
        self.waited: list[bool] = []
        super().__init__(*given, **more)

    def respond(self, request: Request) -> Response:
        """The answer, once it may come."""
        response = super().respond(request)
        if request.endpoint == "/v3/media/{id}" or request.endpoint.endswith("/records"):
            self.waited.append(until(lambda: self.ready(request)))
        if request.endpoint.endswith("/records") and "date_start" in request.query:
            assert isinstance(response.body, bytes)
            page = json.loads(response.body)
            if page["records"]:
                page["records"].append(page["records"][0] | {"message_id": ""})
                page["items_count"] += 1
            response = replace(response, body=json.dumps(page).encode())
        return response


def until(ready: Callable[[], bool]) -> bool:
    """Waits until something holds; False: it did not, for long."""
    ends = time.monotonic() + PATIENCE
    while not ready():
        if time.monotonic() > ends:
            return False
        time.sleep(0.02)
    return True


@pytest.fixture
def sandbox(world: Generated, monkeypatch: pytest.MonkeyPatch) -> Iterator[Waiting]:
    with Waiting(world.folder, now=world.mature_at, pending_seconds=0.05) as served:
        monkeypatch.setenv("VONAGE_API_KEY", served.api_key)
        monkeypatch.setenv("VONAGE_API_SECRET", served.api_secret)
        yield served


@pytest.fixture
def night(
    sandbox: Waiting, world: Generated, configure: Callable[..., Settings], tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Callable[..., Run]:  # fmt: skip
    """Runs a night into a store of that name, over captures and a send log; some are damaged."""
    monkeypatch.setenv("VONAGE_API_KEY", sandbox.api_key)
    monkeypatch.setenv("VONAGE_API_SECRET", sandbox.api_secret)
    log, cut = tmp_path / "sent.ndjson", tmp_path / "cut.ndjson.gz"
    log.write_bytes(some(1, 40) + b"{}\n")
    cut.write_bytes(gzip.compress(b"".join(b'{"n": %d}\n' % n for n in range(9000)))[:-900])
    for path in (log, cut):
        os.utime(path, (0, 0))  # nobody writes to them any more

    def run(name: str, *captures: str, **flags: Any) -> Run:
        dlr = [str(world.folder / "dlr" / "*"), str(cut), *captures]
        given = {"dlr": dlr, "send_log": [str(log)], "via": "sync", "base_url": sandbox.base_url}
        settings = configure(store=tmp_path / name, **given | flags)
        return job.run(settings, DAYS, world.mature_at, quiet)

    return run


@contextmanager
def one_after_the_other(this: Run, work: Callable[[Run], bool]) -> Iterator[Callable[[], bool]]:
    """What `meanwhile` was before: the work begins where its end is waited for."""
    yield lambda: work(this)


def rows_of(store: Path, name: str) -> list[list[Any]]:
    """A table's rows, partition by partition; those of a table without an order are sorted."""
    found = []
    for path in sorted((store / name).rglob("*.parquet")):
        rows = [str(row) for row in pq.ParquetFile(path).read().to_pylist()]
        found.append([path.parent.name, *(sorted(rows) if name == IN_NO_ORDER else rows)])
    return found


def bytes_of(store: Path, name: str) -> dict[str, bytes]:
    """A table's files."""
    return {path.parent.name: path.read_bytes() for path in (store / name).rglob("*.parquet")}


def told_by(this: Run) -> dict[str, Any]:
    """A manifest without what differs between any two runs."""
    text = json.dumps(this.manifest).replace(str(this.store.root), "STORE")
    told: dict[str, Any] = json.loads(text)
    told["seconds"] = list(told["seconds"])
    told["downloads"] = [each | {"request_id": ""} for each in told["downloads"]]
    return {name: told[name] for name in told if name != "run_id"}


def has_heard(store: Path) -> bool:
    """Whether captures and the send log are in the store, and its ledger says so."""
    if not any((store / "receipts").rglob("*.parquet")):
        return False
    ledger = json.loads((store / "ledger.json").read_text())
    return bool(ledger["captures"] and ledger["send_logs"] and not ledger["send_intake"])


@pytest.mark.slow
@pytest.mark.parametrize("via", ["sync", "async"])
def test_captures_are_here_before_the_records(
    sandbox: Waiting, night: Callable[..., Run], tmp_path: Path, via: str
) -> None:
    """Not one record is served before receipts and send log are published: and all goes on."""
    sandbox.ready = lambda _request: has_heard(tmp_path / "store")
    ended = night("store", via=via)
    assert sandbox.waited
    assert all(sandbox.waited)
    assert ended.manifest["judged"]


@pytest.mark.slow
@pytest.mark.parametrize("captures", [(), ("none/*",)], ids=["judged", "captures are missing"])
def test_as_one_after_the_other(
    sandbox: Waiting, night: Callable[..., Run], tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    captures: tuple[str, ...],
) -> None:  # fmt: skip
    """The same tables and the same manifest, whichever of both is the first to publish: `rejects`
    is of both."""
    with monkeypatch.context() as patch:
        patch.setattr("reconcile.meanwhile.meanwhile", one_after_the_other)
        before = night("before", *captures)
    beside = night("beside", *captures)
    sandbox.ready = lambda _request: has_heard(tmp_path / "behind")
    behind = night("behind", *captures)
    assert ("judged" in before.manifest) is not bool(captures)
    assert len(before.holes) == (4 if captures else 1)
    assert list(before.manifest) == list(beside.manifest)
    rejected = {row["source"].partition(":")[0] for row in _rejects(before.store.root)}
    assert {"reports", "send_log"} < rejected
    for other in (beside, behind):
        assert other.store.days(BY_NAME["receipts"]) == before.store.days(BY_NAME["receipts"])
        assert told_by(other) == told_by(before)
        assert other.holes == before.holes
        assert sorted(other.ledger.captures) == sorted(before.ledger.captures)
        for name in BY_NAME:
            assert rows_of(other.store.root, name) == rows_of(before.store.root, name), name
            if name not in (IN_NO_ORDER, "rejects"):
                assert bytes_of(other.store.root, name) == bytes_of(before.store.root, name), name


def _rejects(store: Path) -> list[dict[str, Any]]:
    return [row for path in (store / "rejects").rglob("*.parquet")
            for row in pq.ParquetFile(path).read().to_pylist()]  # fmt: skip


@pytest.mark.slow
def test_rejects_of_both_at_once(
    night: Callable[..., Run], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rejects of captures that are published between the download's reading of that partition and
    its replacing it are not lost: they cannot be."""
    staged, published = threading.Event(), threading.Event()
    stage_rejects, add, publish = keep._stage_rejects, captures.publish, Store.publish

    def slowly(*given: Any) -> Any:
        found = stage_rejects(*given)
        if found:
            staged.set()
            published.wait(5.0)
        return found

    def behind(*given: Any) -> None:
        assert staged.wait(PATIENCE)
        add(*given)

    def noted(store: Store, parts: list[Any]) -> None:
        publish(store, parts)
        if threading.current_thread().name == "meanwhile":
            published.set()

    monkeypatch.setattr(keep, "_stage_rejects", slowly)
    monkeypatch.setattr(captures, "publish", behind)
    monkeypatch.setattr(Store, "publish", noted)
    ended = night("store")
    told = ended.manifest["downloads"] + ended.manifest["captures"] + ended.manifest["send_logs"]
    assert len(_rejects(tmp_path / "store")) == sum(each["rejects"] for each in told)
    kinds = [sum(each["rejects"] for each in ended.manifest[name]) > 0
             for name in ("downloads", "captures", "send_logs")]  # fmt: skip
    assert all(kinds)


@pytest.mark.slow
def test_a_day_waits_for_no_other(
    sandbox: Waiting, night: Callable[..., Run], tmp_path: Path
) -> None:
    """The first slice of all comes only when the second day is in the store: yet told first."""
    second = tmp_path / "store" / "records" / "day=2026-01-06" / "records.parquet"

    def ready(request: Request) -> bool:
        return request.query.get("date_start", "")[:13] != "2026-01-05T00" or second.exists()

    sandbox.ready = ready
    ended = night("store")
    assert all(sandbox.waited)
    days = [entry["day"] for entry in ended.manifest["downloads"]]
    assert set(days) == {"2026-01-05", "2026-01-06"}
    assert days == sorted(days)
    taken = [entry["start"][:10] for entry in ended.ledger.downloads]
    assert taken == sorted(taken, reverse=True)


def command(sandbox: Sandbox, world: Generated, tmp_path: Path, *more: str) -> list[str]:
    """The night as cron runs it."""
    return [
        sys.executable, "-m", "reconcile.cli", "run", "--base-url", sandbox.base_url,
        "--store", str(tmp_path / "store"), "--dlr", str(world.folder / "dlr" / "*"),
        "--from", "2026-01-05", "--to", "2026-01-07", "--as-of", world.mature_at.isoformat(),
        "--poll-first", "50ms", "--pii", "keep", "--via", "async", *more,
    ]  # fmt: skip


@pytest.mark.slow
def test_a_download_that_fails(
    sandbox: Waiting, world: Generated, clean_environment: None, tmp_path: Path
) -> None:
    """It ends the run with its own line and code; captures that were taken in are no trouble."""
    secret = dict(os.environ, VONAGE_API_KEY=sandbox.api_key, VONAGE_API_SECRET="wrong")
    ended = subprocess.run(command(sandbox, world, tmp_path), env=secret, text=True,
                           capture_output=True, check=False, timeout=PATIENCE)  # fmt: skip
    assert ended.returncode == 4
    assert ended.stderr.count("\n") == 1
    assert "Unauthorized" in ended.stderr
    right = secret | {"VONAGE_API_SECRET": sandbox.api_secret}
    ended = subprocess.run(command(sandbox, world, tmp_path), env=right, text=True,
                           capture_output=True, check=False, timeout=PATIENCE)  # fmt: skip
    assert (ended.returncode, ended.stderr) == (0, "")


@pytest.mark.slow
def test_the_failure_of_the_download_comes_first(
    sandbox: Waiting, night: Callable[..., Run], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where both fail, the download's is told; where captures alone fail, records are here."""

    def broken(_this: Run) -> bool:
        raise DiskError("captures cannot be read")

    monkeypatch.setattr(job, "take_in", broken)
    with pytest.raises(UnreachableError):
        night("store", base_url="http://127.0.0.1:9", retries=0)
    with pytest.raises(DiskError, match="captures cannot be read"):
        night("store")
    assert {entry["records"] > 0 for entry in Store(tmp_path / "store").ledger().downloads} == {
        True
    }
    assert Store(tmp_path / "store").last_manifest() is None


@pytest.mark.slow
@pytest.mark.parametrize(
    ("number", "code"),
    [(signal.SIGKILL, -9), (signal.SIGTERM, 143), (signal.SIGINT, 130)],
    ids=["KILL", "TERM", "INT"],
)
def test_stopped_between_both(
    sandbox: Waiting, world: Generated, clean_environment: None, tmp_path: Path,
    number: signal.Signals, code: int,
) -> None:  # fmt: skip
    """Stopped when captures are here and records are not: the next run ends as if it had not been,
    reads no capture again and pays for no report again."""
    store, stopped = tmp_path / "store", threading.Event()
    key = {"VONAGE_API_KEY": sandbox.api_key, "VONAGE_API_SECRET": sandbox.api_secret}
    sandbox.ready = lambda _request: stopped.is_set()
    running = subprocess.Popen(command(sandbox, world, tmp_path), env=os.environ | key,
                               stderr=subprocess.PIPE, text=True)  # fmt: skip
    assert until(lambda: has_heard_captures(store) and bool(sandbox.requests))
    assert until(lambda: sandbox.billed_records > 0)
    running.send_signal(number)
    _, told = running.communicate(timeout=PATIENCE)
    assert (running.returncode, told) == (code, "")
    stopped.set()
    billed, kept = sandbox.billed_records, bytes_of(store, "receipts")
    ended = subprocess.run(command(sandbox, world, tmp_path), env=os.environ | key, text=True,
                           capture_output=True, check=False, timeout=PATIENCE)  # fmt: skip
    assert (ended.returncode, ended.stderr) == (0, "")
    assert bytes_of(store, "receipts") == kept
    last = Store(store).last_manifest() or {}
    assert "captures" not in last
    assert last["sums"]["judged"]["messages"] == 2000
    by_id = sum(entry["billed"] for entry in Store(store).ledger().refreshes)
    assert billed == 2000
    assert sandbox.billed_records == 2000 + by_id


def has_heard_captures(store: Path) -> bool:
    """Whether captures are in the store and its ledger, and nothing of them is under way."""
    if not (store / "ledger.json").exists():
        return False
    ledger = json.loads((store / "ledger.json").read_text())
    return bool(ledger["captures"]) and not ledger["intake"]


@pytest.fixture
def held(configure: Callable[..., Settings], world: Generated) -> Iterator[Run]:
    with opened(configure(), world.mature_at, quiet) as this:
        yield this


def test_whatever_ends_the_run_stops_the_engine(held: Run) -> None:
    """A query that would take for ever is given up, and the thread is gone."""
    begun = threading.Event()

    def endless(own: Run) -> bool:
        begun.set()
        own.con.con.execute(
            "SELECT sum(a.range * b.range) FROM range(10000000) a, range(10000000) b"
        )
        return True

    with pytest.raises(KeyboardInterrupt), meanwhile(held, endless):  # noqa: PT012 - it is begun
        assert begun.wait(PATIENCE)
        raise KeyboardInterrupt
    assert "meanwhile" not in {thread.name for thread in threading.enumerate()}


def test_whatever_ends_the_run_stops_the_reading(held: Run) -> None:
    """Work that tells its progress goes no further."""
    begun = threading.Event()

    def told(own: Run) -> bool:
        while True:
            own.progress("block", 1)
            begun.set()

    with pytest.raises(KeyboardInterrupt), meanwhile(held, told):  # noqa: PT012 - it is begun
        assert begun.wait(PATIENCE)
        raise KeyboardInterrupt
    assert "meanwhile" not in {thread.name for thread in threading.enumerate()}


def test_what_is_left_behind_writes_no_more(
    configure: Callable[..., Settings], world: Generated, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A thread that sits elsewhere when the run ends finds the store let go, and the next run's."""
    monkeypatch.setattr("reconcile.meanwhile.GRACE", 0.0)
    woken, ended = threading.Event(), threading.Event()
    refused: list[BaseException] = []

    def sits(own: Run) -> bool:
        woken.wait(PATIENCE)
        own.ledger.changed = ["2026-01-05"]
        for act in (lambda: own.store.save(own.ledger), lambda: own.store.publish([]),
                    lambda: own.store.place(BY_NAME["receipts"], "2026-01-05")):  # fmt: skip
            try:
                act()
            except LockedError as error:
                refused.append(error)
        ended.set()
        return True

    settings = configure()
    with (  # noqa: PT012 - a run that ends in the middle
        pytest.raises(KeyboardInterrupt),
        opened(settings, world.mature_at, quiet) as this,
        meanwhile(this, sits),
    ):
        this.store.save(this.ledger)
        raise KeyboardInterrupt
    before = (settings.store / "ledger.json").read_bytes()
    with Store.open(settings.store).lock():
        woken.set()
        assert ended.wait(PATIENCE)
    assert len(refused) == 2  # nothing to publish is published
    assert (settings.store / "ledger.json").read_bytes() == before


def test_one_thread_at_a_time(held: Run) -> None:
    """Two threads that change and save the ledger at once: each saved state has whole changes, and
    the last has all."""
    seen: list[tuple[int, int]] = []

    def enter(changes: int) -> None:
        for n in range(changes):
            with held.store.alone():
                held.ledger.captures[f"c{n}"] = {"days": []}
                held.ledger.objects[f"c{n}"] = "etag"
                held.store.save(held.ledger)
                saved = held.store.ledger()
                seen.append((len(saved.captures), len(saved.objects)))

    def downloads(_own: Run) -> bool:
        for n in range(50):
            with held.store.alone():
                held.ledger.downloads.append({"start": f"2026-01-05T00:00:{n:02}Z"})
                held.store.save(held.ledger)
        return True

    with meanwhile(held, downloads) as ended:
        enter(50)
        assert ended()
    assert all(captures == objects for captures, objects in seen)
    assert len(held.store.ledger().downloads) == 50
