"""Operations, in an environment as bare as cron's: exit codes, pings, webhook, textfile, log."""

from __future__ import annotations

import json
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import jsonschema
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import trustme

import reconcile
from reconcile import metrics, notify, outcome, watching
from reconcile.errors import SettingsError
from reconcile.run import Run, looked_at
from reconcile.sandbox.generate import generate
from reconcile.sandbox.server import Sandbox
from reconcile.settings import PING_URL, load, secret_url
from reconcile.tables import NETWORKS
from tests.in_process import called
from tests.listening import listening
from tests.test_tls import tls_server

ROOT = Path(reconcile.__file__).parent.parent
DAY, AS_OF = "--date 2026-01-05", "--as-of 2026-01-20T02:30:00Z"
SECRET_PATH = "/a-secret-that-nobody-may-see"


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("operations") / "world"
    generate(folder, messages=800, days=1, seed=3)
    return folder


@pytest.fixture(scope="module")
def sandbox(world: Path) -> Iterator[Sandbox]:
    with Sandbox(world, pending_seconds=0.05) as served:
        yield served


@dataclass
class Shell:
    """Calls `reconcile` with the environment of cron and what is set here: in this process, or, as
    `real`, from `sh -c`."""

    folder: Path
    dlr: str
    environment: dict[str, str] = field(default_factory=dict)

    def begin(self, line: str) -> subprocess.Popen[str]:
        command = f"exec {sys.executable} -m reconcile.cli {line}"
        return subprocess.Popen(
            ["/bin/sh", "-c", command], env=self.environment, cwd=self.folder, text=True,
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip

    def real(self, line: str) -> tuple[int, str, str]:
        begun = self.begin(line)
        out, err = begun.communicate(timeout=60)
        return begun.returncode, out, err

    def __call__(self, line: str) -> tuple[int, str, str]:
        return called(shlex.split(line), self.environment, self.folder)

    def run(self, rest: str = "") -> tuple[int, str, str]:
        return self(f"run {DAY} {AS_OF} --dlr '{self.dlr}' {rest}")


@pytest.fixture
def shell(sandbox: Sandbox, world: Path, tmp_path: Path) -> Shell:
    return Shell(tmp_path, f"{world}/dlr/*", {
        "HOME": str(tmp_path), "LOGNAME": "reconcile", "SHELL": "/bin/sh", "PATH": "/usr/bin:/bin",
        "PYTHONPATH": str(ROOT), "RECONCILE_BASE_URL": sandbox.base_url,
        "RECONCILE_POLL_FIRST": "50ms", "RECONCILE_RETRIES": "0",
        "VONAGE_API_KEY": sandbox.api_key, "VONAGE_API_SECRET": sandbox.api_secret,
    })  # fmt: skip


@pytest.fixture(scope="module")
def published(
    sandbox: Sandbox, world: Path, tmp_path_factory: pytest.TempPathFactory
) -> Path:  # fmt: skip
    """A folder with a store in which the day is judged, and its textfile."""
    folder = tmp_path_factory.mktemp("published")
    shell = shell_of(sandbox, world, folder)
    assert shell.run("--metrics-file reconcile.prom") == (0, "", "")
    return folder


shell_of: Callable[[Sandbox, Path, Path], Shell] = shell.__wrapped__  # type: ignore[attr-defined]


@pytest.fixture
def judged(shell: Shell, published: Path) -> Shell:
    """A shell in a folder of its own with the published store."""
    for path in published.iterdir():
        copy: Any = shutil.copytree if path.is_dir() else shutil.copy
        copy(path, shell.folder / path.name)
    return shell


# --- exit codes ---------------------------------------------------------------------------------


@pytest.mark.slow
def test_exceeded(judged: Shell) -> None:
    """A rule that holds: exit 10, published all the same, and one line for each."""
    rules = ("missing_rate > 1%", "missing_rate > 99%", "messages < 1000")
    flags = " ".join(f"--fail-on '{rule}'" for rule in rules)
    code, out, err = judged(f"judge {DAY} {AS_OF} {flags}")
    assert (code, out) == (10, "")
    lines = err.splitlines()
    assert len(lines) == 2
    assert lines[0].startswith("reconcile: exceeded: missing_rate > 1%: missing_rate is ")
    assert lines[1] == "reconcile: exceeded: messages < 1000: messages is 800"


@pytest.mark.slow
def test_incomplete_outranks_exceeded(shell: Shell) -> None:
    """Both: exit 3, and the output names both."""
    days = "--from 2026-01-05 --to 2026-01-07"
    line = f"run {days} --as-of 2026-01-06T02:30:00Z --dlr '{shell.dlr}' --fail-on 'messages > 1'"
    code, _, err = shell(line)
    assert code == 3
    assert "reconcile: incomplete: 2026-01-06: skipped" in err
    assert "reconcile: exceeded: messages > 1: messages is 800" in err


@pytest.mark.slow
def test_fail_on_is_a_setting(judged: Shell) -> None:
    """`fail_on` of the settings file counts as the flag does."""
    (judged.folder / "reconcile.toml").write_text('fail_on = ["suspect > 0", "messages > 1"]')
    code, _, err = judged(f"judge {DAY} {AS_OF}")
    assert (code, err.count("exceeded: ")) == (10, 2)


def test_bad_rule_comes_first(shell: Shell, sandbox: Sandbox) -> None:
    """A rule that is none: exit 2 and one line, before anything is asked of Vonage."""
    asked = sandbox.request_counts.copy()
    code, out, err = shell.run("--fail-on 'mising_rate > 2%'")
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert "mising_rate is none of missing_rate" in err
    assert sandbox.request_counts == asked


ENDS = [
    ({}, "", 0),
    ({}, "--no-such-flag", 2),
    ({"RECONCILE_LOKBACK": "3d"}, "", 2),
    ({}, "--dlr 'nowhere/*'", 3),
    ({"VONAGE_API_SECRET": "wrong"}, "--store elsewhere", 4),
    ({}, "--dlr broken.parquet", 6),
    ({}, "--fail-on 'messages > 1'", 10),
]  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize(("environment", "flags", "wanted"), ENDS, ids=lambda v: str(v)[:40])
def test_every_exit_code(
    judged: Shell, environment: dict[str, str], flags: str, wanted: int
) -> None:  # fmt: skip
    """What a shell sees, and what the ping says, is one code; 0 is silent."""
    (judged.folder / "broken.parquet").write_bytes(b"PAR1 and no more")
    judged.environment |= environment
    dlr = "" if "--dlr" in flags else f"--dlr '{judged.dlr}'"
    with listening() as health:
        judged.environment[PING_URL] = health.url
        code, _, err = judged.real(f"run {DAY} {AS_OF} {dlr} {flags}")
    assert code == wanted
    assert bool(err) == bool(wanted)
    assert "Traceback" not in err
    if wanted != 2:  # what cannot be meant is told before anything begins
        assert [h.path for h in health.heard] == ["/start", "/fail" if wanted else "/"]
        assert health.heard[1].body.startswith(f"exit {wanted}")


@pytest.mark.slow
def test_contract_and_lock_have_their_codes(judged: Shell, world: Path) -> None:
    """A store that another holds: 75; records that lack a column: 5."""
    import fcntl

    with (judged.folder / "store" / ".work" / "lock").open("a+") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert judged(f"judge {DAY} {AS_OF}")[0] == 75
    with Sandbox(world, faults={"column_missing": 99}) as broken:
        judged.environment["RECONCILE_BASE_URL"] = broken.base_url
        code, _, err = judged.run("--store elsewhere --via sync")
    assert (code, err.count("\n")) == (5, 1)
    assert "lack message_id" in err


# --- pings --------------------------------------------------------------------------------------


@pytest.mark.slow
def test_pings_in_order(judged: Shell, sandbox: Sandbox) -> None:
    """Start, then success with counts and a digest that a repetition repeats."""
    with listening() as health:
        file = judged.folder / "ping"
        file.write_text(f"{health.url}{SECRET_PATH}/\n")
        judged.environment[f"{PING_URL}_FILE"] = str(file)
        assert judged.run() == (0, "", "")
        assert judged.run("--via sync") == (0, "", "")
    assert [h.path for h in health.heard] == [f"{SECRET_PATH}/start", SECRET_PATH] * 2
    begun, first, _, second = (h.body for h in health.heard)
    assert begun == "begins\n"
    assert "exit 0\n" in first
    assert "days: 2026-01-05\nmessages: 800\n" in first
    digests = [line for body in (first, second) for line in body.splitlines()
               if line.startswith("digest: ")]  # fmt: skip
    assert len(digests) == 2
    assert len(set(digests)) == 1


@pytest.mark.slow
@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)], ids=["term", "int"]
)
def test_stopped_run_pings_fail(
    shell: Shell, world: Path, number: signal.Signals, code: int
) -> None:  # fmt: skip
    """A signal while Vonage is silent: start, then fail with the signal's code."""
    form = "json" if number == signal.SIGINT else "text"
    with listening() as health, Sandbox(world, latency=30) as silent:
        shell.environment |= {PING_URL: health.url, "RECONCILE_BASE_URL": silent.base_url}
        begun = shell.begin(f"run {DAY} {AS_OF} --dlr '{shell.dlr}' --log-format {form}")
        _until(lambda: silent.requests)
        begun.send_signal(number)
        _, err = begun.communicate(timeout=20)
    assert begun.returncode == code
    if form == "text":
        assert err == ""  # whoever stopped it knows
    else:
        assert json.loads(err.splitlines()[-1])["exit_code"] == code
    assert [h.path for h in health.heard] == ["/start", "/fail"]
    assert health.heard[1].body.startswith(f"exit {code}: stopped\n")


