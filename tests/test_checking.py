"""`reconcile check`: each thing that a night needs, sound and broken."""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from reconcile.checking import _clock_told, exit_code
from reconcile.days import DAY
from reconcile.sandbox.generate import generate
from reconcile.sandbox.server import Sandbox

Called = tuple[int, str, str]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("checking") / "world"
    generate(folder, messages=50, days=1, seed=3)
    return folder


@pytest.fixture
def sandbox(world: Path) -> Iterator[Sandbox]:
    with Sandbox(world) as served:
        yield served


@pytest.fixture
def check(
    sandbox: Sandbox, clean_environment: None, console: Callable[..., Called],
    monkeypatch: pytest.MonkeyPatch,
) -> Callable[..., Called]:  # fmt: skip
    """`reconcile check` with all it needs; what a test breaks comes as flags."""
    Path("dlr.ndjson").write_text("{}\n")
    key = Path("pii.key")
    key.write_text("a key for tests only, 32 letters")
    key.chmod(0o600)
    for name, value in (("VONAGE_API_KEY", sandbox.api_key), ("RECONCILE_RETRIES", "0"),
                        ("VONAGE_API_SECRET", sandbox.api_secret), ("RECONCILE_DLR", "dlr.ndjson"),
                        ("RECONCILE_BASE_URL", sandbox.base_url),
                        ("RECONCILE_PII_KEY_FILE", "pii.key")):  # fmt: skip
        monkeypatch.setenv(name, value)
    return lambda *flags: console("check", *flags)


def line(out: str, name: str) -> str:
    """The line of a check."""
    return next(each for each in out.splitlines() if f"  {name}: " in each)


def test_all_is_well(check: Callable[..., Called], sandbox: Sandbox) -> None:
    """Exit 0, all ok, nothing billed, nothing written, and one cheap request."""
    code, out, err = check()
    assert (code, err) == (0, "")
    told, _, following = out.partition("Next: ")
    assert following.startswith("`reconcile fetch --plan`")
    states = {each.split()[1].rstrip(":"): each.split()[0] for each in told.splitlines()}
    assert states.pop("disk") in ("ok", "warn")  # of this machine
    assert states == dict.fromkeys(
        ("settings", "credentials", "clock", "store", "key", "captures"), "ok"
    )
    assert not Path("store").exists()
    assert dict(sandbox.request_counts) == {"GET /v2/reports 200": 1}


def test_refused_credentials(check: Callable[..., Called], monkeypatch: pytest.MonkeyPatch) -> None:
    """Vonage's own words, exit 4; the checks after it are made all the same."""
    monkeypatch.setenv("VONAGE_API_SECRET", "not-the-secret")
    code, out, _ = check()
    assert code == 4
    assert line(out, "credentials").startswith("fail  credentials: account 5a4d0b0e: Vonage answer")
    assert line(out, "captures").startswith("ok")
    assert "not-the-secret" not in out


def test_missing_credentials(check: Callable[..., Called], monkeypatch: pytest.MonkeyPatch) -> None:
    """No secret at all is a matter of settings: exit 2."""
    monkeypatch.delenv("VONAGE_API_SECRET")
    code, out, _ = check()
    assert (code, "VONAGE_API_SECRET is not set" in line(out, "credentials")) == (2, True)


def test_nobody_answers(check: Callable[..., Called]) -> None:
    """A host that is not there: exit 4."""
    code, out, _ = check("--base-url", "http://127.0.0.1:1")
    assert (code, line(out, "credentials")[:4]) == (4, "fail")
    assert "  clock: " not in out


def test_captures_that_are_not_there(check: Callable[..., Called]) -> None:
    """A glob that matches nothing: exit 6."""
    code, out, _ = check("--dlr", "nowhere/*")
    assert (code, line(out, "captures")) == (6, "fail  captures: nowhere/* matches no file")


SQL = """
[[dlr_sql]]
name = "crm"
url_env = "TEST_DLR_URL"
query = "SELECT id, message_id, status FROM dlr"
key = "id"
"""


