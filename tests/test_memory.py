"""Memory and room that do not suffice are one clear line, and the store is as it was."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from judged_traffic import taken_in

from reconcile import aside, cutting, engine, judging, settings
from reconcile.days import start_of
from reconcile.errors import DiskError, InputError, SettingsError
from reconcile.run import opened
from reconcile.sandbox.generate import START, Generated
from reconcile.settings import Settings
from reconcile.store import Store
from reconcile.tables import ORPHANS, SUMMARY, VERDICTS

MESSAGES = 20_000
START_AT = start_of(START)


@pytest.fixture(scope="module")
def taken(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Generated]:
    """A day downloaded and ingested, not judged."""
    folder = tmp_path_factory.mktemp("memory")
    return folder, taken_in(folder, messages=MESSAGES, days=1, seed=20260105)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 300 KB; only root may mount one."""
    folder = tmp_path / "small"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=300k", "tmpfs", str(folder)]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("mounting a small disk needs root")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def judge(taken: tuple[Path, Generated], root: Path, temp: Path | None, memory: str) -> Store:
    """Judges the day of a copy of the store within a memory limit."""
    folder, made = taken
    shutil.copytree(folder / "store", root)
    store, spill = Store.open(root), temp or root / ".work" / "spill"
    con = engine.connect(memory, 2, spill)
    mine = Settings(store=root, currency="EUR", temp_directory=temp)
    bench = judging.Bench(store, con, store.ledger(), mine, made.mature_at, frozenset())
    with store.lock(), engine.within_limits(spill), bench:
        judging.judge_day(bench, START, covered=True)
    return store


def untouched(root: Path) -> bool:
    """Whether nothing of the day was published."""
    return not any(Store(root).days(table) for table in (VERDICTS, SUMMARY, ORPHANS))


@pytest.mark.parametrize("size", ["0GB", "10KB", "1MB", "64MiB", "127.9MB"])
def test_too_little_memory_is_no_setting(clean_environment: None, size: str) -> None:
    """A limit below what the smallest day needs is refused, with the least that is accepted."""
    with pytest.raises(SettingsError, match=r"memory_limit: must be 128MB or more"):
        settings.load(None, memory_limit=size)


def test_least_memory_is_a_setting(clean_environment: None) -> None:
    """The least that is named is accepted, in the units of either kind."""
    for size in ("128MB", "123MiB", "0.2GB"):
        assert settings.load(None, memory_limit=size).memory_limit == size


@pytest.mark.slow
def test_day_within_the_least_memory(taken: tuple[Path, Generated], tmp_path: Path) -> None:
    """A small day is judged within the least memory that is accepted."""
    assert judge(taken, tmp_path / "s", None, engine.LEAST_MEMORY).days(VERDICTS) == [str(START)]


@pytest.mark.parametrize(
    ("given", "meanwhile"), [("4GB", 3_000_000_000), ("150MB", 128_000_000), ("128MB", 128_000_000)]
)
def test_a_limit_is_spared_for_a_while(tmp_path: Path, given: str, meanwhile: int) -> None:
    """The engine has three quarters of its limit and not less than the least, then all again."""
    con = engine.connect(given, 1, tmp_path)
    all_of_it, less = engine.memory_of(con), engine.connect(f"{meanwhile}B", 1, tmp_path)

    def fails() -> None:
        with engine.sparing(con):
            assert engine.memory_of(con) == engine.memory_of(less)
            raise ZeroDivisionError

    for _ in range(3):
        with pytest.raises(ZeroDivisionError):
            fails()
        assert engine.memory_of(con) == all_of_it


def test_memory_of_a_day_is_asked_for_before(tmp_path: Path) -> None:
    """A day too large for its memory names a memory_limit, with which it can be cut."""
    rows = "SELECT range::VARCHAR AS message_id FROM range(50_000_000)"
    with pytest.raises(InputError, match=r"raise memory_limit to 500MB or more"):
        cutting.spans_of(engine.connect("200MB", 8, tmp_path), rows)
    assert len(cutting.spans_of(engine.connect("500MB", 8, tmp_path), rows)) > 200
    assert cutting.least_memory(10) == 128_000_000


def test_room_of_a_day_is_asked_for_before(small_disk: Path, tmp_path: Path) -> None:
    """A day that must be cut names temp_directory where its disk is certainly too small."""
    con = engine.connect("200MB", 1, tmp_path / "spill")
    rows = "SELECT range AS n FROM range({})"
    cutting.refuse_without_room(con, [rows.format(1000)], small_disk / "none" / "yet")
    with pytest.raises(InputError, match=r"set temp_directory .*, or memory_limit to \d+MB"):
        cutting.refuse_without_room(con, [rows.format(100_000)], small_disk / "none" / "yet")
    assert not list(small_disk.iterdir())


