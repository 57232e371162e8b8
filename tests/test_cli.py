"""The command line: exit codes, one clear line for each mistake, nothing lost by any of them."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from reconcile import cli
from reconcile.sandbox.generate import generate
from reconcile.sandbox.server import Sandbox

Called = tuple[int, str, str]
AS_OF = ("--as-of", "2026-01-20T02:30:00Z")
DAY = ("--date", "2026-01-05")


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("cli") / "world"
    generate(folder, messages=800, days=1, seed=3)
    return folder


@pytest.fixture(scope="module")
def sandbox(world: Path) -> Iterator[Sandbox]:
    with Sandbox(world, pending_seconds=0.05) as served:
        yield served


@pytest.fixture
def reconcile(
    sandbox: Sandbox, console: Callable[..., Called], monkeypatch: pytest.MonkeyPatch
) -> Callable[..., Called]:
    """The console script with working credentials."""
    monkeypatch.setenv("VONAGE_API_KEY", sandbox.api_key)
    monkeypatch.setenv("VONAGE_API_SECRET", sandbox.api_secret)
    monkeypatch.setenv("RECONCILE_BASE_URL", sandbox.base_url)
    monkeypatch.setenv("RECONCILE_POLL_FIRST", "50ms")
    monkeypatch.setenv("RECONCILE_RETRIES", "0")
    return console


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the folder of `published` is kept for the tests after the first."""
    return tmp_path_factory.mktemp("kept") / "folder"


@pytest.fixture
def published(reconcile: Callable[..., Called], world: Path, kept: Path) -> Path:
    """A store with one good publication, of the test's own."""
    if kept.exists():
        shutil.copytree(kept, Path.cwd(), dirs_exist_ok=True)
    else:
        assert reconcile("run", *DAY, *AS_OF, "--dlr", f"{world}/dlr/*") == (0, "", "")
        shutil.copytree(Path.cwd(), kept)
    return Path("store")


def digests(store: Path) -> dict[str, str]:
    return {
        str(p): hashlib.sha256(p.read_bytes()).hexdigest()
        for table in ("records", "receipts", "verdicts", "summary")
        for p in sorted((store / table).rglob("*.parquet"))
    }


MISTAKES = [
    (("--date", "2099-01-05"), 2, "lies in the future"),
    ((*DAY, "--from", "2026-01-05"), 2, "not both"),
    (("--from", "2026-01-05"), 2, "go together"),
    (("--from", "2026-01-07", "--to", "2026-01-05"), 2, "is not after"),
    (("--date", "5.1.2026"), 2, "is no day"),
    ((*DAY, "--as-of", "yesterday"), 2, "is no ISO 8601 time"),
    ((*DAY, "--via", "pigeon"), 2, "setting via"),
    ((*DAY, "--settle", "soon"), 2, "is no duration"),
    ((*DAY, "--memory-limit", "much"), 2, "must be a size"),
    ((*DAY, "--base-url", "http://example.com"), 2, "http:// is for loopback only"),
    ((*DAY, "--config", "missing.toml"), 2, "no settings file"),
    ((*DAY, "--longest-validity", "1h"), 2, "longest_validity"),
    ((*DAY, "--dlr", "a.csv", "b.csv"), 2, "quote it"),
]


@pytest.mark.parametrize(("flags", "code", "words"), MISTAKES, ids=lambda v: str(v)[:30])
def test_mistaken_flags(
    reconcile: Callable[..., Called], flags: tuple[str, ...], code: int, words: str
) -> None:
    """A flag that cannot be meant: its exit code and one line that names it."""
    found, out, err = reconcile("run", *flags)
    assert (found, out) == (code, "")
    assert words in err
    assert "Traceback" not in err


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('loookback = "3d"', "did you mean lookback?"),
        ('api_secret = "x"', "secrets go into"),
        ("via = 7", "setting via"),
        ("store = ", "is no TOML"),
        ('[[accounts]]\nname = "x"', "setting accounts"),
    ],
)
def test_mistaken_settings(reconcile: Callable[..., Called], text: str, words: str) -> None:
    """A settings file that holds what is no setting: exit 2, and what was meant."""
    Path("reconcile.toml").write_text(text)
    code, _, err = reconcile("run", *DAY)
    assert (code, err.count("\n")) == (2, 1)
    assert words in err


