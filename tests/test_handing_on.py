"""What is under way in a bucket: at any put another machine finds all but the page in flight."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("s3fs", reason="s3fs is not installed: pip install -e '.[s3]'")
pytest.importorskip("moto", reason="moto is not installed: pip install -e '.[test]'")

from rig_s3 import BUCKET, EXPIRED, S3, serving

from reconcile.bucket import Bucket
from reconcile.days import day_window
from reconcile.errors import BucketError
from reconcile.handing_on import FOLDER, HandingOn
from reconcile.reports import download, refresh
from reconcile.reports.budget import Budget
from reconcile.reports.client import Client
from reconcile.reports.plan import Step
from reconcile.reports.refresh import Answers, Wanted
from reconcile.reports.slices import Slice
from reconcile.reports.underway import Pages, UnderWay
from reconcile.sandbox.generate import ACCOUNT, generate
from reconcile.sandbox.server import Sandbox
from reconcile.settings import Account, Settings
from reconcile.store import read_json

PART = Slice(ACCOUNT.api_key, day_window(date(2026, 1, 5)))
AS_OF = datetime(2026, 1, 12, tzinfo=UTC)


@pytest.fixture(scope="module")
def server() -> Iterator[S3]:
    with serving() as s3, pytest.MonkeyPatch.context() as patch:
        for name, value in s3.environment.items():
            patch.setenv(name, value)
        yield s3


@pytest.fixture
def s3(server: S3) -> S3:
    server.calm()
    return server


def machine(name: str, root: Path) -> HandingOn:
    """A machine that holds the lock of a store."""
    return HandingOn(Bucket(f"s3://{BUCKET}/{name}"), root, lambda: None)


def pages_of(root: Path) -> list[Any]:
    """The numbers of the pages of the slice that a machine has."""
    return [page["n"] for page in Pages(root / FOLDER / f"{PART.name}.pages")]


def begun(root: Path, kept: Callable[[], None]) -> Pages:
    return UnderWay(root / FOLDER, PART, AS_OF, "sync", kept).pages


def billed_in(root: Path) -> int:
    """How many records that were paid for a machine finds in its folder."""
    folder, found = root / FOLDER, 0
    for note in folder.glob("*.json"):
        told = read_json(note)
        pages = list(Pages(note.with_suffix(".pages")))
        if "slice" in told:
            found += told["billed"] if "rows" in told else sum(page["billed"] for page in pages)
    return found + sum(each.billed for each in refresh.left(folder, lambda: None))


@pytest.mark.slow
def test_at_any_put_all_is_there_but_the_page_in_flight(
    s3: S3, tmp_path: Path, account: Account, configure: Callable[..., Settings]
) -> None:
    """A machine that is lost at a put of a page, of a listing or by id, costs that page once more;
    one that is lost at any other put costs nothing."""
    world = generate(tmp_path / "w", messages=2300, days=1, seed=5)  # three pages
    here = machine("any", tmp_path / "one")
    moments: list[tuple[str, int, dict[str, bytes]]] = []

    def watch(method: str, path: str) -> None:
        if method == "PUT":
            _, listed = s3.ask("GET", f"/{BUCKET}?list-type=2&prefix=any/")
            keys = re.findall(r"<Key>any/(.*?)</Key>", listed.decode())
            there = {key: s3.ask("GET", f"/{BUCKET}/any/{key}")[1] for key in keys}
            moments.append((path, sandbox.billed_records, there))

    with Sandbox(world.folder, now=AS_OF) as sandbox, ThreadPoolExecutor(1) as pool:
        settings, budget = configure(base_url=sandbox.base_url), Budget(None)
        client, folder = Client(account, settings, budget), tmp_path / "one" / FOLDER
        s3.watch = watch
        desk = download.Desk(folder, settings, AS_OF, budget, lambda *_: None, here.keep)
        outcome = download.fetch(desk, client, Step(PART, "sync", None))
        assert outcome.failure is None
        raw = outcome.fetched[0].raw
        import pyarrow.parquet as pq

        ids = pq.read_table(raw)["message_id"].to_pylist()[:30]
        answers = Answers(PART.source, folder, AS_OF, kept=here.keep)
        answers.ask(client, [Wanted(each) for each in ids], pool.submit, lambda *_: None)
        client.close()
    s3.calm()
    assert answers.billed == 30
    costs = []
    for number, (path, billed, there) in enumerate(moments):
        for name, body in there.items():
            s3.put(f"any-{number}/{name}", body)
        next_one = tmp_path / str(number)
        machine(f"any-{number}", next_one).restore()
        lost = billed - billed_in(next_one)
        assert (lost > 0) == (".pages" in path), (path, lost)
        costs += [lost] if lost else []
    assert costs == [1000, 1000, 300, 20, 10]


@pytest.mark.slow
def test_pages_that_could_not_be_put_go_on_on_their_machine(s3: S3, tmp_path: Path) -> None:
    """They were paid for and are on its disk: its next run has them, and puts them first of all."""
    here = machine("own", tmp_path / "one")
    pages = begun(tmp_path / "one", here.keep)
    pages.append({"n": 1})
    s3.refusal = EXPIRED
    with pytest.raises(BucketError, match="expired"):
        pages.append({"n": 2})
    s3.calm()
    machine("own", tmp_path / "two").restore()
    assert pages_of(tmp_path / "two") == [1]
    again = machine("own", tmp_path / "one")
    again.restore()
    assert pages_of(tmp_path / "one") == [1, 2]
    again.keep()
    begun(tmp_path / "one", again.keep).append({"n": 3})
    machine("own", tmp_path / "three").restore()
    assert pages_of(tmp_path / "three") == [1, 2, 3]


@pytest.mark.parametrize("is_over", [False, True])
def test_where_another_went_on_its_pages_count(s3: S3, tmp_path: Path, is_over: bool) -> None:
    """Pages that were never put are of no use where the slice went on elsewhere, or is over."""
    name = f"other-{is_over}"
    here = machine(name, tmp_path / "one")
    pages = begun(tmp_path / "one", here.keep)
    s3.refusal = EXPIRED
    with pytest.raises(BucketError):
        pages.append({"n": "ours"})
    s3.calm()
    there = machine(name, tmp_path / "two")
    there.restore()
    begun(tmp_path / "two", there.keep).append({"n": "theirs"})
    if is_over:
        for path in (tmp_path / "two" / FOLDER).iterdir():
            path.unlink()
        there.keep()
    machine(name, tmp_path / "one").restore()
    assert pages_of(tmp_path / "one") == ([] if is_over else ["theirs"])


def test_a_line_that_is_half_is_not_put(s3: S3, tmp_path: Path) -> None:
    """What a crash tore is cut off later: no machine finds it with another line's end behind it."""
    here, file = machine("torn", tmp_path / "one"), tmp_path / "one" / FOLDER / f"{PART.name}.pages"
    pages = begun(tmp_path / "one", here.keep)
    pages.append({"n": 1})
    with file.open("a") as torn:
        torn.write('{"n": "to')
    here.keep()
    assert pages_of(tmp_path / "one") == [1]  # and cut off
    pages.append({"n": "another, which is longer"})
    machine("torn", tmp_path / "two").restore()
    assert pages_of(tmp_path / "two") == [1, "another, which is longer"]


def test_a_file_that_goes_while_it_is_looked_at(s3: S3, tmp_path: Path) -> None:
    """Another thread may drop the pages of a slice that is whole: they are no trouble."""
    here, folder = machine("gone", tmp_path), tmp_path / FOLDER
    begun(tmp_path, here.keep)
    (folder / "gone.pages").symlink_to(folder / "nowhere")  # listed, and not there
    here.keep()
    assert not [name for name in Bucket(f"s3://{BUCKET}/gone").list() if "gone.pages" in name]


def test_pages_without_a_note_are_no_answers(
    s3: S3, tmp_path: Path, account: Account, configure: Callable[..., Settings]
) -> None:
    """What was asked for by id and taken in long ago is not given out as an answer of now."""
    answers = Answers(PART.source, tmp_path, AS_OF)
    answers._pages.append({"asked": ["m"], "records": [{"message_id": "m", "status": "old"}]})
    answers._begin()
    assert list(answers._pages) == []
