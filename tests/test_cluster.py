"""Judging on a Spark cluster: the same tables as on DuckDB, and one clear line where it fails.

The cluster is real: a master and two workers, processes of this machine (`rig_spark`). The same at
scale, and through Spark Connect: `python -m tests.engines_agree --legs spark`.
"""

from __future__ import annotations

import shutil
import socket
import subprocess
import sys
from collections.abc import Callable
from concurrent import futures
from datetime import UTC, datetime, timedelta
from pathlib import Path

import judge_support as core
import pyarrow.parquet as pq
import pytest
from random_traffic import Traffic

from reconcile import settings
from reconcile.cluster.dialect import java_pattern
from reconcile.days import iso
from reconcile.errors import SettingsError
from reconcile.store import Store
from reconcile.tables import SENT, VERDICTS
from tests import rig_spark
from tests.judged_stores import compare, judge, plain
from tests.spark_cluster import losing_a_worker

DAY = datetime(2026, 10, 14, tzinfo=UTC)
ONE = timedelta(days=1)
NIGHT, MATURE = DAY + timedelta(hours=26), DAY + 12 * ONE
FLAGS = ("--campaign", "^(?P<campaign>[a-z]+)-", "--currency", "EUR")
needs_spark = pytest.mark.skipif(
    bool(rig_spark.lacking()), reason=f"not installed: {rig_spark.lacking()}"
)
needs_connect = pytest.mark.skipif(
    bool(rig_spark.lacking(connect=True)),
    reason=f"not installed: {rig_spark.lacking(connect=True)}",
)
# A CLI whose patience with a cluster ends soon.
HASTY = ["-c", "from reconcile.cluster import session; session.PATIENCE = 5.0\n"
         "from reconcile.cli import main; main()"]  # fmt: skip


def a_day(root: Path) -> Store:
    """A day around every threshold, an outage in it, accounts that share ids, a send log."""
    traffic = Traffic(8, 1200, day=DAY)
    for n, row in enumerate(traffic.records):
        row["client_ref"] = (None, f"spring-{n}", f"X-{n}", "autumn-1")[n % 4]
    for row in traffic.receipts[::50]:
        row["message_id"] = f"0{row['message_id']}"
    begun = DAY + timedelta(hours=10)
    silent = [
        core.record(f"S{n:03d}", received_at=begun + timedelta(seconds=n), price=core.money("0.05"),
                    network_code=("26201", "26202", "26203")[n % 3], currency="EUR")
        for n in range(60)
    ]  # fmt: skip
    # Of every four receipts in reach three are another day's: the day's own are put aside first.
    others = [
        row | {"message_id": f"{n}-{row['message_id']}", "line": 1_000_000 * n + row["line"]}
        | {name: row[name] and row[name] + ONE for name in ("pushed_at", "captured_at")}
        for n in (1, 2, 3) for row in traffic.receipts
    ]  # fmt: skip
    store = core.fill_store(root, traffic.records + silent, [*traffic.receipts, *others])
    sent = [
        dict.fromkeys(SENT.names) | {
            "message_id": row["message_id"] if n % 3 else f"U{n}", "status": "0",
            "account_id": ("a1", None, "a9")[n % 3], "source": "send_log:log", "line": n, "part": 1,
            "sent_at": row["received_at"],
        }
        for n, row in enumerate(traffic.records[:300])
    ]  # fmt: skip
    log = store.path(SENT, str(DAY.date()))
    log.parent.mkdir(parents=True)
    pq.write_table(core.arrow(SENT, sent), log)
    ledger = store.ledger()
    ledger.downloads = [
        {"account_id": account, "product": product, "start": iso(DAY + n * ONE),
         "end": iso(DAY + (n + 1) * ONE), "via": "sync", "request_id": "", "records": 1,
         "billed": 1, "rejects": 0, "as_of": iso(NIGHT)}
        for account in ("a1", "a2", "a3") for product in ("SMS", "MESSAGES") for n in range(-9, 2)
    ]  # fmt: skip
    store.save(ledger)
    return store