def test_mistaken_environment(
    reconcile: Callable[..., Called], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A RECONCILE_ variable that is no setting is a mistake, not something to pass over."""
    monkeypatch.setenv("RECONCILE_LOKBACK", "3d")
    code, _, err = reconcile("run", *DAY)
    assert code == 2
    assert "RECONCILE_LOKBACK is no setting: did you mean lookback?" in err


def test_wrong_credentials(
    reconcile: Callable[..., Called], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Refused by Vonage: exit 4 with the API's own words, and never the secret."""
    monkeypatch.setenv("VONAGE_API_SECRET", "not-the-secret")
    code, _, err = reconcile("run", *DAY)
    assert code == 4
    assert "You did not provide correct credentials" in err
    assert "not-the-secret" not in err


def test_unknown_account(reconcile: Callable[..., Called]) -> None:
    """An account that these credentials may not read: exit 4."""
    code, _, err = reconcile("run", *DAY, "--account-id", "ffffffff")
    assert code == 4
    assert "Forbidden" in err


def test_unreachable_host(reconcile: Callable[..., Called]) -> None:
    """Nobody listens: exit 4, and which host it was."""
    code, _, err = reconcile("run", *DAY, "--base-url", "http://127.0.0.1:9")
    assert code == 4
    assert "127.0.0.1:9 could not be reached" in err


def test_no_credentials(reconcile: Callable[..., Called], monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a secret: exit 2, and where to put it."""
    monkeypatch.delenv("VONAGE_API_SECRET")
    code, _, err = reconcile("run", *DAY)
    assert code == 2
    assert "VONAGE_API_SECRET_FILE" in err


CAPTURES = [
    ("headless.csv", b"a,b\n1,2\n", 6, "has no column message_id"),
    ("broken.ndjson.gz", b"\x1f\x8bgarbage", 6, "cannot be read"),
]


@pytest.mark.parametrize(("name", "content", "code", "words"), CAPTURES)
def test_bad_capture_loses_nothing(
    reconcile: Callable[..., Called], published: Path, name: str, content: bytes, code: int,
    words: str,
) -> None:  # fmt: skip
    """A capture that cannot be read: exit 6, its name, and the last publication stays."""
    before = digests(published)
    Path(name).write_bytes(content)
    os.utime(name, (0, 0))  # nobody is writing to it
    found, _, err = reconcile("run", *DAY, *AS_OF, "--dlr", name)
    assert (found, err.count("\n")) == (code, 1)
    assert name in err
    assert words in err
    assert digests(published) == before


def test_empty_capture_is_no_error(reconcile: Callable[..., Called], published: Path) -> None:
    """A log to which nothing was written yet is a capture like any other."""
    before = digests(published)
    Path("empty.ndjson").touch()
    assert reconcile("run", *DAY, *AS_OF, "--dlr", "empty.ndjson") == (0, "", "")
    assert digests(published) == before


def test_glob_that_matches_nothing(reconcile: Callable[..., Called], published: Path) -> None:
    """Captures that are not there make an incomplete day (3), never a day of losses."""
    before = digests(published)
    code, _, err = reconcile("run", *DAY, *AS_OF, "--dlr", "nowhere/*.ndjson")
    assert code == 3
    assert "nowhere/*.ndjson matches no file" in err
    assert digests(published) == before


def test_deaf_day(reconcile: Callable[..., Called]) -> None:
    """Records ended and not one receipt came: exit 3, and no losses are published."""
    Path("empty.ndjson").touch()
    code, _, err = reconcile("run", *DAY, *AS_OF, "--dlr", "empty.ndjson")
    assert code == 3
    assert "not one receipt came" in err
    assert not Path("store/verdicts").exists()


def test_newer_store(reconcile: Callable[..., Called], published: Path) -> None:
    """A store of a newer layout is not touched: exit 2."""
    before = digests(published)
    marker = published / "store.json"
    marker.write_text(json.dumps(json.loads(marker.read_text()) | {"format": 99}))
    code, _, err = reconcile("run", *DAY, *AS_OF)
    assert code == 2
    assert "has layout 99" in err
    assert digests(published) == before


def test_unsettled_day(reconcile: Callable[..., Called], world: Path) -> None:
    """A day that ended less than an hour ago is skipped and named: exit 3."""
    code, _, err = reconcile("run", *DAY, "--as-of", "2026-01-06T00:59:00Z",
                             "--dlr", f"{world}/dlr/*")  # fmt: skip
    assert code == 3
    assert "2026-01-05: skipped: it settles at 2026-01-06T01:00:00Z" in err


def test_budget(reconcile: Callable[..., Called], world: Path) -> None:
    """`max_billed_records` stops before the request that could exceed it."""
    code, _, err = reconcile("run", *DAY, *AS_OF, "--via", "sync", "--max-billed-records", "10")
    assert code == 4
    assert "max_billed_records is 10" in err


def test_judge_asks_nobody(
    reconcile: Callable[..., Called], published: Path, sandbox: Sandbox,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """`judge` needs neither Vonage nor credentials, and gives the same tables."""
    before, asked = digests(published), sandbox.request_counts.copy()
    monkeypatch.delenv("VONAGE_API_SECRET")
    assert reconcile("judge", *DAY, *AS_OF)[0] == 0
    assert digests(published) == before
    assert sandbox.request_counts == asked


def test_show_reads_what_is_published(reconcile: Callable[..., Called], published: Path) -> None:
    """`show` gives counts as JSON that add up, and money as text."""
    code, out, _ = reconcile("show", "--format", "json")
    rows = json.loads(out)["rows"]
    assert (code, sum(row["messages"] for row in rows)) == (0, 800)
    assert all(isinstance(row["spend"], str) for row in rows)
    for by in ("country", "day", "reason", "error-code"):
        assert reconcile("show", "--by", by, "--format", "csv")[1].count("\n") > 1


def test_show_without_anything(reconcile: Callable[..., Called], published: Path) -> None:
    """Days without a publication, and a store that is none, are said to be so."""
    assert "nothing is published" in reconcile("show", "--date", "2020-01-01")[2]
    assert "no store at" in reconcile("show", "--store", "nowhere")[2]


def test_status_names_days(reconcile: Callable[..., Called], published: Path) -> None:
    """`status` says what was downloaded, judged and billed."""
    (row,) = json.loads(reconcile("status", "--format", "json")[1])
    assert (row["day"], row["records"], row["verdicts"]) == ("2026-01-05", 800, "closed")


def test_init_writes_settings_that_load(reconcile: Callable[..., Called]) -> None:
    """The file that `init` writes is one that `run` takes, and it is never overwritten."""
    assert reconcile("init", "--dlr", "dlr/*.ndjson")[0] == 0
    assert reconcile("status", "--config", "reconcile.toml")[2].startswith("reconcile: no store")
    code, _, err = reconcile("init")
    assert (code, "is there already" in err) == (2, True)


def test_flags_are_the_settings() -> None:
    """Every setting has a flag of its name; `accounts` and `dlr_sql` are tables, for the file."""
    from reconcile.settings import Settings

    assert set(cli.SETTING_FLAGS) == set(Settings.model_fields) - {"accounts", "dlr_sql"}


def test_every_command_has_an_example() -> None:
    """Each help text shows a line that can be run."""
    commands = {**cli.cli.commands, **cli.sandbox.commands}
    for name, command in commands.items():
        if name != "sandbox":
            assert f"reconcile {'sandbox ' if name in cli.sandbox.commands else ''}{name}" in str(
                command.help
            ), name


def test_help_imports_nothing_heavy() -> None:
    """`--help` answers without the engine, the frames or the settings being loaded."""
    script = (
        "import sys; sys.argv = ['reconcile', '--help']\n"
        "from reconcile import cli\n"
        "try: cli.main()\n"
        "except SystemExit: pass\n"
        "heavy = {'duckdb', 'ibis', 'pandas', 'pyarrow', 'numpy', 'pydantic', 'requests', 'rich'}\n"
        "print(sorted(heavy & set(sys.modules)), file=sys.stderr)"
    )
    ended = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert ended.stderr.strip() == "[]"