@pytest.mark.slow
def test_start_tells_of_a_killed_run(shell: Shell, world: Path) -> None:
    """After SIGKILL nothing comes; the next start says that a run before has not ended."""
    with listening() as health:
        shell.environment[PING_URL] = health.url
        with Sandbox(world, latency=30) as silent:
            base = shell.environment["RECONCILE_BASE_URL"]
            shell.environment["RECONCILE_BASE_URL"] = silent.base_url
            begun = shell.begin(f"run {DAY} {AS_OF} --dlr '{shell.dlr}'")
            _until(lambda: silent.requests)
            begun.kill()
            begun.communicate()
        shell.environment["RECONCILE_BASE_URL"] = base
        assert shell.run()[0] == 0
    assert [h.path for h in health.heard] == ["/start", "/start", "/"]
    wanted = "begins; a run before has not ended: as of 2026-01-20T02:30:00Z\n"
    assert health.heard[1].body == wanted


@pytest.mark.slow
@pytest.mark.parametrize("status", [404, 500, 301])
def test_ping_that_fails_is_a_warning(judged: Shell, status: int) -> None:
    """Whatever the answers, the run ends as it would, with a line for each and no secret."""
    with listening(status, Location="https://example.com/") as health:
        judged.environment[PING_URL] = health.url + SECRET_PATH
        code, out, err = judged.run()
    assert (code, out) == (0, "")
    assert err.splitlines() == [
        f"reconcile: warning: the ping ({event}) was not taken: 127.0.0.1 answered {status}"
        for event in ("start", "success")
    ]
    assert SECRET_PATH not in err
    assert len(health.heard) == (4 if status == 500 else 2)  # once more where that may help


