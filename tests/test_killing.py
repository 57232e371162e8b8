"""A download that is killed under faults ends with the world's records, and pays for few twice."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.killing import ordeal


@pytest.mark.slow
@pytest.mark.parametrize("via", ["sync", "async"])
def test_ordeal(tmp_path: Path, via: str) -> None:
    """Killed four times: the world's records; a report is never paid for twice."""
    ended = ordeal(tmp_path, messages=12_000, days=2, kills=4, via=via, seed=3, patience=1.5)
    assert ended.wrong == 0
    assert ended.kills >= 2
    assert 0 <= ended.billed - ended.owed <= ended.allowed
