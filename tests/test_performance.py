"""The command behind docs/performance.md: programs that judge alike, bounds that hold, its page."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import duckdb
import pytest

from reconcile.store import names_of
from tests.benchmarks import contest, guarded
from tests.benchmarks.harness import python
from tests.benchmarks.performance import Contest
from tests.benchmarks.performance_page import page, wanted

ROOT = Path(__file__).parent.parent
COMMAND = [sys.executable, "-m", "tests.benchmarks.performance"]
MOST_MB, LONGEST = 2000.0, 120.0


def script(folder: Path, text: str) -> list[object]:
    """The call of a program that does what the text says, then tells what it took."""
    path = folder / "program.py"
    path.write_text(f'{text}\nprint(\'{{"seconds": 0.25, "peak_mb": 7}}\')\n', "utf-8")
    return [path]


def run(call: list[object], most_mb: float = MOST_MB, longest: float = LONGEST) -> guarded.Ended:
    return guarded.run(Path(sys.executable), call, most_mb, longest)


@pytest.mark.slow
def test_small_comparison(tmp_path: Path) -> None:
    """One command makes traffic, holds that tables are equal, times, and writes all three files;
    what this machine has not is left out, and it is said."""
    asked = ["--messages", "2000", "--runs", "1", "--memory-limit", "500MB", "--docs", tmp_path,
             "--programs", "ours", "ours on Spark", "polars", "the floor"]  # fmt: skip
    ended = subprocess.run(
        [*COMMAND, *map(str, asked)], cwd=ROOT, env=os.environ | {"PATH": ""}, text=True,
        capture_output=True, check=False,
    )  # fmt: skip
    assert ended.returncode == 0, ended.stderr
    assert "2,000: ours, polars wrote the same tables" in ended.stderr
    [size] = json.loads((tmp_path / "performance.json").read_text("utf-8"))["sizes"]
    assert list(size["programs"]) == ["ours", "polars", "the floor"]
    assert all(one["runs"][0]["seconds"] > 0 for one in size["programs"].values())
    told = (tmp_path / "performance.md").read_text("utf-8")
    assert told.count("| 2,000 |") == 3
    assert "ours on Spark is left out: this machine has no" in ended.stderr
    assert "\nLeft out: ours on Spark, since this machine has no" in told
    assert "2,000" in (tmp_path / "performance.svg").read_text("utf-8")
    more = ["--messages", "1000", *asked[2:6], "--docs", tmp_path, "--programs", "ours", "--add"]
    ended = subprocess.run([*COMMAND, *map(str, more)], cwd=ROOT, text=True, capture_output=True)
    assert ended.returncode == 0, ended.stderr
    sizes = json.loads((tmp_path / "performance.json").read_text("utf-8"))["sizes"]
    assert [each["messages"] for each in sizes] == [1000, 2000]
    assert sizes[1] == size
    other = [*more[:4], "--memory-limit", "600MB", *more[6:]]
    ended = subprocess.run([*COMMAND, *map(str, other)], cwd=ROOT, text=True, capture_output=True)
    assert "--add: memory_limit was 500MB before, and is 600MB" in ended.stderr


@pytest.mark.slow
def test_difference_is_told(demo_store: Path, tmp_path: Path) -> None:
    """A single other verdict, or a row less, is a difference in `verdicts`; several files instead
    of one are none, if their rows are in order."""
    files = demo_store.glob("verdicts/day=*/verdicts.parquet")
    file = max(files, key=lambda each: each.stat().st_size)
    day = contest.Day(tmp_path, 0, 0, file.parent.name.removeprefix("day="), "", "")
    for each in ("one", "parts", "astray", "other", "less"):
        for table in ("verdicts", "orphans", "summary", "reasons", "error_codes"):
            shutil.copytree(demo_store / table / file.parent.name,
                            tmp_path / each / table / file.parent.name)  # fmt: skip
    rows = f"FROM read_parquet('{file}', hive_partitioning = false)"
    first = f"message_id = (SELECT min(message_id) {rows})"
    for each, changed in (
        ("other", f"SELECT * REPLACE (if({first}, 'odd', verdict) AS verdict) {rows}"),
        ("less", f"SELECT * {rows} WHERE NOT {first}"),
    ):
        target = tmp_path / each / file.relative_to(demo_store)
        duckdb.execute(f"COPY ({changed} ORDER BY message_id) TO '{target}' (FORMAT parquet)")
    for each, names in (("parts", ["a/0.parquet", "a/1.parquet"]),
                        ("astray", ["a/1.parquet", "a/0.parquet"])):  # fmt: skip
        target = tmp_path / each / file.relative_to(demo_store)
        target.unlink()
        (target.parent / "a").mkdir()
        for name, those in (("0", first), ("1", f"NOT {first}")):
            part = target.parent / "a" / f"{name}.parquet"
            chosen = f"SELECT * {rows} WHERE {those} ORDER BY message_id"
            duckdb.execute(f"COPY ({chosen}) TO '{part}' (FORMAT parquet)")
        names_of(target).write_text(json.dumps({"files": names}), "utf-8")
    names = ["one", "parts", "astray", "other", "less"]
    found = contest.differences(day, [(each, tmp_path / each) for each in names])
    told = [(line.split(":")[0], line.split("{")[0].split(": ")[1]) for line in found[1:]]
    assert found[0].startswith("one and astray: verdicts: ")
    assert found[0].endswith(" is not sorted by message_id")
    assert told == [
        ("one and other", "verdicts, only ours"),
        ("one and other", "verdicts, only theirs"),
        ("one and less", "verdicts, only ours"),
    ]


@pytest.mark.slow
def test_program_tells_what_it_took(tmp_path: Path) -> None:
    """Its own seconds; its own peak, or what was seen of it and its children where that is more."""
    held = "import subprocess, sys\nhold = \"x = b'1' * 300_000_000; import time; time.sleep(2)\"\n"
    ended = run(script(tmp_path, held + "subprocess.run([sys.executable, '-c', hold])"))
    assert (ended.seconds, ended.trouble) == (0.25, "")
    assert ended.peak_mb > 280


@pytest.mark.slow
def test_other_groups_of_its_session_are_its_own(tmp_path: Path) -> None:
    """What a program starts in a group of its own counts as its memory, and ends with it."""
    hold = "x = b'1' * 300_000_000; import time; time.sleep(600)"
    starts = f"""import subprocess, sys, time