@pytest.mark.slow
def test_ping_to_nobody(judged: Shell) -> None:
    """Nobody listens: a warning that names the host alone."""
    judged.environment[PING_URL] = f"http://127.0.0.1:1{SECRET_PATH}"
    code, _, err = judged.run()
    assert (code, err.count("127.0.0.1 could not be reached\n"), SECRET_PATH in err) == (
        0,
        2,
        False,
    )


def test_silent_listener_holds_nobody_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """A listener that never answers is left behind."""
    import socket

    monkeypatch.setattr(notify, "LONGEST_SECONDS", 0.3)
    warned: list[str] = []
    with socket.create_server(("127.0.0.1", 0)) as server:
        begun = time.monotonic()
        url = f"http://127.0.0.1:{server.getsockname()[1]}"
        notify.ping(url, "start", "", warned.append)
        assert time.monotonic() - begun < 3
    assert warned == ["the ping (start) was not taken: 127.0.0.1 did not answer in time"]


def test_tls_is_verified(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A certificate of nobody we trust: a warning, and nothing is sent; a trusted one is heard."""
    authority, warned = trustme.CA(), list[str]()
    with tls_server(authority.issue_cert("127.0.0.1"), lambda _: b"") as server:
        url = f"https://127.0.0.1:{server.server_port}"
        notify.ping(url, "start", "", warned.append)
        authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(tmp_path / "ca.pem"))
        notify.ping(url, "start", "", warned.append)
    assert [warning.partition("127.0.0.1 ")[2] for warning in warned] == [
        "is not who it says (TLS cannot be verified)", "answered 501",  # it knows no POST
    ]  # fmt: skip


@pytest.mark.parametrize(
    "url", ["http://example.com/x", "ftp://example.com", "https://u:p@example.com/x", "uuid-alone"]
)
def test_url_that_may_not_be_used(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    """Plain http beyond loopback, credentials, no URL: refused without being shown."""
    monkeypatch.setenv(PING_URL, url)
    with pytest.raises(SettingsError, match=PING_URL) as told:
        secret_url(PING_URL)
    assert url not in str(told.value)


@pytest.mark.slow
def test_url_in_the_settings_file(judged: Shell) -> None:
    """A URL that is a secret does not stand in reconcile.toml."""
    (judged.folder / "reconcile.toml").write_text('ping_url = "https://example.com/x"')
    code, _, err = judged("status")
    assert (code, "put it into RECONCILE_PING_URL" in err, "example" in err) == (2, True, False)


# --- the webhook --------------------------------------------------------------------------------


@pytest.mark.slow
def test_webhook(judged: Shell) -> None:
    """One POST of JSON that keeps the published schema, with the same counts as the summary."""
    schema = json.loads((ROOT / "docs" / "webhook.schema.json").read_text("utf-8"))
    with listening() as listener:
        judged.environment["RECONCILE_WEBHOOK_URL"] = f"{listener.url}{SECRET_PATH}"
        code, _, err = judged.run("--fail-on 'messages > 1'")
        assert (code, err.count("\n")) == (10, 1)
        assert judged.run("--dlr 'nowhere/*'")[0] == 3
        judged.environment["VONAGE_API_SECRET"] = ""
        assert judged.run()[0] == 2
    assert [h.path for h in listener.heard] == [SECRET_PATH] * 3
    told = [json.loads(h.body) for h in listener.heard]
    for payload in told:
        jsonschema.validate(payload, schema)
    shown = json.loads(judged("show --format json")[1])["rows"]
    assert told[0]["exit_code"] == 10
    assert told[0]["counts"]["messages"] == sum(row["messages"] for row in shown) == 800
    assert told[0]["counts"]["missing"] == sum(row["missing"] for row in shown)
    worst = told[0]["worst_networks"]
    assert 0 < len(worst) <= 20
    assert worst[0]["missing"] + worst[0]["unknown"] + worst[0]["suspect"] > 0
    assert told[1]["incomplete"][0]["reason"].startswith("nowhere/* matches no file")
    assert told[2]["problem"].startswith("VONAGE_API_SECRET is not set")


def test_suspect_networks_with_their_evidence(
    clean_environment: None, published: Path, tmp_path: Path
) -> None:
    """Of a suspect network's spans the longest alert is told, with its sentence and money as text;
    the rule `suspect_networks` counts it once, and the digest is another one."""
    shutil.copytree(published / "store", tmp_path / "store")
    file = tmp_path / "store/networks/day=2026-01-05/networks.parquet"
    calm = assessed(tmp_path)
    about = pq.read_schema(file).metadata
    rows = pq.read_table(file, partitioning=None).to_pylist()
    code = next(row["network_code"] for row in rows if row["network_code"] != "*")
    for row in rows:
        if row["network_code"] == code:
            row |= {"network_verdict": "suspect", "evidence": f"odd over {row['span']}",
                    "is_alert": row["span"] != "7d"}  # fmt: skip
    pq.write_table(pa.Table.from_pylist(rows, NETWORKS.schema.with_metadata(about)), file)
    summary = tmp_path / "store/summary/day=2026-01-05/summary.parquet"
    table = pq.read_table(summary, partitioning=None)
    verdicts = pa.array(["suspect" if c == code else "normal"
                         for c in table["network_code"].to_pylist()])  # fmt: skip
    at = table.schema.get_field_index("network_verdict")
    pq.write_table(table.set_column(at, "network_verdict", verdicts), summary)
    this = assessed(tmp_path)
    assert this.exceeded == [f"suspect_networks > 0: suspect_networks is 1 ({code})"]
    (suspect,) = this.found["suspect_networks"]
    told = {name: suspect[name] for name in ("date", "span", "network_code", "evidence")}
    assert told == {"date": "2026-01-05", "span": "2d", "network_code": code,
                    "evidence": "odd over 2d"}  # fmt: skip
    schema = json.loads((ROOT / "docs" / "webhook.schema.json").read_text("utf-8"))
    jsonschema.validate(json.loads(json.dumps(watching.payload(this, 10))), schema)
    assert (calm.exceeded, calm.found["suspect_networks"]) == ([], [])
    assert calm.found["digest"] != this.found["digest"] == assessed(tmp_path).found["digest"]


def assessed(folder: Path) -> Run:
    """What a run would find that had judged the day."""
    settings = load(None, store=folder / "store", fail_on=["suspect_networks > 0"])
    with looked_at(settings, datetime(2026, 1, 20, tzinfo=UTC)) as this:
        this.manifest["judged"] = [{"day": "2026-01-05"}]
        outcome.assess(this)
    return this


# --- the textfile -------------------------------------------------------------------------------


def test_textfile_passes_promtool(published: Path) -> None:
    """Prometheus's own checker finds nothing to say."""
    promtool = shutil.which("promtool")
    if not promtool:
        pytest.skip("promtool is not installed (Debian: prometheus)")
    with (published / "reconcile.prom").open() as text:
        ended = subprocess.run(
            [promtool, "check", "metrics"], stdin=text, capture_output=True, text=True, check=False
        )
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "", "")