@pytest.mark.slow
def test_cut_without_room_leaves_the_store(
    taken: tuple[Path, Generated], small_disk: Path, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """A temp_directory that is too small, or fills up in the middle, ends in a line that names it;
    nothing is published, and nothing is left there."""
    monkeypatch.setattr(cutting, "BYTES_AT_ONCE", 1 << 30)
    monkeypatch.setattr(cutting, "BYTES_IN_A_SPAN", 1 << 14)
    with pytest.raises(InputError, match="set temp_directory to a place"):
        judge(taken, tmp_path / "before", small_disk, "200MB")
    monkeypatch.setattr(cutting, "BYTES_ASIDE", 0)  # it only turns out while it is cut
    with pytest.raises(InputError, match=r"No space left|temp_directory") as caught:
        judge(taken, tmp_path / "middle", small_disk, "200MB")
    assert str(small_disk) in str(caught.value) or "temp_directory" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert untouched(tmp_path / "before")
    assert untouched(tmp_path / "middle")
    assert not list(small_disk.rglob("*.parquet"))


@pytest.mark.parametrize("bad", ["a file", "below a file", "read-only"])
def test_temp_directory_that_is_none(
    configure: Callable[..., Settings], tmp_path: Path, bad: str, request: pytest.FixtureRequest
) -> None:
    """A temp_directory that cannot be written is said before anything is done, with its path."""
    place: Path = tmp_path / "file"
    if bad == "read-only":
        place = request.getfixturevalue("small_disk")
        subprocess.run(["mount", "-o", "remount,ro", str(place)], check=True)
    else:
        place.write_text("not a folder", "utf-8")
        place = place / "below" if bad == "below a file" else place
    mine = configure(temp_directory=place)
    with (
        pytest.raises(DiskError, match=r"temp_directory .* cannot be written: .*--temp-directory"),
        opened(mine, START_AT, lambda *_: None),
    ):
        pass
    assert Store.open(mine.store).unfinished() is None


def test_what_a_stopped_run_left_goes(configure: Any, tmp_path: Path) -> None:
    """The next run removes what this store had aside, spilled or cut, and no other's."""
    mine = configure(temp_directory=tmp_path / "temp")
    store = Store.open(mine.store, create=True)
    own = aside.aside(store, mine.temp_directory)
    other = aside.aside(Store(tmp_path / "other"), mine.temp_directory)
    for folder in (own, other):
        (folder / "records").mkdir(parents=True)
    with opened(mine, START_AT, lambda *_: None) as this:
        assert not list(own.iterdir())
        [spill] = this.con.con.execute("SELECT current_setting('temp_directory')").fetchone()
        assert Path(spill).parent == own
        this.con.con.execute("SET memory_limit = '20MB'; SET threads = 1")
        this.con.con.execute("CREATE TABLE t AS SELECT hash(range) AS a FROM range(10_000_000)")
        assert list(own.rglob("*.tmp"))
    assert (other / "records").exists()
    assert not own.exists()


SORTING = """
import sys
from pathlib import Path
from reconcile import engine
from reconcile.settings import Settings
from reconcile.tables import VERDICTS
from reconcile.selection import reading
asked = Settings(memory_limit="128MB", threads=1, temp_directory=Path(sys.argv[1]))
con = engine.bare(*engine.limits_of(asked, Path("nowhere")))
if len(sys.argv) > 2:
    con.execute(f"SET max_temp_directory_size = '{sys.argv[2]}'")
texts = "SELECT range AS v, md5((range * 7919 % 2_500_000)::VARCHAR) AS s FROM range(2_500_000)"
with reading(VERDICTS):
    rows = f"SELECT v, s, row_number() OVER (ORDER BY s) AS n FROM ({texts})"
    print(*con.execute(f"SELECT count(*), sum(v), max(n), max(s) FROM ({rows})").fetchone())
"""


def sort(place: Path, *more: str) -> subprocess.Popen[str]:
    """A reader that needs more memory than it has."""
    call = [sys.executable, "-c", SORTING, str(place), *more]
    return subprocess.Popen(call, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def test_readers_do_not_share_what_they_spill(tmp_path: Path) -> None:
    """Two at once that spill to one place: each has its own folder there, which is gone with it."""
    both = [sort(tmp_path / "temp") for _ in range(2)]
    seen: set[str] = set()
    while any(each.poll() is None for each in both):
        seen.update(path.parent.name for path in (tmp_path / "temp").rglob("*.tmp"))
        time.sleep(0.02)
    for each in both:
        told, wrong = each.communicate()
        assert (each.returncode, wrong) == (0, "")
        assert told.split()[:3] == ["2500000", str(sum(range(2_500_000))), "2500000"]
    assert len(seen) == 2
    assert not list((tmp_path / "temp").iterdir())


@pytest.mark.parametrize(
    ("full", "told"),
    [
        (True, "InputError: what is asked of table verdicts does not fit in memory, and "
               "temp_directory is full: give it more room, or raise memory_limit"),
        (False, "DiskError: what is asked of table verdicts does not fit in memory, and cannot be "
                "spilled: "),
    ],
)  # fmt: skip
def test_a_reader_without_room(tmp_path: Path, full: bool, told: str) -> None:
    """It blames no file of the store."""
    place = tmp_path / "temp"
    if not full:
        place.write_text("a file\n", "utf-8")
    _, wrong = sort(place, *(["1MB"] if full else [])).communicate()
    assert told in wrong.splitlines()[-1]
    assert full or "set temp_directory to a place that can be written" in wrong


def test_what_a_killed_reader_left_goes(configure: Any, tmp_path: Path) -> None:
    """A run removes folders of readers that have been still for days, and no others."""
    mine = configure(temp_directory=tmp_path / "temp")
    old, new = (engine.own_folder(tmp_path / "temp") for _ in range(2))
    for folder, days in ((old, 3), (new, 1)):
        folder.mkdir(parents=True)
        (folder / "spilled.tmp").touch()
        os.utime(folder, times=(time.time() - days * 86_400,) * 2)
    with opened(mine, START_AT, lambda *_: None):
        assert [path for path in (old, new) if path.exists()] == [new]
