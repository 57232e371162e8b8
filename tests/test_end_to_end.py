"""The whole job over real HTTP: the sandbox serves, the command runs, files are read back."""

from __future__ import annotations

import hashlib
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import duckdb
import pandas as pd
import pyarrow.parquet as pq
import pytest

from reconcile.sandbox.generate import generate
from reconcile.sandbox.server import Sandbox
from tests.in_process import called

DAYS = ("--from", "2026-01-05", "--to", "2026-01-08")
PUBLISHED = ("verdicts", "orphans", "summary", "reasons", "error_codes")
QUICK = ("--poll-first", "100ms", "--retry-longest", "1s")


class World:
    """Generated traffic, served; and the command, run against it as a person would."""

    def __init__(self, folder: Path, sandbox: Sandbox) -> None:
        self.folder, self.sandbox = folder, sandbox
        self.facts = json.loads((folder / "sandbox.json").read_text())
        self.as_of: str = self.facts["mature_at"]

    def arguments(self, store: Path, *more: str) -> list[str]:
        return [
            "run", "--base-url", self.sandbox.base_url, "--store", str(store),
            "--dlr", str(self.folder / "dlr" / "*"), *DAYS, "--as-of", self.as_of, *QUICK, *more,
        ]  # fmt: skip

    def command(self, store: Path, *more: str) -> list[str]:
        return [sys.executable, "-m", "reconcile.cli", *self.arguments(store, *more)]

    def environment(self) -> dict[str, str]:
        plain = {k: v for k, v in os.environ.items() if not k.startswith(("RECONCILE", "VONAGE"))}
        return plain | {
            "VONAGE_API_KEY": self.sandbox.api_key,
            "VONAGE_API_SECRET": self.sandbox.api_secret,
            "XDG_CONFIG_HOME": str(self.folder / "config"),
        }

    def call(self, store: Path, *more: str) -> tuple[int, str, str]:
        """The same in this process: exit code, stdout, stderr."""
        return called(self.arguments(store, *more), self.environment(), self.folder)

    def run(self, store: Path, *more: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            self.command(store, *more), env=self.environment(), text=True, capture_output=True,
            check=False, timeout=120,
        )  # fmt: skip


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    folder = tmp_path_factory.mktemp("world")
    generate(folder / "w", messages=6_000, days=3, seed=7)
    with Sandbox(folder / "w", pending_seconds=0.05) as sandbox:
        yield World(folder / "w", sandbox)


