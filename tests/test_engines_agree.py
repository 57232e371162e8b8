"""A small day in a bucket, under faults and with a machine lost, is the day that a disk holds."""

from __future__ import annotations

import re
from pathlib import Path

import judge_support as core
import pytest
from random_traffic import Traffic

from tests import engines_agree
from tests import judged_in_a_bucket as bucket
from tests.judged_stores import ALL, compare


@pytest.mark.slow
@pytest.mark.skipif(bool(bucket.lacking()), reason=f"not installed: {bucket.lacking()}")
def test_bucket_and_disk(clean_environment: None, capsys: pytest.CaptureFixture[str]) -> None:
    """The command finds every table equal, says that a machine was lost, and what struck."""
    asked = ["--messages", "2000", "--days", "1", "--legs", "bucket", "--kill", "--faults"]
    assert engines_agree.main(asked) == 0
    told = capsys.readouterr().out
    assert "killed in the middle and gone on with by another machine" in told
    assert "all tables are equal, row for row" in told
    assert sum(map(int, re.findall(r"(\d+) (?:slow_down|cut_)", told))) > 0
    rows = {name: int(count) for name, count in re.findall(r"  (\w+): (\d+) rows", told)}
    assert rows["verdicts"] == rows["records"] > 2000
    some = ("receipts", "orphans", "summary", "changes", "networks", "sent", "unrecorded")
    assert min(rows[name] for name in some) > 0


def test_what_a_machine_has_not(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A leg that cannot be gone here is refused before anything is made."""
    monkeypatch.setenv("PATH", "")
    with pytest.raises(SystemExit):
        engines_agree.main(["--legs", "spark"])
    assert re.search(r"spark takes .*java, which this machine has not", capsys.readouterr().err)


def test_a_row_less_is_found(tmp_path: Path) -> None:
    """Stores that differ in one record differ in that, and in nothing else."""
    traffic = Traffic(3, 50)
    ours = core.fill_store(tmp_path / "ours", traffic.records, traffic.receipts)
    theirs = core.fill_store(tmp_path / "theirs", traffic.records[1:], traffic.receipts)
    found = {each.table: each for each in compare(ours, theirs, ALL)}
    assert (found["records"].only_ours, found["records"].only_theirs) == (1, 0)
    assert found["receipts"].rows > 0
    assert [name for name, each in found.items() if each.differ] == ["records"]