def test_textfile_counts(published: Path) -> None:
    """It says what the summary says, and how the run ended."""
    text = (published / "reconcile.prom").read_text("utf-8")
    samples = dict(line.rsplit(" ", 1) for line in text.splitlines() if not line.startswith("#"))
    counts = [int(v) for k, v in samples.items() if k.startswith("reconcile_messages{")]
    assert (len(counts), sum(counts)) == (6, 800)
    assert samples["reconcile_run_exit_code"] == "0"
    assert int(samples["reconcile_billed_records_total"]) >= 800
    assert abs(float(samples["reconcile_run_end_timestamp_seconds"]) - time.time()) < 3600
    assert (published / "reconcile.prom").stat().st_mode & 0o777 == 0o644


def test_failed_run_keeps_what_was_found(judged: Shell) -> None:
    """A run that judged nothing says so, and leaves counts and the last success as they were."""
    file = judged.folder / "reconcile.prom"
    before = metrics.families(file.read_text("utf-8"))
    judged.environment["VONAGE_API_SECRET"] = "wrong"
    assert judged.run("--metrics-file reconcile.prom --store elsewhere")[0] == 4
    after = metrics.families(file.read_text("utf-8"))
    assert "reconcile_run_exit_code 4\n" in after["reconcile_run_exit_code"]
    kept = ("reconcile_messages", "reconcile_run_success_timestamp_seconds")
    assert {name: after[name] for name in kept} == {name: before[name] for name in kept}
    assert set(after) == set(before)
    assert [p.name for p in judged.folder.glob("*.new")] == []


