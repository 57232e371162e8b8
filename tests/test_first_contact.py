"""A newcomer's first minutes: init that asks, check, what to look at first, completion."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from terminals import on_terminal

from reconcile.cli import SHELLS
from reconcile.settings import load
from reconcile.tables import BY_NAME

Called = tuple[int, str, str]
COMMAND = [sys.executable, "-m", "reconcile.cli"]


@pytest.fixture
def init(console: Callable[..., Called], clean_environment: None) -> Callable[..., Called]:
    """`reconcile init` without a terminal."""
    return lambda *args: console("init", *args)


def test_flags_go_into_the_file(init: Callable[..., Called]) -> None:
    """What flags say is what `run` loads; the next command is said."""
    code, out, err = init(
        "--dlr", "dlr/*", "--dlr", "more/*", "--store", "s", "--currency", "EUR", "--products",
        "SMS,MESSAGES", "--config", "my own.toml",
    )  # fmt: skip
    assert (code, err) == (0, "")
    assert out.endswith("\n  reconcile check --config 'my own.toml'\n")
    found = load(Path("my own.toml"))
    assert (found.dlr, found.store, found.currency) == (["dlr/*", "more/*"], Path("s"), "EUR")
    assert found.products == ["SMS", "MESSAGES"]


@pytest.mark.parametrize(("asked", "says"), [
    (["--products", "FAX"], "products"),
    (["--config", "/nowhere/reconcile.toml"], "cannot be written"),
    (["--config", "."], "is there already"),
], ids=str)  # fmt: skip
def test_nothing_is_written_that_is_wrong(
    init: Callable[..., Called], asked: list[str], says: str
) -> None:
    """A flag that no setting takes, or a place that cannot be: one line, and no file."""
    code, out, err = init(*asked)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert says in err
    assert not Path("reconcile.toml").exists()


def test_a_terminal_is_asked(tmp_path: Path) -> None:
    """On a terminal each thing that no flag says is asked; an empty answer takes the default."""
    (tmp_path / "a.ndjson").write_text("{}\n")
    told = asked(tmp_path, ["init", "--currency", "EUR"], ["*.ndjson", "", "MESSAGES"])
    assert "Captured receipts" in told
    assert "files there now: 1" in told
    assert "Folder of the tables [store]" in told
    assert "Currency" not in told
    assert "reconcile check" in told
    found = load(tmp_path / "reconcile.toml")
    assert (found.dlr, found.products, found.currency) == (["*.ndjson"], ["MESSAGES"], "EUR")


def test_a_terminal_need_not_be_asked(tmp_path: Path) -> None:
    """With --no-questions nothing is asked, and what was not said is the default."""
    told = asked(tmp_path, ["init", "--no-questions"], [])
    assert "Captured" not in told
    assert load(tmp_path / "reconcile.toml").dlr == []


def asked(folder: Path, arguments: list[str], answers: list[str]) -> str:
    """What a command says on a terminal on which somebody types."""
    around = {k: v for k, v in os.environ.items() if not k.startswith(("VONAGE_", "RECONCILE_"))}
    return on_terminal([*COMMAND, *arguments], around, answers, folder).decode()


def test_check_says_what_is_next(
    console: Callable[..., Called], clean_environment: None, demo_store: Path
) -> None:
    """Before the first run `check` ends with the next command; later it does not."""
    folder = demo_store.parent
    config = folder / "reconcile.toml"
    from reconcile.sandbox.demo import sample_data
    from reconcile.sandbox.server import Sandbox

    with Sandbox(sample_data()) as vonage:
        given = ["check", "--config", str(config), "--base-url", vonage.base_url]
        fresh = console(*given, "--store", "not-yet")
        begun = console(*given)
    assert fresh[0] == begun[0] == 0
    assert fresh[1].splitlines()[-1].startswith("Next: `reconcile fetch --plan`")
    assert "Next:" not in begun[1]


def test_a_run_says_what_to_look_at_first(demo_store: Path) -> None:
    """After the worst networks a line each: who lost most, and the command that shows them."""
    from reconcile.present.ended import after_run

    told = after_run(_ended(demo_store))
    first = told.partition("Look first at:\n")[2].splitlines()
    assert all(line.startswith("- ") for line in first)
    assert first[0].startswith("- what is incomplete, 2 days from 2026-10-13 to 2026-10-14")
    assert "4 missing by lost_webhook; 2 of them on GB 23410" in told
    assert any("receipts that join no record" in line for line in first)
    commands = [line.split("`")[1] for line in first if "`" in line]
    assert all(command.startswith("reconcile ") for command in commands)


@pytest.mark.slow
def test_commands_that_a_run_names_work(
    demo_store: Path, console: Callable[..., Called], clean_environment: None
) -> None:
    """Each command of these lines runs as it stands, and shows as many as the line says."""
    from reconcile.present.ended import after_run

    lines = after_run(_ended(demo_store)).partition("Look first at:\n")[2].splitlines()
    shown = [line for line in lines if "reconcile show --table" in line]
    assert shown
    for line in shown:
        asked = shlex.split(line.split("`")[1])[1:]
        code, out, _ = console(*asked, "--store", str(demo_store), "--format", "json")
        assert code == 0
        assert len(json.loads(out)["rows"]) >= int(line.split()[1])


def _ended(store: Path) -> object:
    """A run as it stands at its end, over the days of the demo."""
    from reconcile.days import parse_moment
    from reconcile.run import Run
    from reconcile.settings import Settings
    from reconcile.store import Store

    settings = Settings(store=store)
    opened = Store.open(store)
    as_of = parse_moment("2026-10-17T02:30:00Z")
    days = ("2026-10-12", "2026-10-13", "2026-10-14")
    run = Run(settings, opened, None, opened.ledger(), as_of, lambda *_: None)  # type: ignore[arg-type]
    run.manifest = {"judged": [{"day": day} for day in days]}
    run.hole("2026-10-14", "a reason")
    run.hole("2026-10-13", "a reason")
    return run


def test_nothing_to_look_at(demo_store: Path) -> None:
    """A day without any trouble is said to be one."""
    from reconcile.present.ended import after_run

    run = _ended(demo_store)
    run.holes.clear()  # type: ignore[attr-defined]
    run.manifest["judged"] = [{"day": "2026-10-15"}]  # type: ignore[attr-defined]
    assert after_run(run) == "Nothing stands out: every receipt is here, or is not due.\n"


@pytest.mark.parametrize("shell", SHELLS)
def test_completion_is_a_script_that_the_shell_takes(
    console: Callable[..., Called], shell: str
) -> None:
    """Each shell's script names our command; where the shell is installed, it parses it."""
    code, out, _ = console("completion", shell)
    assert code == 0
    assert "_RECONCILE_COMPLETE" in out
    if program := shutil.which(shell):
        subprocess.run([program, "-n"], input=out, text=True, check=True)


