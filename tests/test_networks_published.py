"""`networks`, `concentrations` and what the summary says of networks, from real judged days."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import duckdb
import judge_support as core
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from judged_traffic import taken_in

from reconcile import judging
from reconcile.judge.features import BINS
from reconcile.sandbox.generate import ACCOUNT, START
from reconcile.sandbox.places import FAKE_LOOKING
from reconcile.sandbox.places import NETWORKS as NETWORKS_OF_THE_SANDBOX
from reconcile.store import Store
from reconcile.tables import CONCENTRATIONS, NETWORKS, RECEIPTS, RECORDS, SUMMARY

PAIR = (
    "network_code = '40445' "
    "AND sender = (SELECT min(sender) FROM records WHERE network_code = '40445')"
)


@pytest.fixture(scope="module")
def honest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A judged day of 20,000 messages, behind 28 days that were just like it."""
    folder = tmp_path_factory.mktemp("networks")
    made = taken_in(folder, messages=20_000, days=1, seed=3)
    (folder / "as_of").write_text(made.mature_at.isoformat())
    judge(folder)
    store = Store.open(folder / "store")
    rows = [row for row in core.published(store, NETWORKS, START) if row["span"] == "1d"]
    for before in range(6, 34):
        day = START - timedelta(days=before)
        put(store, day, [{**row, "date": day, "network_verdict": "normal"} for row in rows])
    return folder


def put(store: Store, day: date, rows: list[core.Row]) -> None:
    path = store.path(NETWORKS, day)
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist(rows, schema=NETWORKS.schema), path)


def judge(folder: Path, again: bool = False) -> None:
    """Judges the day; `again`: only its networks, from what is published of it."""
    from datetime import datetime

    store = Store.open(folder / "store")
    as_of = datetime.fromisoformat((folder / "as_of").read_text())
    with core.bench_for(store, as_of, ACCOUNT.api_key) as bench:
        if again:
            store.publish(judging.judge_networks(bench, START))
        else:
            judging.judge_day(bench, START, covered=True)


@pytest.fixture
def without(honest: Path, tmp_path: Path) -> Callable[[str], Path]:
    """The same day, without the receipts of messages that SQL over `records` names; judged."""

    def made(which: str) -> Path:
        folder = tmp_path / "day"
        shutil.copytree(honest, folder)
        store = Store.open(folder / "store")
        con = duckdb.connect()
        con.execute(f"CREATE VIEW records AS FROM '{store.path(RECORDS, START)}'")
        for part in store.days(RECEIPTS):
            path = store.path(RECEIPTS, part)
            rows = con.execute(
                f"SELECT r.* FROM read_parquet('{path}', hive_partitioning = false) r WHERE "
                f"message_id NOT IN (SELECT message_id FROM records WHERE {which})"
            ).to_arrow_table()
            pq.write_table(rows.cast(RECEIPTS.schema), path)
        judge(folder)
        return folder

    return made


def called(*words: str, code: int = 0) -> subprocess.CompletedProcess[str]:
    """The command, as a shell would call it."""
    command = [sys.executable, "-m", "reconcile.cli", *words]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ended.returncode == code, ended.stderr
    return ended


def rows_of(folder: Path, **where: Any) -> list[core.Row]:
    rows = core.published(Store.open(folder / "store"), NETWORKS, START)
    return [row for row in rows if all(row[k] == v for k, v in where.items())]


@pytest.mark.slow
def test_honest_day(honest: Path) -> None:
    """Sums are those of the summary; only the network that was made to look fake is odd."""
    judge(honest)
    rows = rows_of(honest, span="1d")
    summary = core.published(Store.open(honest / "store"), SUMMARY, START)
    for name in ("messages", "missing", "unknown", "suspect", "delivered", "expired"):
        told = sum(row[name] for row in rows if row["network_code"] != "*")
        assert told == sum(row[name] for row in summary), name
        assert told == sum(row[name] for row in rows if row["network_code"] == "*")
    assert all(len(row["latency_histogram"]) == BINS for row in rows)
    assert all(sum(row["latency_histogram"]) <= row["delivered"] for row in rows)
    verdicts = {(row["country"], row["network_code"]): row["network_verdict"] for row in rows}
    for row in summary:
        if row["messages"]:
            assert row["network_verdict"], row["network_code"]
    odd = {code for (_, code), verdict in verdicts.items() if verdict in ("suspect", "watch")}
    assert odd <= {"*", NETWORKS_OF_THE_SANDBOX[FAKE_LOOKING].code}
    assert sum(row["spend"] for row in rows if row["network_code"] != "*") == sum(
        row["spend"] for row in summary
    )