held = subprocess.Popen([sys.executable, '-c', "{hold}"], process_group=0)
open({str(tmp_path / "pid")!r}, 'w').write(str(held.pid))
time.sleep(600)"""
    ended = run(script(tmp_path, starts), longest=4)
    assert ended.trouble == guarded.TOO_LONG
    assert ended.peak_mb > 280
    held = Path("/proc", (tmp_path / "pid").read_text("utf-8"), "stat")
    assert not held.exists() or held.read_text("utf-8").rpartition(")")[2].split()[0] == "Z"


def test_memory_is_bounded(tmp_path: Path) -> None:
    """A program that takes more than it may is ended, with how much it had."""
    grows = "import time\nheld = []\nwhile True:\n    held.append(b'1' * 10**7); time.sleep(0.01)"
    ended = run(script(tmp_path, grows), most_mb=200)
    assert ended.trouble == guarded.NO_ROOM
    assert 200 < ended.peak_mb < 1000
    assert "MB of 200" in ended.why


@pytest.mark.slow
@pytest.mark.parametrize(
    ("text", "trouble"),
    [
        ("raise MemoryError", guarded.NO_ROOM),
        ("import os, signal; os.kill(os.getpid(), signal.SIGKILL)", guarded.NO_ROOM),
        ("import time; time.sleep(600)", guarded.TOO_LONG),
        ("raise ValueError('no such column')", guarded.FAILED),
    ],
)
def test_trouble_is_told_apart(tmp_path: Path, text: str, trouble: str) -> None:
    """No memory, killed, too long, and a failure of its own crash nothing, and are told apart."""
    ended = run(script(tmp_path, text), longest=3 if trouble == guarded.TOO_LONG else LONGEST)
    assert ended.trouble == trouble
    assert ended.why
    if trouble == guarded.FAILED:
        assert ended.why == "ended with exit code 1: ValueError: no such column"


def test_who_is_out_is_not_tried_again(tmp_path: Path) -> None:
    """A program that does not fit stands in the table, and is left out where there is more."""
    greedy = tmp_path / "greedy.py"
    ran = tmp_path / "ran"
    greedy.write_text(f"open({str(ran)!r}, 'a').write('once ')\nraise MemoryError\n", "utf-8")
    [modest] = script(tmp_path, "")
    programs = [contest.Program(Path(str(path)).stem, str(path), "", "", judges=False)
                for path in (greedy, modest)]  # fmt: skip
    told = {"memory_limit": "", "most_mb": MOST_MB, "longest_s": LONGEST}
    held = Contest(told, dict.fromkeys(programs, Path(sys.executable)))
    first, more = (
        held.held(contest.Day(tmp_path, messages, 0, "", "", ""), 2)["programs"]
        for messages in (1000, 2000)
    )
    assert ran.read_text("utf-8") == "once "
    assert [len(each["program"]["runs"]) for each in (first, more)] == [2, 2]
    assert [each["greedy"]["trouble"] for each in (first, more)] == [guarded.NO_ROOM] * 2
    assert more["greedy"]["why"].startswith("not tried: with 1,000 messages it held")


def measured(**programs: float | str) -> dict[str, object]:
    """What one run of each took with 5 million messages; a word is what kept it from ending."""
    told = {
        name: {"trouble": took, "why": "was ended at 21,000 MB of 20,000"}
        if isinstance(took, str)
        else {"runs": [{"seconds": took, "peak_mb": 1234}]}
        for name, took in programs.items()
    }
    kept = json.loads((ROOT / "docs" / "performance.json").read_text("utf-8"))
    return kept | {"sizes": [{"messages": 5_000_000, "receipts": 6_000_000, "programs": told}]}


def test_page_says_where_the_clock_starts() -> None:
    """Only where Spark was measured it says that its session was up."""
    clock = "Those of ours on Spark are from a session that is up."
    assert clock in page(measured(**{"ours": 10.0, "ours on Spark": 25.5}))
    assert clock not in page(measured(ours=10.0, polars=25.5))


def test_page_says_who_did_not_end() -> None:
    """What does not fit has a row that says so and with how much memory, and no numbers."""
    told = page(measured(**{"ours": 10.0, "plain pandas": guarded.NO_ROOM, "polars": 25.5}))
    assert "| 5,000,000 | ours | 1 | 10.0 | 1.00 | 2.00 | 1,234 | nothing |" in told
    assert "| 5,000,000 | polars | 1 | 25.5 | 2.55 | 5.10 | 1,234 |" in told
    row = "| plain pandas |  | does not fit: was ended at 21,000 MB of 20,000 |  |  |  |"
    assert f"| 5,000,000 {row}" in told


def test_wanted_beside_reached() -> None:
    """Factors are held against those wanted, each in its direction."""
    told = list(wanted(measured(**{"ours": 10.0, "DuckDB SQL": 8.0, "plain pandas": 59.0})))
    assert told[2:] == [
        "| ours: at most 1.3 × as long as DuckDB SQL | 1.25 × | reached |",
        "| ours: at least 6 × as fast as plain pandas | 5.90 × | not reached |",
        "| ours: at least 2 × as fast as polars | not measured |  |",
    ]


@pytest.mark.slow
def test_steps_add_up(tmp_path: Path) -> None:
    """Each step of judging has a row, and the last row is their sum."""
    told = python("-m", "tests.benchmarks.stages", "--messages", 2000, "--folder", tmp_path,
                  "--memory-limit", "500MB")  # fmt: skip
    rows = [line.strip("| ").split(" | ") for line in told.splitlines() if line.startswith("| ")]
    named = {name: list(map(float, cells)) for name, *cells in rows[1:]}
    assert {"verdicts", "orphans", "summary", "networks", "rest"} <= named.keys()
    whole = named.pop("all")
    assert whole[0] > named["verdicts"][0] > 0
    for found, *parts in zip(whole, *named.values(), strict=True):
        assert found == pytest.approx(sum(parts), abs=0.05 * (len(parts) + 1))
    assert not list(tmp_path.iterdir())
