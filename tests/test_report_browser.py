"""The report in a real browser: without a network, without an axe violation, by keyboard alone.

It needs Chromium, Node and what `npm ci` puts into tests/browser; without them it skips by name.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from invented_month import START, Month, invent

from reconcile.present.report.page import write_report
from reconcile.settings import Settings

BROWSER = Path(__file__).parent / "browser"
CHROMIUM = os.environ.get("CHROMIUM") or shutil.which("chromium") or ""
SETTINGS = ("desktop light", "desktop dark", "phone light", "phone dark")
MONTH = Month(days=10, networks=40, messages=50_000, holes=(6,), half=(8,))

pytestmark = [
    pytest.mark.skipif(not CHROMIUM, reason="Chromium is not installed (Debian: chromium)"),
    pytest.mark.skipif(not shutil.which("node"), reason="Node.js is not installed"),
    pytest.mark.skipif(
        not (BROWSER / "node_modules" / "axe-core").exists(), reason="npm ci in tests/browser"
    ),
]


@pytest.fixture(scope="module")
def seen(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What the browser found in the report of an invented month."""
    folder = tmp_path_factory.mktemp("browser")
    invent(folder / "store", MONTH)
    file = folder / "report.html"
    days = START + timedelta(days=3), START + timedelta(days=10)
    write_report(Settings(store=folder / "store"), file, *days)
    command = ["node", str(BROWSER / "look.mjs"), str(file), "axe"]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=300,
                           env={**os.environ, "CHROMIUM": CHROMIUM})  # fmt: skip
    assert ended.returncode == 0, ended.stderr
    found: dict[str, Any] = json.loads(ended.stdout)
    return found


@pytest.mark.slow
@pytest.mark.parametrize("setting", SETTINGS)
def test_axe_finds_nothing(seen: dict[str, Any], setting: str) -> None:
    """No violation of WCAG 2.2 A or AA, every fold open; and axe did look."""
    found = seen["axe"][setting]
    assert found["violations"] == []
    assert found["passes"] > 20


@pytest.mark.slow
@pytest.mark.parametrize("setting", SETTINGS)
def test_nothing_is_asked_of_a_network(seen: dict[str, Any], setting: str) -> None:
    """No request but for the file itself, nothing on the console."""
    assert (seen["axe"][setting]["requests"], seen["axe"][setting]["console"]) == ([], [])


@pytest.mark.slow
def test_keyboard_reaches_everything(seen: dict[str, Any]) -> None:
    """The skip link comes first; Tab stops at every link, button, fold, field and scrolling box."""
    found = seen["keyboard"]
    assert found["first"] == "Skip to the report"
    assert found["wanted"] > 60
    assert found["reached"] == found["wanted"]
    assert (found["requests"], found["console"]) == ([], [])


@pytest.mark.slow
def test_keyboard_sorts_filters_and_chooses(seen: dict[str, Any]) -> None:
    """Enter sorts a table and opens a fold, Space chooses a map, typing filters; it is told."""
    found = seen["keyboard"]
    numbers = [int(text.replace(",", "")) for text in found["numbers"]]
    assert found["sorted"] == "descending"
    assert numbers == sorted(numbers, reverse=True)
    assert len(set(numbers)) > 3
    assert found["opened"]
    assert [caption.split(":")[1].split()[0] for caption in found["maps"]] == ["suspect"] * 2
    assert found["shown"] >= 1
    assert found["status"] == f"{found['shown']} of {len(numbers)} rows shown."


@pytest.mark.slow
def test_all_is_there_without_script(seen: dict[str, Any]) -> None:
    """With scripts refused, all parts are read; only what needs one is not offered."""
    text = seen["plain"]["text"]
    for heading in ("In numbers", "Whom to believe", "How long deliveries take", "How to read it"):
        assert heading in text
    assert "Show networks with" not in text
    assert (seen["plain"]["requests"], seen["plain"]["console"]) == ([], [])


@pytest.mark.slow
def test_phone_is_not_scrolled_sideways(seen: dict[str, Any]) -> None:
    """On a phone only tables scroll sideways, never the page."""
    width, window = seen["widths"]
    assert width <= window