@pytest.mark.slow
def test_textfile_that_cannot_be_written(judged: Shell) -> None:
    """A warning, and the run ends as it would; a name that node_exporter ignores is refused."""
    code, _, err = judged.run("--metrics-file nowhere/reconcile.prom")
    assert (code, err.count("\n")) == (0, 1)
    assert err.startswith("reconcile: warning: metrics_file nowhere/reconcile.prom cannot be")
    assert judged.run("--metrics-file metrics.txt")[0] == 2


def test_labels_are_escaped() -> None:
    """A name that holds quotes, backslashes or an end of line stays one label."""
    network = {"country": 'a"b\\c\nd', "network_code": "1"} | dict.fromkeys(
        ("missing_rate", "unknown_rate", "suspect_rate"), None
    ) | dict.fromkeys(("missing", "unknown", "suspect"), 1)  # fmt: skip
    counts = dict.fromkeys(("confirmed", "pending", "missing", "unknown", "suspect",
                            "not_expected", "orphans", "uncovered"), 0)  # fmt: skip
    found = {"days": ["2026-01-05"], "counts": counts, "worst_networks": [network],
             "rates": dict.fromkeys(("missing_rate", "unknown_rate", "suspect_rate"), None),
             "suspect_networks": []}  # fmt: skip
    ended = metrics.Ended(1.0, 1.0, 0, 0, 0, None, found)
    families = metrics.renewed({"reconcile_missing_ratio": "of before\n"}, ended)
    line = families["reconcile_network_messages"].splitlines()[2]
    label = r'reconcile_network_messages{country="a\"b\\c\nd",network="1",verdict="missing"} 1'
    assert line == label
    assert "reconcile_missing_ratio" not in families  # what nobody can say is not said as it was