@pytest.fixture(scope="module")
def undisturbed(world: World, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store that one `run --via async` has made."""
    store = tmp_path_factory.mktemp("undisturbed") / "store"
    ended = world.run(store, "--via", "async")
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "", "")
    return store


def digests(store: Path) -> dict[str, str]:
    """Every published file by its path, as its digest."""
    return {
        str(path.relative_to(store)): hashlib.sha256(path.read_bytes()).hexdigest()
        for table in PUBLISHED
        for path in sorted((store / table).rglob("*.parquet"))
    }


def ledger_of(store: Path) -> dict[str, Any]:
    """What a store knows of its downloads."""
    found: dict[str, Any] = json.loads((store / "ledger.json").read_text())
    return found


@pytest.mark.slow
def test_verdicts_equal_the_truth(world: World, undisturbed: Path) -> None:
    """Every message has the verdict and the reason that the generator meant."""
    found = pq.read_table(undisturbed / "verdicts").to_pandas()
    truth = pd.read_parquet(world.folder / "truth.parquet")
    both = truth.merge(found, on="message_id", how="outer", suffixes=("_meant", ""), indicator=True)
    assert len(truth) == 6_000
    assert (both["_merge"] == "both").all()
    assert (both["verdict"] == both["verdict_meant"]).all()
    told = both[both["reason"].notna()]
    assert (told["reasons"].map(lambda reasons: reasons[0]) == told["reason"]).all()


@pytest.mark.slow
def test_both_apis_give_the_same_verdicts(world: World, undisturbed: Path, tmp_path: Path) -> None:
    """Pages and reports are two ways to the same records, so `verdicts` are equal row for row."""
    code, _, told = world.call(tmp_path / "sync", "--via", "sync")
    assert code == 0, told
    query = "SELECT * FROM read_parquet('{}/verdicts/*/*.parquet', hive_partitioning = false)"
    one, other = query.format(undisturbed), query.format(tmp_path / "sync")
    for left, right in ((one, other), (other, one)):
        assert duckdb.sql(f"({left}) EXCEPT ({right})").fetchall() == []


@pytest.mark.slow
def test_running_again_changes_no_byte_and_costs_nothing(world: World, undisturbed: Path) -> None:
    """The same command on the same store: exit 0, the same files, not one record more billed."""
    before, billed = digests(undisturbed), world.sandbox.billed_records
    code, _, told = world.call(undisturbed, "--via", "async")
    assert (code, told) == (0, "")
    assert digests(undisturbed) == before
    assert world.sandbox.billed_records == billed


@pytest.mark.slow
def test_killed_and_started_again(world: World, undisturbed: Path, tmp_path: Path) -> None:
    """SIGKILL at random moments, then the command again: the files of an undisturbed run."""
    moments, store = random.Random(5), tmp_path / "store"
    billed = world.sandbox.billed_records
    for _ in range(3):
        running = subprocess.Popen(
            world.command(store, "--via", "async"), env=world.environment(),
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        time.sleep(moments.uniform(0.8, 4.5))
        running.send_signal(signal.SIGKILL)
        running.wait()
    ended = world.run(store, "--via", "async")
    assert ended.returncode == 0, ended.stderr
    assert digests(store) == digests(undisturbed)
    # Contradictions are asked for once more by id: as often as in the undisturbed run.
    by_id = sum(entry["billed"] for entry in ledger_of(undisturbed)["refreshes"])
    assert world.sandbox.billed_records - billed == 6_000 + by_id
    assert 0 < by_id < 100


@pytest.mark.slow
def test_pandas_reads_the_summary_as_it_lies(undisturbed: Path) -> None:
    """`pd.read_parquet` on the folder works, and Namibia is a country."""
    summary = pd.read_parquet(undisturbed / "summary")
    grouped = summary.groupby(["country", "network_code"])[["missing", "unknown", "suspect"]].sum()
    assert "NA" in grouped.index.get_level_values("country")
    assert int(summary["messages"].sum()) == 6_000


@pytest.mark.slow
def test_sums_close_in_every_row(undisturbed: Path) -> None:
    """In each row of the summary the six verdicts add up to the messages."""
    rows = pd.read_parquet(undisturbed / "summary")
    verdicts = ["confirmed", "pending", "missing", "unknown", "suspect", "not_expected"]
    assert (rows[verdicts].sum(axis=1) == rows["messages"]).all()
    lost = ["lost_webhook", "carrier_silent", "platform_expired", "unattributed", "capture_outage"]
    assert (rows[[f"missing_{name}" for name in lost]].sum(axis=1) == rows["missing"]).all()


@pytest.mark.slow
def test_every_captured_line_is_accounted_for(world: World, undisturbed: Path) -> None:
    """Lines read = receipts + rejects + blank ones, in the manifest and in the tables."""
    manifests = [json.loads(p.read_text()) for p in (undisturbed / "runs").glob("*.json")]
    captures = next(m["captures"] for m in manifests if "captures" in m)
    total = {k: sum(c[k] for c in captures) for k in ("lines", "receipts", "rejects", "blank")}
    assert total["lines"] == total["receipts"] + total["rejects"] + total["blank"]
    assert total["rejects"] == world.facts["rejects"]
    for table in ("receipts", "rejects"):
        assert pq.read_table(undisturbed / table).num_rows == total[table]


@pytest.mark.slow
def test_nothing_tells_a_number_or_a_secret(world: World, undisturbed: Path) -> None:
    """No handset's number and no secret lies anywhere in the store."""
    rows = duckdb.sql(f"SELECT \"to\" FROM '{world.folder}/world/*/*.parquet' LIMIT 50").fetchall()
    texts = [p.read_text() for p in undisturbed.rglob("*.json")]
    assert not any(world.sandbox.api_secret in text for text in texts)
    for path in undisturbed.rglob("*.parquet"):
        columns = [c for c in ("recipient", "reason") if c in pq.read_schema(path).names]
        if columns:
            found = str(pq.read_table(path, columns=columns, partitioning=None).to_pydict())
            assert not any(number in found for (number,) in rows)


@pytest.mark.slow
def test_files_say_what_they_are(undisturbed: Path) -> None:
    """A parquet file tells its as_of, its versions, and a sentence for each of its columns."""
    for table in PUBLISHED:
        path = next((undisturbed / table).rglob("*.parquet"))
        schema = pq.read_schema(path)
        about = json.loads(schema.metadata[b"reconcile"])
        assert about["table"] == table
        assert set(about["columns"]) == set(schema.names)
        assert {"as_of", "rules_version", "package_version"} <= set(about)


@pytest.mark.slow
def test_a_second_run_finds_the_store_locked(world: World, tmp_path: Path) -> None:
    """While one run holds the store, another ends at once with 75 and says who holds it."""
    from reconcile.store import Store

    with Store.open(tmp_path / "store", create=True).lock():
        ended = world.run(tmp_path / "store")
    assert ended.returncode == 75
    assert str(os.getpid()) in ended.stderr


@pytest.mark.slow
@pytest.mark.parametrize(
    ("number", "code", "after"),
    [(signal.SIGTERM, 143, 0), (signal.SIGINT, 130, 0.4), (signal.SIGTERM, 143, 0.9)],
    ids=["TERM", "INT", "TERM later"],
)
def test_a_stopped_run_says_so(
    world: World, tmp_path: Path, number: signal.Signals, code: int, after: float
) -> None:
    """A signal ends a run with its own code and without a traceback, whatever is under way."""
    running = subprocess.Popen(
        world.command(tmp_path / "store"), env=world.environment(),
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    started = tmp_path / "store" / ".work" / "unfinished.json"
    while not started.exists():
        time.sleep(0.05)
    time.sleep(after)
    running.send_signal(number)
    _, told = running.communicate(timeout=30)
    assert (running.returncode, told) == (code, "")
