"""Snippets of the documents are executed as they stand, on the demo's store."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

import reconcile

ROOT = Path(__file__).parent.parent
SNIPPETS = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text("utf-8"), re.DOTALL)
NAMES = [re.findall(r"import (\w+)", snippet)[0] for snippet in SNIPPETS]


@pytest.fixture
def here(demo_store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder in which `store` is the demo's."""
    (tmp_path / "store").symlink_to(demo_store)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_four_ways_are_shown() -> None:
    """Ours, and the three that need nothing of ours."""
    assert NAMES == ["reconcile", "pandas", "duckdb", "polars"]


@pytest.mark.parametrize("snippet", SNIPPETS, ids=NAMES)
def test_snippets_give_the_same_answer(here: Path, snippet: str) -> None:
    """Each counts the missing receipts by country, and all count the same."""
    made: dict[str, Any] = {}
    exec(snippet, made)  # noqa: S102 - our own document
    found = made["by_country"]
    counts = dict(found.rows()) if hasattr(found, "rows") else found.to_dict()
    summary = reconcile.open("store").summary(where="missing > 0")
    assert counts == summary.groupby("country")["missing"].sum().to_dict()
    assert len(counts) > 1


def test_the_dictionary_says_how_files_say_it(here: Path) -> None:
    """docs/tables.md shows how to read a column's sentence from a file, and it is that sentence."""
    [snippet] = re.findall(
        r"```python\n(.*?)```", (ROOT / "docs" / "tables.md").read_text("utf-8"), re.DOTALL
    )
    *lines, asked = snippet.strip().replace("2026-01-31", "2026-10-12").splitlines()
    made: dict[str, Any] = {}
    exec("\n".join(lines), made)  # noqa: S102 - our own document
    assert eval(asked, made) == "A receipt should be here and is not."  # noqa: S307 - likewise