def test_captures_in_a_database(
    check: Callable[..., Called], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A row of each database is read as a night would; what refuses it is said, exit 6."""
    Path("reconcile.toml").write_text(SQL)
    monkeypatch.delenv("RECONCILE_DLR")
    monkeypatch.setenv("TEST_DLR_URL", f"sqlite:///{Path('dlr.db').absolute()}")
    assert check()[0] == 6
    with closing(sqlite3.connect("dlr.db")) as database:
        database.execute("CREATE TABLE dlr (id INTEGER PRIMARY KEY, message_id TEXT, status TEXT)")
        database.commit()
        assert "it has no row yet" in line(check()[1], "captures")
        database.execute("INSERT INTO dlr VALUES (7, '0A', 'delivered'), (9, '0B', 'failed')")
        database.commit()
        code, out, _ = check()
        assert (code, line(out, "captures")) == (
            0, "ok    captures: dlr_sql crm: its first row is read, key 7",
        )  # fmt: skip
        database.execute("ALTER TABLE dlr RENAME COLUMN message_id TO mid")
        database.commit()
    code, out, _ = check()
    assert (code, "no such column: message_id" in line(out, "captures")) == (6, True)
    monkeypatch.delenv("TEST_DLR_URL")
    assert check()[0] == 2


def test_stale_captures(check: Callable[..., Called]) -> None:
    """Captures that nobody wrote to for two days are a warning, exit 0."""
    two_days_ago = time.time() - 2 * 86400
    os.utime("dlr.ndjson", (two_days_ago, two_days_ago))
    code, out, _ = check()
    assert code == 0
    assert line(out, "captures").startswith("warn")
    assert "written to 48.0 h ago" in line(out, "captures")


def test_send_log(check: Callable[..., Called]) -> None:
    """A send log is looked at as captures are."""
    assert check("--send-log", "sent-*.csv")[0] == 6
    Path("sent-1.csv").write_text("message-id,status\n")
    code, out, _ = check("--send-log", "sent-*.csv")
    assert (code, line(out, "send_log")[:2]) == (0, "ok")


def test_key(check: Callable[..., Called]) -> None:
    """Too short, readable by others, within the store: each is said."""
    Path("pii.key").chmod(0o644)
    assert "others can read" in line(check()[1], "key")
    Path("short.key").write_text("short")
    code, out, _ = check("--pii-key-file", "short.key")
    assert (code, "shorter than 16" in line(out, "key")) == (2, True)
    code, out, _ = check("--store", ".")
    assert (code, "is not empty and no store" in line(out, "store")) == (2, True)
    assert "lies in the store" in line(out, "key")
    assert "none is needed" in line(check("--pii", "drop")[1], "key")


def test_folder_that_cannot_be_written(check: Callable[..., Called]) -> None:
    """The place of the store, or of the textfile, is tried by writing."""
    code, out, _ = check("--store", "/proc/store", "--metrics-file", "/proc/reconcile.prom")
    assert (code, line(out, "store")[:4]) == (6, "fail")
    assert line(out, "metrics_file")[:4] == "warn"


def test_capabilities_and_watchers(
    check: Callable[..., Called], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The capability table's lines are counted; of a ping's URL the host is shown."""
    Path("known.csv").write_text("country,network_code,receipts,note\nDE,26201,handset,\n")
    monkeypatch.setenv("RECONCILE_PING_URL", "https://hc.example.com/secret-uuid")
    _, out, _ = check("--capabilities", "known.csv")
    assert line(out, "ping") == "ok    ping: each run tells hc.example.com"
    assert line(out, "capabilities") == "ok    capabilities: known.csv has 1 lines"
    assert "secret-uuid" not in out


def test_clock() -> None:
    """Ten minutes between Vonage's clock and ours: exit 6; half a minute is a warning."""
    ahead = _clock_told(DAY / 144)
    assert ahead.sentence == "ours is 600 s ahead of Vonage's: set it (NTP)"
    assert (ahead.state, exit_code([ahead])) == ("fail", 6)
    assert _clock_told(-DAY / 2880).sentence.startswith("ours is 30 s behind Vonage's")
    assert _clock_told(-DAY / 2880).state == "warn"


def test_clock_of_a_skewed_vonage(check: Callable[..., Called], world: Path) -> None:
    """The Date of a real answer is what ours is held against."""
    with Sandbox(world, faults={"clock_skew": 1}) as skewed:
        code, out, _ = check("--base-url", skewed.base_url)
    assert (code, line(out, "clock")[:4]) == (6, "fail")
    assert "ahead of Vonage's" in line(out, "clock")
