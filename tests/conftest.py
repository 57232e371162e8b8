"""Fixtures that several files of tests share: settings of our own, an engine, a tiny world."""

from __future__ import annotations

import fcntl
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from reconcile import border, engine, settings
from reconcile.sandbox.generate import ACCOUNT, Generated, generate
from reconcile.settings import Account, Settings

AS_OF = datetime(2026, 2, 1, tzinfo=UTC)
KEY = "a key for tests only, 32 letters"
Configure = Callable[..., Settings]
# Modules that take longest, begun first: at the end nobody waits for another's long one. The first
# of them makes the demo's store, before many wait for it.
LONGEST = (
    "test_explain", "test_bucket", "test_cluster", "test_faults", "test_bad_captures",
    "test_spark", "test_operations", "test_end_to_end", "test_identity", "test_engines_agree",
    "test_killing", "test_report_browser", "test_notebook", "test_networks_published", "test_job",
    "test_sandbox_server", "test_client", "test_database",
)  # fmt: skip

# Whoever is started in the background may be told to ignore it, and would tell what it starts.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_xdist_auto_num_workers() -> int:
    """One more than there are processors: tests also wait, for servers, processes and clocks."""
    return (os.cpu_count() or 1) + 1


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Orders modules; a module, and what its tests share, is one worker's."""
    order = {name: n for n, name in enumerate(LONGEST)}
    items.sort(key=lambda item: order.get(item.path.stem, len(order)))


def pytest_make_parametrize_id(val: object, argname: str) -> str | None:
    """A name that every worker of pytest-xdist finds: packed bytes hold when they were packed."""
    return argname if isinstance(val, bytes) and not (val.isascii() and len(val) < 40) else None


@pytest.fixture
def clean_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No setting or secret of the machine reaches a test."""
    for name in list(os.environ):
        if name.startswith(("VONAGE_", "RECONCILE_")) or name.lower().endswith("_proxy"):
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def configure(clean_environment: None, tmp_path: Path) -> Configure:
    """Settings for a store of the test's own, with waits that a test can bear."""
    key = tmp_path / "pii.key"
    key.write_text(KEY, "ascii")

    def build(**flags: Any) -> Settings:
        quick = {
            "store": tmp_path / "store", "pii_key_file": key, "retry_longest": "50ms",
            "poll_first": "50ms", "poll_max": "250ms", "threads": 2, "memory_limit": "1GB",
        }  # fmt: skip
        return settings.load(None, **quick | flags)

    return build


@pytest.fixture
def con(configure: Configure, tmp_path: Path) -> Iterator[Any]:
    """An engine that knows the key of the hash."""
    backend = engine.connect("1GB", 2, tmp_path / "spill")
    border.set_key(backend, configure())
    yield backend
    backend.disconnect()


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> Generated:
    """Two invented days of 2,000 messages, with their captures and the truth."""
    return generate(tmp_path_factory.mktemp("world") / "data", messages=2000, days=2, seed=11)


@pytest.fixture(scope="session")
def account() -> Account:
    """The account of the tiny world."""
    return Account(ACCOUNT.api_key, ACCOUNT.api_key, ACCOUNT.api_secret)


@pytest.fixture(scope="session")
def demo_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The store that `reconcile demo` leaves behind: made once, whoever of several workers asks."""
    base = tmp_path_factory.getbasetemp()
    shared = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base
    folder, store = shared / "demo", shared / "demo" / "store"
    with (shared / "demo.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (shared / "demo.made").exists():
            shutil.rmtree(folder, ignore_errors=True)
            command = [sys.executable, "-m", "reconcile.cli", "demo", "--folder", str(folder)]
            ended = subprocess.run(command, capture_output=True, text=True, check=True, timeout=600)
            assert "Networks with most unconfirmed messages" in ended.stdout
            assert ended.stderr == ""
            (shared / "demo.made").touch()
    return store


@pytest.fixture
def console(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., tuple[int, str, str]]:
    """Calls the console script's own function, in an empty folder: exit code, stdout, stderr."""
    from reconcile import cli

    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))

    def call(*args: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["reconcile", *args])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        told = capsys.readouterr()
        return int(ended.value.code or 0), told.out, told.err

    return call


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Prints what tests have noted: how faults ended, and how equal formats came out."""
    _print_faults(terminalreporter)
    _print_captures(terminalreporter)


def _noted(terminalreporter: Any, wanted: str, *kinds: str) -> list[Any]:
    reports = [report for kind in kinds for report in terminalreporter.stats.get(kind, [])]
    return [value for r in reports for name, value in r.user_properties if name == wanted]


def _print_captures(terminalreporter: Any) -> None:
    noted = _noted(terminalreporter, "capture", "passed", "failed")
    if not noted:
        return
    from tests.capture_styles import Cell, table

    for traffic in sorted({row["traffic"] for row in noted}, reverse=True):
        cells = [Cell(**{n: v for n, v in row.items() if n != "traffic"})
                 for row in noted if row["traffic"] == traffic]  # fmt: skip
        terminalreporter.section(f"captures of {traffic}: equal to plain NDJSON, field by field")
        for line in table(cells):
            terminalreporter.write_line(line)


def _print_faults(terminalreporter: Any) -> None:
    noted = _noted(terminalreporter, "fault", "passed")
    if not noted:
        return
    terminalreporter.section("faults: how downloads ended, requests made, records billed")
    for row in noted:
        terminalreporter.write_line(
            "{fault:26} {way:8} struck {struck}  requests {requests:3}  billed {billed:5} "
            "(extra {extra:5})  {ended}".format(**row)
        )