def published(root: Path) -> dict[str, bytes]:
    """Every file that readers of a store read."""
    return {
        str(path.relative_to(root)): path.read_bytes()
        for path in root.rglob("*")
        if path.is_file() and ".work" not in path.parts
    }


@pytest.fixture(scope="module")
def judged(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A day that was judged in the night after it, on DuckDB."""
    root = tmp_path_factory.mktemp("judged") / "store"
    a_day(root)
    judge(root, NIGHT, "--date", str(DAY.date()), *FLAGS)
    return root


def ended(
    root: Path, url: str, *start: str, env: dict[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """`reconcile judge` of the day on a cluster."""
    command = [sys.executable, *(start or ("-m", "reconcile.cli")), "judge", "--store", str(root)]
    return subprocess.run(
        [*command, "--date", str(DAY.date()), "--as-of", iso(MATURE), "--engine", "spark",
         "--spark", url, *FLAGS],
        env=plain() | (env or {}), capture_output=True, text=True, timeout=300,
    )  # fmt: skip


# One test, and one judging: a cluster takes its time to start, and so does each judging on it.
@pytest.mark.slow
@needs_spark
def test_all_tables_are_equal_though_a_worker_is_killed(judged: Path, tmp_path: Path) -> None:
    """A day judged on two workers, one of which is killed while it writes, is DuckDB's day, row for
    row; its verdicts are in several files, in order; then all workers are lost, and the store stays
    as it was."""
    ours, theirs = tmp_path / "ours", tmp_path / "theirs"
    shutil.copytree(judged, ours)
    shutil.copytree(judged, theirs)
    judge(ours, MATURE, "--date", str(DAY.date()), *FLAGS)
    with rig_spark.running(tmp_path / "cluster", **rig_spark.QUICK) as cluster:
        with losing_a_worker(cluster, theirs) as lost:
            told = ended(theirs, cluster.url, env=cluster.environment)
        assert told.returncode in (0, 3), told.stderr
        assert "WARN" not in told.stderr  # what Java says is in a log
        assert lost
        found = {each.table: each for each in compare(Store.open(ours), Store.open(theirs))}
        assert {name: each.differ for name, each in found.items() if each.differ} == {}
        for name in ("verdicts", "orphans", "reasons", "campaigns", "changes", "unrecorded"):
            assert found[name].rows > 3, name
        store = Store.open(theirs)
        files = store.files(VERDICTS, DAY.date())
        assert len(files) == found["verdicts"].files > 1
        ids = [id_ for file in files for id_ in pq.read_table(file)["message_id"].to_pylist()]
        assert ids == sorted(ids)
        reasons = {r for row in pq.read_table(files[0])["reasons"].to_pylist() for r in row}
        assert "capture_outage" in {
            r for file in files for row in pq.read_table(file)["reasons"].to_pylist() for r in row
        }, reasons
        assert not list((theirs / ".work").glob("staging/parts-*"))
        before = published(theirs)
        while cluster.workers:
            cluster.kill_worker()
        told = ended(theirs, cluster.url, *HASTY, env=cluster.environment)
    assert told.returncode == 6
    assert "no worker did anything for 5 s" in told.stderr
    assert told.stderr.count("\n") == 1
    assert published(theirs) == before


@pytest.mark.slow
@needs_spark
def test_nobody_listens(judged: Path) -> None:
    """A cluster that is not there is one line, before anything is begun."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    before = published(judged)
    told = ended(judged, f"spark://127.0.0.1:{port}")
    assert told.returncode == 6
    assert f"spark://127.0.0.1:{port} is not there: connection refused" in told.stderr
    assert told.stderr.count("\n") == 1
    assert published(judged) == before


@pytest.mark.slow
def test_pyspark_is_not_installed(judged: Path) -> None:
    """Without pyspark the extra is named, before anything is begun."""
    hidden = "import sys; sys.modules['pyspark'] = None; from reconcile.cli import main; main()"
    told = ended(judged, "spark://127.0.0.1:7077", "-c", hidden)
    assert told.returncode == 2
    assert "needs pyspark: pip install 'dlr-reconcile[spark]'" in told.stderr
    assert told.stderr.count("\n") == 1


@pytest.mark.slow
@needs_connect
def test_another_major_version(judged: Path) -> None:
    """A Spark Connect server that is Spark 3 is refused, and both versions are said."""
    before = published(judged)
    with _answering("3.5.1") as url:
        told = ended(judged, url)
    assert told.returncode == 6
    assert "it is Spark 3.5.1, this machine has 4." in told.stderr
    assert told.stderr.count("\n") == 1
    assert published(judged) == before


class _answering:  # noqa: N801 - used as a function
    """A Spark Connect server that knows nothing but its version."""

    def __init__(self, version: str) -> None:
        import grpc
        from pyspark.sql.connect.proto import base_pb2, base_pb2_grpc

        class Server(base_pb2_grpc.SparkConnectServiceServicer):
            def AnalyzePlan(self, request: object, context: object) -> object:  # noqa: N802
                said = base_pb2.AnalyzePlanResponse.SparkVersion(version=version)
                return base_pb2.AnalyzePlanResponse(
                    session_id=request.session_id, spark_version=said
                )

            def Config(self, request: object, context: object) -> object:  # noqa: N802
                return base_pb2.ConfigResponse(session_id=request.session_id)

            def ReleaseSession(self, request: object, context: object) -> object:  # noqa: N802
                return base_pb2.ReleaseSessionResponse(session_id=request.session_id)

        self._server = grpc.server(futures.ThreadPoolExecutor(2))
        base_pb2_grpc.add_SparkConnectServiceServicer_to_server(Server(), self._server)
        self._port = self._server.add_insecure_port("127.0.0.1:0")

    def __enter__(self) -> str:
        self._server.start()
        return f"sc://127.0.0.1:{self._port}"

    def __exit__(self, *_: object) -> None:
        self._server.stop(0).wait()


@pytest.mark.parametrize(("given", "java"), [
    (r"(?P<campaign>[a-z]+)", "(?d)([a-z]+)"),
    (r"^(?:x|y)-(?P<campaign>\w+?)\.\d{2}$", r"(?d)^(?:x|y)-(\w+?)\.\d{2}\z"),
    (r"[^$(?P<]\[(?P<campaign>.)", r"(?d)[^$(?P<]\[(.)"),
])  # fmt: skip
def test_patterns_in_java(given: str, java: str) -> None:
    """A campaign's expression becomes one that Java reads as DuckDB does."""
    assert java_pattern(given) == java


@pytest.mark.parametrize("given", [
    r"(?P<campaign>\s)", r"\b(?P<campaign>x)", "(?i)(?P<campaign>x)", "(?P<campaign>[[:alpha:]])",
    "(?P<campaign>[a-z&&b])", "(?P<campaign>[]a])", r"(?P<campaign>\pN)", "(?P<campaign>x)\\",
])  # fmt: skip
def test_patterns_that_java_may_read_otherwise(given: str) -> None:
    """What the two may read otherwise is refused."""
    with pytest.raises(SettingsError, match="otherwise than DuckDB"):
        java_pattern(given)


@pytest.mark.parametrize(("flags", "said"), [
    ({"engine": "spark"}, "needs the setting spark: the URL of its cluster"),
    ({"engine": "flink"}, "setting engine"),
    ({"engine": "spark", "spark": "http://host"}, "must be spark://HOST:PORT, sc://HOST"),
    ({"engine": "spark", "spark": "sc://host/;token=s3cret"}, "SPARK_CONNECT_AUTHENTICATE_TOKEN"),
])  # fmt: skip
def test_settings(
    flags: dict[str, str], said: str, configure: Callable[..., settings.Settings]
) -> None:
    """A cluster that cannot be meant is one line, and a token in its URL is not repeated."""
    with pytest.raises(SettingsError) as refused:
        configure(**flags)
    assert said in str(refused.value)
    assert "s3cret" not in str(refused.value)
