"""Reaches a Spark cluster, and waits for it no longer than it gets on.

A URL of a master (`spark://host:7077`, `yarn`, `local[2]`) makes this process the driver, through
Java; a Spark Connect URL (`sc://host`) speaks to a server that is one.
"""

from __future__ import annotations

import os
import shutil
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

from reconcile.cluster import parts
from reconcile.cluster.dialect import java_pattern
from reconcile.errors import ClusterError, SettingsError

Found = TypeVar("Found")

REACHED_WITHIN = 10.0  # seconds to connect
# Seconds in which something must get on: an executor be given, a task be under way.
PATIENCE = 180.0
PORTS = {"spark": 7077, "sc": 15002}
EXTRA = "pip install 'dlr-reconcile[spark]'"
# What answers depend on, whatever the cluster's own settings are.
OPTIONS = {"spark.sql.session.timeZone": "UTC", "spark.sql.ansi.enabled": "true"}
_PYTHON = "let PYSPARK_PYTHON name one of this minor version that has it"
# What Spark says → how to mend it.
_MENDS = {
    "PYTHON_VERSION_MISMATCH": f"its workers run another Python than this machine: {_PYTHON}",
    "PACKAGE_NOT_INSTALLED": f"its workers lack pyarrow: {_PYTHON}",
    "No module named 'pyarrow'": f"its workers lack pyarrow: {_PYTHON}",
    "OutOfMemoryError": "an executor ran out of memory: raise spark.executor.memory",
    "JAVA_GATEWAY_EXITED": "Java did not start: install Java 17 or 21, or set JAVA_HOME",
    "All masters are unresponsive": "no Spark master of this version answers there",
    "failed to connect to all addresses": "its server is gone: look at its log",
    "Connection refused": "it is gone: look at its log",
}


def refuse(url: str, campaign: str | None = None) -> None:
    """Looks whether a cluster could be worked with, before anything is begun. Starts nothing.

    Args:
        url: the setting `spark`.
        campaign: the setting of that name, which Spark must read as DuckDB does.

    Raises:
        SettingsError: something that it takes is not installed here, or cannot be asked of it.
        ClusterError: nothing listens there.
    """
    lacks = [name for name in _needed(url) if not find_spec(name)]
    if lacks:
        raise SettingsError(f'engine = "spark" needs {" and ".join(lacks)}: {EXTRA}')
    if campaign:
        java_pattern(campaign)
    if not url.startswith("sc://") and not shutil.which(_java()):
        raise SettingsError(f"spark {url}: this machine is its driver and has no Java: install "
                            "Java 17 or 21, or set JAVA_HOME")  # fmt: skip
    places = [place for part in url.split(",") for place in _place(part, url)]
    troubles = [trouble for trouble in map(_unreachable, places) if trouble]
    if places and len(troubles) == len(places):
        raise ClusterError(f"spark {_shown(url)} is not there: {troubles[0]}; start it, or judge "
                           'with engine = "duckdb"')  # fmt: skip


def _needed(url: str) -> list[str]:
    return ["pyspark", *(["grpc", "grpc_status", "google.rpc"] if url.startswith("sc://") else [])]


def _java() -> str:
    home = os.environ.get("JAVA_HOME")
    return str(Path(home, "bin", "java")) if home else "java"


def _place(part: str, url: str) -> list[tuple[str, int]]:
    """Where something must listen; nowhere for masters that are not named by host and port."""
    scheme = urlsplit(url).scheme
    if scheme not in PORTS:
        return []
    parts_ = urlsplit(part if "://" in part else f"{scheme}://{part}")
    return [(parts_.hostname or "", parts_.port or PORTS[scheme])]


def _unreachable(place: tuple[str, int]) -> str:
    """Why a place cannot be connected to; empty where it can."""
    try:
        socket.create_connection(place, REACHED_WITHIN).close()
    except OSError as error:
        return (error.strerror or str(error)).lower()
    return ""


def _shown(url: str) -> str:
    """A URL without its parameters, where tokens stand."""
    return url.partition(";")[0].partition("/;")[0]


class Cluster:
    """A session of Spark whose calls end: with what they found, or in one line."""

    def __init__(self, session: Any, url: str, log: Path | None) -> None:
        self.session, self.url, self.log = session, _shown(url), log
        self.is_remote = url.startswith("sc://")
        self._waits = False
        if self.is_remote:
            session.registerProgressHandler(self._hear)

    def call(self, ask: Callable[[Any], Found]) -> Found:
        """What `ask` finds with the session; this thread only waits, so that a signal is heard.

        Raises:
            ClusterError: it failed, or nothing got on for long.
        """
        found: list[Any] = []
        failed: list[BaseException] = []

        def work() -> None:
            try:
                found.append(ask(self.session))
            except BaseException as error:
                failed.append(error)

        thread = threading.Thread(target=work, daemon=True)
        thread.start()
        stalled = self._wait(thread)
        if found:
            return found[0]  # type: ignore[no-any-return] # of the type that `ask` has
        raise self.failure(failed[0] if failed else None, stalled) from None

    def _wait(self, thread: threading.Thread) -> bool:
        """Waits for a call; one in which nothing gets on is stopped, which is said."""
        since, stalled = time.monotonic(), False
        while thread.is_alive():
            thread.join(0.2)
            if not self._is_stuck():
                since = time.monotonic()
            elif time.monotonic() - since > PATIENCE:
                if stalled:
                    break  # it does not even stop
                stalled, since = True, time.monotonic() - PATIENCE + REACHED_WITHIN
                with suppress(Exception):
                    self._stop_all()
        return stalled

    def _is_stuck(self) -> bool:
        """Whether work is there of which no worker does any."""
        if self.is_remote:
            return self._waits
        try:
            tracker = self.session.sparkContext.statusTracker()
            stages = [tracker.getStageInfo(n) for n in tracker.getActiveStageIds()]
        except Exception:
            return True
        return bool(stages) and not any(s.numActiveTasks for s in stages if s)

    def _hear(self, stages: Any, inflight_tasks: int, operation_id: Any, done: bool) -> None:
        self._waits = (
            not done
            and not inflight_tasks
            and any(s.num_completed_tasks < s.num_tasks for s in stages or ())
        )

    def _stop_all(self) -> None:
        if self.is_remote:
            self.session.interruptAll()
        else:
            self.session.sparkContext.cancelAllJobs()

    def failure(self, error: BaseException | None, stalled: bool = False) -> ClusterError:
        """What went wrong, in one line."""
        where = f"spark {self.url}"
        if stalled:
            return ClusterError(
                f"{where}: no worker did anything for {PATIENCE:.0f} s: are they running, with "
                "cores and memory free? Run it again when they are"
            )
        told = f"{type(error).__name__}: {error}"
        mend = next((mend for words, mend in _MENDS.items() if words in told), "")
        log = f" (its log: {self.log})" if self.log else ""
        if mend:
            return ClusterError(f"{where}: {mend}{log}")
        return ClusterError(f"{where} failed: {_said(told)}{log}; what was published before stays")