@pytest.mark.slow
def test_judged_again_from_what_is_published(honest: Path) -> None:
    """Judging only the networks again changes nothing, not a byte of the summary."""
    store = Store.open(honest / "store")
    judge(honest)
    before = core.published(store, NETWORKS, START)
    summary = store.path(SUMMARY, START).read_bytes()
    # As in a run in which no day came so far that its features were looked at.
    core.connection().con.execute("DROP TABLE outages")
    judge(honest, again=True)
    assert core.published(store, NETWORKS, START) == before
    assert store.path(SUMMARY, START).read_bytes() == summary


@pytest.mark.slow
def test_where_it_concentrates(without: Callable[[str], Path]) -> None:
    """One sender on one network loses its receipts: that pair is named first, and the network."""
    folder = without(PAIR)
    told = core.published(Store.open(folder / "store"), CONCENTRATIONS, START)
    assert [row["rank"] for row in told if row["verdict"] == "missing"] == [1, 2, 3]
    first = told[0]
    assert (first["verdict"], first["dimension"]) == ("missing", "network × sender")
    assert first["value"].startswith("IN 40445 × ")
    assert "over-represented" in first["sentence"]
    (row,) = rows_of(folder, span="1d", network_code="40445")
    assert row["network_verdict"] == "suspect"
    assert row["reasons"] == ["missing_rise"]
    assert row["k"] == row["told_missing"]
    assert row["rate_low"] < row["rate"] < row["rate_high"]
    assert row["baseline"] < row["rate"] / 2
    assert row["p"] <= row["q"] <= 0.05
    assert len(row["samples"]) == 5
    assert row["spend_at_stake"] == row["spend_unconfirmed"]
    verdicts = pq.ParquetFile(next((folder / "store" / "verdicts").glob("*/*.parquet"))).read()
    missing = {
        v["message_id"] for v in verdicts.to_pylist()
        if v["network_code"] == "40445" and v["verdict"] == "missing"
    }  # fmt: skip
    assert set(row["samples"]) <= missing
    shown = called("show", "--networks", "--store", str(folder / "store")).stdout
    assert f"{row['k']:,} of {row['n']:,} messages lack their receipt" in shown
    assert first["sentence"] in shown


@pytest.mark.slow
def test_an_outage_of_ours_is_nobody_elses(without: Callable[[str], Path]) -> None:
    """Two hours without receipts on all networks: none is flagged, and the hours are named."""
    noon = f"TIMESTAMPTZ '{START} 12:00:00+00'"
    folder = without(
        f"coalesce(finalized_at, received_at) BETWEEN {noon} AND {noon} + INTERVAL 2 HOUR"
    )
    flagged = [row for row in rows_of(folder) if "missing_rise" in row["reasons"]]
    assert not flagged
    (silent,) = {tuple(row["outages"]) for row in rows_of(folder, span="1d")}
    assert silent == (f"{START} 12:00–14:00",)
    assert sum(row["masked"] for row in rows_of(folder, span="1d", network_code="*")) > 500
    assert core.published(Store.open(folder / "store"), CONCENTRATIONS, START) == []
    shown = called("show", "--networks", "--store", str(folder / "store")).stdout
    assert f"Our own capture was down: {START} 12:00–14:00 UTC" in shown


@pytest.mark.slow
def test_calibrate(honest: Path) -> None:
    """The account's own history is played again: one row a rule, and what it would have flagged."""
    store = str(honest / "store")
    lines = called("calibrate", "--days", "30", "--store", store, "--format", "csv").stdout.split()
    assert lines[0].startswith("rule,days,networks,flagged")
    assert [line.split(",")[0] for line in lines[1:]][-1] == "suspect"
    (missing,) = [line.split(",") for line in lines if line.startswith("missing_rise,")]
    assert missing[3] == "0"


@pytest.mark.slow
@pytest.mark.parametrize(("text", "said"), [
    ("id,converted\n1,true\n", "lacks the column message_id: it has id, converted"),
    ("", "conversions"),
])  # fmt: skip
def test_bad_conversions(honest: Path, tmp_path: Path, text: str, said: str) -> None:
    file = tmp_path / "conversions.csv"
    file.write_text(text)
    ended = called("judge", "--store", str(honest / "store"), "--conversions", str(file), code=6)
    (line,) = ended.stderr.splitlines()
    assert said in line
