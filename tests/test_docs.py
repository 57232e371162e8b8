"""What is written down is true: generated parts are fresh, commands exist, cron.example runs."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

from reconcile import cli
from reconcile.present.dictionary import dictionary
from reconcile.present.readme import renewed

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text("utf-8")


def test_generated_parts_are_fresh() -> None:
    """The README's tables say what the code says; `python -m reconcile.present.readme` renews."""
    assert renewed(README) == README


def test_data_dictionary_is_fresh() -> None:
    """docs/tables.md says what tables.py says; `python -m reconcile.present.dictionary` renews."""
    assert (ROOT / "docs" / "tables.md").read_text("utf-8") == dictionary()


def test_performance_is_fresh(tmp_path: Path) -> None:
    """Page and figure are what performance.json says; `--render` of its command renews them."""
    for name in ("performance.json", "performance.md", "performance.svg"):
        (tmp_path / name).write_bytes((ROOT / "docs" / name).read_bytes())
    command = [sys.executable, "-m", "tests.benchmarks.performance", "--render", "--docs", tmp_path]
    subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
    for name in ("performance.md", "performance.svg"):
        assert (tmp_path / name).read_text("utf-8") == (ROOT / "docs" / name).read_text("utf-8")


def test_each_column_is_in_the_dictionary_and_in_the_file(demo_store: Path) -> None:
    """The sentence of every column stands in the document and in the file's own metadata."""
    import pyarrow.parquet as pq

    from reconcile.tables import SUMMARY

    path = next(demo_store.glob("summary/day=*/*.parquet"))
    says = json.loads(pq.read_schema(path).metadata[b"reconcile"])["columns"]
    section = dictionary().split("## summary\n")[1].split("\n## ")[0]
    for column in SUMMARY.columns:
        assert says[column.name] == column.sentence
        assert f"| `{column.name}` |" in section
        assert column.sentence in section


def test_commands_named_exist() -> None:
    """Every `reconcile WORD` in README and cron.example is a command."""
    texts = README + (ROOT / "cron.example").read_text("utf-8")
    named = set(re.findall(r"(?:`|bin/)reconcile ([a-z]+)", texts))
    assert named
    assert named <= set(cli.cli.commands)


def test_console_shows_what_it_shows(demo_store: Path) -> None:
    """What the README shows of `show` is what the demo's store shows, 100 columns wide."""
    [block] = re.findall(r"```console\n\$ reconcile (show .*)\n([^`]+)```", README)
    command = [sys.executable, "-m", "reconcile.cli", *shlex.split(block[0])]
    around = os.environ | {"COLUMNS": "100"}
    ended = subprocess.run(
        [*command, "--store", str(demo_store)], env=around, capture_output=True, text=True,
        check=True,
    )  # fmt: skip
    assert ended.stdout == block[1]


def test_links_lead_somewhere() -> None:
    """Every relative link of the README is a file or folder of the checkout."""
    for target in re.findall(r"\]\(([^)#:]+)\)", README):
        assert (ROOT / target).exists(), target


def test_every_setting_is_in_the_template() -> None:
    """`init` shows every setting, each with a sentence."""
    from reconcile.present.template import settings_file
    from reconcile.settings import Settings

    text = settings_file({"store": "store"})
    for name, field in Settings.model_fields.items():
        assert name in text
        assert field.description
        assert str(field.description) in text or name in ("accounts", "dlr_sql")


def test_crontab_lines_are_whole() -> None:
    """Each job of cron.example has five fields, a user, and an absolute command."""
    jobs = [
        line for line in (ROOT / "cron.example").read_text("utf-8").splitlines()
        if line.strip() and not line.startswith("#") and "=" not in line.split()[0]
    ]  # fmt: skip
    assert len(jobs) == 3
    for job in jobs:
        minute, hour, *_, user = job.split()[:6]
        assert 0 <= int(minute) < 60
        assert int(hour) >= 2
        assert user == "reconcile"
        command = "prune" if "prune" in job else "run"
        assert f"/bin/reconcile {command} --config /" in job
