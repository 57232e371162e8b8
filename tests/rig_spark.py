"""A real Spark cluster of processes on this machine: a master, two workers, a Connect server.

It is what `pip install pyspark` brings, run by Java. Everything listens on loopback and lies in a
folder of the test's own; what a job sets for itself stands in `spark-defaults.conf`, as it would
on a cluster.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

PATIENCE_SECONDS = 120.0
# For few rows: what Spark compiles and plans takes longer than what it then does.
QUICK = {
    "spark.sql.codegen.wholeStage": "false",
    "spark.sql.shuffle.partitions": "2",
    "spark.sql.adaptive.coalescePartitions.enabled": "false",
    "spark.driver.extraJavaOptions": "-XX:TieredStopAtLevel=1",
    "spark.executor.extraJavaOptions": "-XX:TieredStopAtLevel=1",
}
OPTIONS = {
    "spark.driver.host": "127.0.0.1",
    "spark.driver.bindAddress": "127.0.0.1",
    "spark.driver.memory": "1g",
    "spark.executor.memory": "1g",
    "spark.ui.enabled": "false",
    "spark.connect.grpc.binding.address": "127.0.0.1",
    "spark.connect.grpc.binding.port": "0",
}


def lacking(*, connect: bool = False) -> str:
    """What the rig needs and this machine has not, by name; empty if it has all."""
    wanted = ["pyspark", *(["grpc", "grpc_status"] if connect else [])]
    missing = [name for name in wanted if not find_spec(name)]
    return " and ".join(missing + ([] if shutil.which("java") else ["java"]))


@dataclass
class Cluster:
    """A running cluster.

    Attributes:
        url: of its master.
        folder: where its logs and its settings are.
        workers: their first processes; each leads a group of its own, with its executors in it.
    """

    url: str
    folder: Path
    workers: list[subprocess.Popen[bytes]]

    @property
    def environment(self) -> dict[str, str]:
        """What a job is told of the cluster beside its URL."""
        return {
            "SPARK_CONF_DIR": str(self.folder), "SPARK_LOCAL_IP": "127.0.0.1",
            "PYSPARK_PYTHON": sys.executable, "SPARK_LOCAL_DIRS": str(self.folder / "scratch"),
        }  # fmt: skip

    def kill_worker(self) -> None:
        """What a machine that loses its power does to a worker and its executors."""
        lost = self.workers.pop(0)
        os.killpg(lost.pid, signal.SIGKILL)
        lost.wait()


@contextmanager
def running(folder: Path, workers: int = 2, **options: str) -> Iterator[Cluster]:
    """A master and its workers, of one core each; they end with the block.

    Args:
        folder: their own.
        workers: how many.
        options: more of `spark-defaults.conf`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    settings = OPTIONS | options
    lines = [f"{name} {value}\n" for name, value in settings.items()]
    (folder / "spark-defaults.conf").write_text("".join(lines), "utf-8")
    cluster = Cluster("", folder, [])
    with ExitStack() as stack:
        own = ["--host", "127.0.0.1", "--port", "0", "--webui-port", "0"]
        master = stack.enter_context(
            _process(cluster, "master", "org.apache.spark.deploy.master.Master", *own)
        )
        cluster.url = master.says(r"Starting Spark master at (spark://\S+)")
        begun = [
            stack.enter_context(_process(
                cluster, f"worker-{n}", "org.apache.spark.deploy.worker.Worker", cluster.url, *own,
                "--cores", "1", "--memory", "1g", "--work-dir", str(folder / f"work-{n}")))
            for n in range(workers)
        ]  # fmt: skip
        for worker in begun:
            worker.says(r"(Successfully registered with master)")
            cluster.workers.append(worker.process)
        yield cluster


@contextmanager
def connect_server(cluster: Cluster) -> Iterator[tuple[subprocess.Popen[bytes], str]]:
    """A Spark Connect server whose work the cluster does: its process, and its URL."""
    with _process(
        cluster, "connect", "org.apache.spark.deploy.SparkSubmit", "--master", cluster.url,
        "--class", "org.apache.spark.sql.connect.service.SparkConnectServer", "spark-internal",
        memory="1g",
    ) as server:  # fmt: skip
        port = server.says(r"Spark Connect server started at: .*?:(\d+)")
        yield server.process, f"sc://127.0.0.1:{port}"


@dataclass(frozen=True)
class _Process:
    """One of Spark's own processes, and its log."""

    process: subprocess.Popen[bytes]
    log: Path

    def says(self, sign: str) -> str:
        """Waits until its log shows the sign; what that says."""
        until = time.monotonic() + PATIENCE_SECONDS
        while not (found := re.search(sign, self.log.read_text("utf-8", "replace"))):
            if self.process.poll() is not None or time.monotonic() > until:
                told = self.log.read_text("utf-8", "replace")
                raise RuntimeError(f"{self.log.stem} did not start: {told[-2000:]}")
            time.sleep(0.1)
        return found[1]


@contextmanager
def _process(
    cluster: Cluster, name: str, *command: str, memory: str = "384m"
) -> Iterator[_Process]:
    import pyspark

    home = Path(pyspark.__file__).parent
    small = {"SPARK_HOME": str(home), "SPARK_DAEMON_MEMORY": memory,
             "SPARK_DAEMON_JAVA_OPTS": "-XX:TieredStopAtLevel=1"}  # fmt: skip
    # Of the package under test they know nothing.
    around = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    log = cluster.folder / f"{name}.log"
    with log.open("wb") as told:
        process = subprocess.Popen(
            [str(home / "bin" / "spark-class"), *command],
            stdin=subprocess.DEVNULL, stdout=told, stderr=told,
            env=around | small | cluster.environment, cwd=cluster.folder,
            process_group=0,  # it can be killed with all that it starts, and stays in our session
        )  # fmt: skip
    try:
        yield _Process(process, log)
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