@pytest.mark.parametrize(("typed", "offers"), [
    (["reconcile", "sho"], ["show"]),
    (["reconcile", "show", "--by", "ne"], ["network"]),
    (["reconcile", "show", "--table", "re"], [n for n in BY_NAME if n.startswith("re")]),
    (["reconcile", "schema", "verd"], ["verdicts"]),
    (["reconcile", "run", "--lookb"], ["--lookback"]),
], ids=" ".join)  # fmt: skip
def test_bash_completes(tmp_path: Path, typed: list[str], offers: list[str]) -> None:
    """A real bash, with the script loaded, offers commands, values, tables and flags."""
    program = tmp_path / "reconcile"
    program.write_text(f"#!{sys.executable}\nfrom reconcile.cli import main\nmain()\n")
    program.chmod(0o755)
    words = " ".join(f"'{word}'" for word in typed)
    script = (
        f"source <(reconcile completion bash); COMP_WORDS=({words}); COMP_CWORD={len(typed) - 1}; "
        '_reconcile_completion reconcile; printf "%s\\n" "${COMPREPLY[@]}"'
    )
    around = os.environ | {"PATH": f"{tmp_path}:{os.environ['PATH']}"}
    ended = subprocess.run(
        ["bash", "-c", script], capture_output=True, text=True, check=True, env=around
    )
    assert sorted(ended.stdout.split()) == sorted(offers)