def _said(told: str) -> str:
    """The line of a Java or Python failure that says most, cut where it grows long."""
    lines = [line.strip() for line in told.splitlines() if line.strip()]
    python = [line for line in lines if line.split(":")[0].endswith(("Error", "Exception"))]
    line = python[-1] if "Traceback" in told and python else lines[0]
    return line if len(line) <= 300 else f"{line[:300]}..."


@contextmanager
def connected(url: str, work: Path, campaign: str | None = None) -> Iterator[Cluster]:
    """A cluster, proven: of our version, with workers that have Python and see the folder `work`.

    Raises:
        SettingsError, ClusterError: see `refuse`; and it is another one, or its workers lack
            something.
    """
    refuse(url, campaign)
    log = None if url.startswith("sc://") else work / "spark.log"
    cluster = Cluster(_opened(url, log), url, log)
    try:
        _prove(cluster, work)
        yield cluster
    finally:
        stop = threading.Thread(target=_stop, args=(cluster.session,), daemon=True)
        stop.start()
        stop.join(REACHED_WITHIN)


def _stop(session: Any) -> None:
    with suppress(Exception):
        session.stop()


def _opened(url: str, log: Path | None) -> Any:
    try:
        session = _remote(url) if log is None else _driver(url, log)
        for name, value in OPTIONS.items():
            session.conf.set(name, value)
    except Exception as error:
        told = f"{type(error).__name__}: {error}"
        mend = next((mend for words, mend in _MENDS.items() if words in told), _said(told))
        raise ClusterError(f"spark {_shown(url)} cannot be used: {mend}") from None
    return session


def _remote(url: str) -> Any:
    from pyspark.sql.connect.client.retries import DefaultPolicy
    from pyspark.sql.connect.session import SparkSession

    session = SparkSession.builder.remote(url).create()
    # A server that is gone is told after half a minute, not after ten.
    session.client.set_retry_policies([DefaultPolicy(max_retries=8, max_backoff=5000)])
    return session


def _driver(url: str, log: Path) -> Any:
    """This process as the driver; what Java has to say goes into a log."""
    from pyspark import SparkConf, SparkContext
    from pyspark.java_gateway import launch_gateway
    from pyspark.sql import SparkSession

    if url.startswith("local"):
        os.environ.setdefault("PYSPARK_PYTHON", sys.executable)
    conf = SparkConf(loadDefaults=False).setMaster(url).setAppName("reconcile")
    for name, value in (("spark.ui.showConsoleProgress", "false"), *OPTIONS.items()):
        conf.set(name, value)
    if SparkContext._gateway is None:
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("wb") as told:
            launch: Any = launch_gateway
            gateway = launch(conf, {"stdout": told, "stderr": told})
    else:
        gateway = SparkContext._gateway  # one Java serves all sessions of a process
    return SparkSession(SparkContext(gateway=gateway, conf=conf))


def _prove(cluster: Cluster, work: Path) -> None:
    """Runs something small on the workers, which shows who they are.

    Raises:
        ClusterError: another version, or no worker sees the store.
    """
    import uuid

    import pyspark

    ours = pyspark.__version__
    theirs = cluster.call(lambda session: str(session.version))
    _refuse_other(cluster, "it is", theirs, ours)
    mark = work / f"seen-{uuid.uuid4().hex[:12]}"
    work.mkdir(parents=True, exist_ok=True)
    mark.touch()
    parts.send_whole()
    try:
        probe = parts.prober(str(mark.absolute()))
        rows = cluster.call(
            lambda session: session.range(0, 4, 1, 4).mapInArrow(probe, parts.PROBED).collect()
        )
    finally:
        mark.unlink()
    for row in rows:
        _refuse_other(cluster, "its workers are", row.spark, ours)
    if not all(row.sees for row in rows):
        raise ClusterError(
            f"spark {cluster.url}: its workers do not see {work.absolute()}: put the store into a "
            "folder that all machines have under the same path"
        )


def _refuse_other(cluster: Cluster, who: str, theirs: str, ours: str) -> None:
    if theirs.split(".")[0] != ours.split(".")[0]:
        raise ClusterError(
            f"spark {cluster.url}: {who} Spark {theirs}, this machine has {ours}: install pyspark "
            f"{theirs.split('.')[0]} here, or use a Spark {ours.split('.')[0]}"
        )