# --- the log ------------------------------------------------------------------------------------


@pytest.mark.slow
def test_log_as_json(judged: Shell) -> None:
    """Each line on stderr is an object: progress, then what is exceeded, then the end."""
    code, out, err = judged(f"judge {DAY} {AS_OF} --log-format json --fail-on 'messages > 1'")
    told = [json.loads(line) for line in err.splitlines()]
    assert (code, out) == (10, "")
    assert [t["event"] for t in told] == ["progress", "exceeded", "end"]
    assert (told[0]["what"], told[0]["rows"]) == ("judged 2026-01-05", 800)
    assert (told[2]["exit_code"], told[2]["counts"]["messages"]) == (10, 800)
    assert all(t["at"].endswith("Z") and t["message"] for t in told)


@pytest.mark.slow
def test_error_as_json(judged: Shell) -> None:
    """An error is an object with its code; a hole names its day."""
    code, _, err = judged(f"judge --date 2099-01-05 {AS_OF} --log-format json")
    told = json.loads(err)
    assert (code, told["event"], told["exit_code"]) == (2, "error", 2)
    code, _, err = judged(f"judge --date 2026-01-06 {AS_OF} --log-format json")
    hole = json.loads(err.splitlines()[0])
    assert (code, hole["event"], hole["day"]) == (3, "incomplete", "2026-01-06")


@pytest.mark.slow
def test_ingest_logs_as_json(shell: Shell) -> None:
    """`ingest` keeps its results on stdout and its log on stderr."""
    code, out, err = shell(f"ingest '{shell.dlr}' --log-format json")
    told = [json.loads(line) for line in err.splitlines()]
    assert (code, "receipts" in out) == (0, True)
    assert (told[0]["event"], told[-1]["event"], told[-1]["command"]) == (
        "progress", "end", "ingest",
    )  # fmt: skip


def _until(holds: Callable[[], Any]) -> None:
    end = time.monotonic() + 30
    while not holds():
        assert time.monotonic() < end, "it never came to that"
        time.sleep(0.05)
