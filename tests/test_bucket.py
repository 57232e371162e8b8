"""A store in a bucket: the same tables as on a disk, whatever happens on the way, bought once."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

pytest.importorskip("s3fs", reason="s3fs is not installed: pip install -e '.[s3]'")
pytest.importorskip("moto", reason="moto is not installed: pip install -e '.[test]'")

from rig_s3 import BUCKET, DENIED, EXPIRED, S3, serving

from reconcile.bucket import Bucket
from reconcile.days import Window, parse_moment
from reconcile.errors import BucketError, LockedError, SettingsError, UsageError
from reconcile.lease import NAME, Lease
from reconcile.mirror import Mirror
from reconcile.reports.download import AT_ONCE
from reconcile.reports.refresh import left
from reconcile.reports.slices import Source
from reconcile.reports.underway import Pages
from reconcile.sandbox.generate import generate
from reconcile.sandbox.server import Sandbox
from reconcile.settings import load
from reconcile.store import Staged, Store, read_json
from reconcile.tables import REASONS
from tests.in_process import called

# Byte for byte; `records` is in no order.
TABLES = ("receipts", "verdicts", "orphans", "summary", "reasons", "error_codes",
          "networks")  # fmt: skip
EXPIRY = 5.0


class Team:
    """A world that is served, and machines that run the job against it."""

    def __init__(self, folder: Path, sandbox: Sandbox, s3: S3) -> None:
        self.folder, self.sandbox, self.s3 = folder, sandbox, s3
        self.facts = json.loads((folder / "sandbox.json").read_text())
        (folder / "pii.key").write_text("a key for tests only, 32 letters", "ascii")

    def environment(self, machine: str) -> dict[str, str]:
        """What a machine's own cron has; its cache is its own."""
        plain = {k: v for k, v in os.environ.items()
                 if not k.startswith(("RECONCILE", "VONAGE", "AWS"))}  # fmt: skip
        return plain | self.s3.environment | {
            "VONAGE_API_KEY": self.sandbox.api_key, "VONAGE_API_SECRET": self.sandbox.api_secret,
            "XDG_CONFIG_HOME": str(self.folder / "config"),
            "XDG_CACHE_HOME": str(self.folder / "machines" / machine),
        }  # fmt: skip

    def start(self, machine: str, store: object, *more: str, dlr: str = "") -> Any:
        """Starts the night's command on a machine."""
        return subprocess.Popen(
            [sys.executable, "-m", "reconcile.cli", *self.night(store, *more, dlr=dlr)],
            env=self.environment(machine), text=True, stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )  # fmt: skip

    def night(self, store: object, *more: str, dlr: str = "") -> list[str]:
        """The night's command."""
        return [
            "run", "--base-url", self.sandbox.base_url, "--store", str(store),
            "--dlr", dlr or str(self.folder / "dlr" / "*"),
            "--pii-key-file", str(self.folder / "pii.key"), "--from", "2026-01-05",
            "--to", "2026-01-07", "--as-of", self.facts["mature_at"], "--poll-first", "100ms",
            "--lock-expiry", f"{EXPIRY:.0f}s", *more,
        ]  # fmt: skip

    def run(self, machine: str, store: object, *more: str, dlr: str = "") -> tuple[int, str, str]:
        """The same, to its end: exit code, stdout, stderr."""
        running = self.start(machine, store, *more, dlr=dlr)
        out, told = running.communicate(timeout=240)
        return running.returncode, out, told

    def tell(self, machine: str, *command: str) -> tuple[int, str, str]:
        """Any command on a machine, in this process."""
        return called(command, self.environment(machine), self.folder)

    def kept(self, url: str, folder: Path) -> dict[str, str]:
        """Every published file of a bucket's store, by its name, as its digest."""
        self.s3.calm()
        mirror = Mirror(url, folder)
        for table in TABLES:
            mirror.pull(*mirror.names(table))
        return digests(folder)


def digests(store: Path) -> dict[str, str]:
    return {
        str(path.relative_to(store)): hashlib.sha256(path.read_bytes()).hexdigest()
        for table in TABLES
        for path in sorted((store / table).rglob("*.parquet"))
    }


@pytest.fixture(scope="module")
def team(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Team]:
    folder = tmp_path_factory.mktemp("bucket") / "w"
    generate(folder, messages=1200, days=2, seed=7)
    with (
        Sandbox(folder, pending_seconds=0.05) as sandbox, serving() as s3,
        pytest.MonkeyPatch.context() as patch,
    ):  # fmt: skip
        for name, value in s3.environment.items():
            patch.setenv(name, value)
        yield Team(folder, sandbox, s3)


@pytest.fixture(autouse=True)
def calm(team: Team) -> None:
    team.s3.calm()
    team.s3.seen.clear()


@pytest.fixture(scope="module")
def on_disk(team: Team) -> tuple[dict[str, str], int]:
    """What a store on a disk holds after the same night, and what it was billed."""
    billed = team.sandbox.billed_records
    assert team.tell("plain", *team.night(team.folder / "store")) == (0, "", "")
    return digests(team.folder / "store"), team.sandbox.billed_records - billed


@pytest.mark.slow
def test_a_bucket_holds_what_a_disk_would(
    team: Team, on_disk: tuple[dict[str, str], int], tmp_path: Path
) -> None:
    """The same bytes; another machine goes on with them, pays nothing, and shows the same."""
    url, (same, paid) = f"s3://{BUCKET}/plain/store", on_disk
    billed = team.sandbox.billed_records
    assert team.run("one", url) == (0, "", "")
    assert team.kept(url, tmp_path / "one") == same
    assert team.sandbox.billed_records - billed == paid
    assert team.run("two", url) == (0, "", "")
    assert team.kept(url, tmp_path / "two") == same
    assert team.sandbox.billed_records - billed == paid
    for command in (["show", "--by", "network"], ["status"]):
        shown = [team.tell("three", *command, "--store", str(store))
                 for store in (url, team.folder / "store")]  # fmt: skip
        assert shown[0][0] == 0, shown[0]
        assert shown[0] == shown[1]


@pytest.mark.slow
def test_faults_on_the_way(team: Team, on_disk: tuple[dict[str, str], int], tmp_path: Path) -> None:
    """Answers that say to slow down, and connections that are lost, cost time and nothing else."""
    url, (same, paid) = f"s3://{BUCKET}/faults", on_disk
    billed = team.sandbox.billed_records
    team.s3.shares = {
        "slow_down": 0.06, "cut_before": 0.04, "cut_after": 0.04, "cut_mid_body": 0.06,
    }  # fmt: skip
    assert team.run("one", url, "--via", "sync") == (0, "", "")
    assert min(team.s3.seen[fault] for fault in team.s3.shares) > 0, team.s3.seen
    assert team.kept(url, tmp_path / "kept") == same
    assert team.sandbox.billed_records - billed == paid


@pytest.mark.slow
@pytest.mark.parametrize(
    ("via", "kills"),
    [
        ("sync", (".pages.at-", "/records/")),
        ("async", (".work/slices/", "/verdicts/", "/ledger.json")),
    ],
)
def test_killed_and_gone_on_with_by_another(
    via: str, kills: tuple[str, ...], team: Team, on_disk: tuple[dict[str, str], int],
    tmp_path: Path,
) -> None:  # fmt: skip
    """Killed at any put, and its machine lost with it: the next one ends in the same state, and
    what was paid for is not paid for again, but for answers that were not in the bucket yet."""
    url, (same, paid) = f"s3://{BUCKET}/killed-{via}", on_disk
    billed, lost = team.sandbox.billed_records, 0
    for number, where in enumerate(kills):
        running = team.start(f"{via}-{number}", url, "--via", via)
        at = _killer(team.s3, running, where)
        _, told = running.communicate(timeout=240)
        assert running.returncode == -9, (where, told)
        assert at, where
        team.s3.calm()
        if via == "sync":  # a report is found again, whatever was lost of it
            held, begun = _billed_in(url, tmp_path / str(number))
            costs = team.sandbox.billed_records - billed - lost - held
            # A page here has fewer than 100 records, and of each listing one may be in flight.
            assert 0 <= costs <= min(begun, AT_ONCE) * 100, where
            assert costs or where != ".pages.at-"  # the page whose put it was, at the least
            lost += costs
        team.s3.ask("DELETE", f"/{BUCKET}/killed-{via}/{NAME}")  # as if it had expired
    assert team.run(f"{via}-last", url, "--via", via) == (0, "", "")
    assert team.kept(url, tmp_path / "kept") == same
    assert team.sandbox.billed_records - billed == paid + lost


def _billed_in(url: str, root: Path) -> tuple[int, int]:
    """What of all that was paid for another machine finds in the bucket, in records; and how many
    slices are begun there."""
    mirror = Mirror(url, root)
    mirror.under_way.restore()
    mirror.pull("ledger.json")
    folder, ledger = root / ".work" / "slices", Store(root).ledger()
    entered = [parse_moment(d["start"]) for d in ledger.downloads]
    found, notes = ledger.billed, [read_json(path) for path in folder.glob("*.json")]
    found += sum(each.billed for each in left(folder, lambda: None))
    begun = [told for told in notes
             if "slice" in told and parse_moment(told["slice"][3]) not in entered]  # fmt: skip
    for told in begun:
        part = Source(*told["slice"][:3]).slice(Window(*map(parse_moment, told["slice"][3:])))
        pages = Pages(folder / f"{part.name}.pages")
        found += told.get("billed", sum(page["billed"] for page in pages))
    return found, len(begun)


def _killer(s3: S3, running: Any, where: str) -> list[str]:
    """Kills a run when it puts its second object of a kind: half of them are there by then."""
    at: list[str] = []

    def watch(method: str, path: str) -> None:
        if method == "PUT" and where in path and running.poll() is None:
            at.append(path)
            if len(at) == 2:
                running.kill()
                raise ConnectionError

    s3.watch = watch
    return at


@pytest.mark.slow
def test_one_at_a_time(team: Team) -> None:
    """A second run is told who is at work; one that was killed keeps the next out until its lock
    has expired, and no longer."""
    url = f"s3://{BUCKET}/locked"
    Store.open(url, create=True)
    lease = Lease(Bucket(url), 60.0)
    with lease.hold():
        code, out, told = team.run("one", url)
        assert (code, out) == (75, "")
        assert f"process {os.getpid()} on" in told
        assert "Traceback" not in told
        lease.check()
    _take(Bucket(url))  # let go, it is free at once
    bucket = Bucket(url)
    state = bucket.read(NAME)
    assert state
    left = json.dumps({"owner": "one that was killed", "seconds": 1.0, "token": "t"}).encode()
    assert bucket.write(NAME, left, instead_of=state.etag)
    with pytest.raises(LockedError, match=r"one that was killed.*expires in 1 s"):
        _take(bucket)
    time.sleep(2.5)
    _take(bucket)


def _take(bucket: Bucket) -> None:
    with Lease(bucket, 60.0).hold():
        pass


@pytest.mark.slow
def test_a_lock_is_kept_and_lost(team: Team) -> None:
    """It is written anew while it is held; where another has taken it, nothing more is written."""
    bucket = Bucket(f"s3://{BUCKET}/kept")
    lease = Lease(bucket, 4.0)
    with lease.hold():
        time.sleep(6.0)
        lease.check()
        with pytest.raises(LockedError):
            _take(bucket)
        taken = None
        while taken is None:  # it is being written anew meanwhile
            state = bucket.read(NAME)
            assert state
            another = b'{"owner": "another", "seconds": 60}'
            taken = bucket.write(NAME, another, instead_of=state.etag)
        time.sleep(2.5)
        with pytest.raises(LockedError, match="was lost"):
            lease.check()
    state = bucket.read(NAME)
    assert state
    assert b"another" in state.data  # what is another's is not let go


@pytest.mark.slow
def test_a_lock_whose_answers_are_lost(team: Team) -> None:
    """It was written anew, and nobody said so: it is ours still, and is kept on with and let go."""
    bucket = Bucket(f"s3://{BUCKET}/unheard")
    lease = Lease(bucket, 6.0)
    with lease.hold():
        begun = time.monotonic()
        team.s3.shares = {"cut_after": 1.0}
        while team.s3.seen["cut_after"] <= 2:
            assert time.monotonic() < begun + 5.0, "it was hardly tried to be written anew"
            time.sleep(0.05)
        team.s3.calm()
        time.sleep(begun + 7.0 - time.monotonic())  # longer than it lasts unless written anew
        lease.check()
    _take(bucket)


@pytest.mark.slow
def test_written_by_another_meanwhile(team: Team, tmp_path: Path) -> None:
    """A ledger that somebody else has replaced is not written over."""
    url = f"s3://{BUCKET}/meanwhile"
    store = Store.open(url, create=True)
    with store.lock(timedelta(minutes=1)):
        store.save(store.ledger())
        team.s3.put("meanwhile/ledger.json", b"{}")
        with pytest.raises(LockedError, match=r"another run has written .*ledger\.json"):
            store.save(store.ledger())


@pytest.mark.slow
def test_partial_uploads_go(team: Team) -> None:
    """An upload that was begun and never ended is dropped by the next run, and others' are not."""
    url = f"s3://{BUCKET}/partial"
    store = Store.open(url, create=True)
    for key in ("partial/verdicts/day=2026-01-05/verdicts.parquet", "others/film"):
        status, told = team.s3.ask("POST", f"/{BUCKET}/{key}?uploads")
        assert status == 200, told
    with store.lock():
        pass
    _, left = team.s3.ask("GET", f"/{BUCKET}?uploads")
    assert b"others/film" in left
    assert b"verdicts.parquet" not in left


@pytest.mark.slow
def test_partitions_of_several_files(team: Team, tmp_path: Path) -> None:
    """In a bucket, too, a partition is replaced as a whole, by more files or by fewer."""
    url = f"s3://{BUCKET}/several"
    store = Store.open(url, create=True)
    with store.lock():
        for names in (["a", "b", "c"], ["d"], ["e", "f"]):
            folder = store.staging / "parts"
            folder.mkdir(parents=True)
            for name in names:
                _write(folder / f"{name}.parquet", name)
            staged = folder
            if len(names) == 1:
                staged = store.staging / "one.parquet"
                (folder / "d.parquet").rename(staged)
                folder.rmdir()
            store.publish([Staged(REASONS.name, "2026-01-05", staged, len(names))])
            reader = Store(url)
            reader._mirror = Mirror(url, tmp_path / "-".join(names))  # another machine
            reader.root = tmp_path / "-".join(names)
            files = reader.files(REASONS, "2026-01-05")
            assert [
                pq.read_table(f, partitioning=None)["reason"][0].as_py() for f in files
            ] == names
            there = [n for n in Bucket(url).list("reasons") if n.endswith(".parquet")]
            assert len(there) == len(names)
        # How large it is says the listing: what is to be dropped is not fetched for that.
        there_now = Bucket(url).list("reasons")
        team.s3.seen.clear()
        assert Store(url).size(REASONS, "2026-01-05") == sum(s.size for s in there_now.values())
        assert team.s3.seen == {"GET": 1}
        store.drop(REASONS, "2026-01-05")
        assert Store(url).days(REASONS) == []


def _write(path: Path, name: str) -> None:
    import pyarrow as pa

    pq.write_table(pa.Table.from_pylist([{"reason": name}], schema=REASONS.schema), path)


@pytest.mark.slow
def test_captures_in_a_bucket(
    team: Team, on_disk: tuple[dict[str, str], int], tmp_path: Path
) -> None:
    """They are read once, called by their URLs, and fetched again only where they have changed."""
    for path in sorted((team.folder / "dlr").iterdir()):
        team.s3.put(f"captures/2026/{path.name}", path.read_bytes())
    team.s3.put("captures/2026/.hidden", b"{}")
    dlr, store = f"s3://{BUCKET}/captures/**/*", tmp_path / "store"
    assert team.tell("one", *team.night(store, dlr=dlr)) == (0, "", "")
    same = {n: d for n, d in on_disk[0].items() if n.startswith(("verdicts", "summary"))}
    found = digests(store)
    assert {name: found[name] for name in same} == same
    rows = pq.read_table(store / "receipts", partitioning=None)
    assert all(s.startswith(f"s3://{BUCKET}/captures/2026/") for s in rows["source"].to_pylist())
    assert not (store / ".work" / "captures").exists()
    team.s3.seen.clear()
    command = ["ingest", dlr, "--store", str(store), "--as-of", team.facts["mature_at"],
               "--pii-key-file", str(team.folder / "pii.key")]  # fmt: skip
    assert team.tell("two", *command) == (0, "nothing new\n", "")
    assert team.s3.seen["GET"] == 1  # the listing
    name = sorted((team.folder / "dlr").iterdir())[0].name
    more = (team.folder / "dlr" / name).read_bytes()
    if not name.endswith(".gz"):
        line = more.splitlines(keepends=True)[1]
        team.s3.put(f"captures/2026/{name}", more + line)
        code, out, told = team.tell("two", *command)
        assert (code, told) == (0, "")
        assert out.startswith(f"s3://{BUCKET}/captures/2026/{name}: ")
        assert ", 1 lines = " in out


@pytest.mark.slow
@pytest.mark.parametrize(
    ("pattern", "names"),
    [("find/a", ["find/a/1.json", "find/a/b/2.json"]), ("find/*/1.json", ["find/a/1.json"]),
     ("find/a/1.json", ["find/a/1.json"]), ("find/none*", []),
     ("find/**/[12].json", ["find/a/1.json", "find/a/b/2.json"])],
)  # fmt: skip
def test_patterns_of_objects(team: Team, pattern: str, names: list[str]) -> None:
    """A URL names an object, a folder of them, or those that match."""
    from reconcile.receipts.away import listed

    for name in ("find/a/1.json", "find/a/b/2.json", "find/a/.x/3.json"):
        team.s3.put(name, b"{}")
    assert list(listed(f"s3://{BUCKET}/{pattern}")) == [f"s3://{BUCKET}/{name}" for name in names]


@pytest.mark.slow
def test_what_is_wrong_is_one_line(team: Team, monkeypatch: pytest.MonkeyPatch) -> None:
    """No such bucket, credentials that have expired or are refused, places that are none."""
    for refusal, words in ((EXPIRED, "have expired.*renew"), (DENIED, "lets us not in.*check")):
        team.s3.refusal = refusal
        with pytest.raises(BucketError, match=words) as told:
            Store.open(f"s3://{BUCKET}/wrong")
        assert "\n" not in str(told.value)
    team.s3.calm()
    with pytest.raises(BucketError, match="no such bucket"):
        Store.open("s3://nobody-has-made-it/store", create=True)
    with pytest.raises(UsageError, match=f"no store at s3://{BUCKET}/empty"):
        Store.open(f"s3://{BUCKET}/empty")
    team.s3.put("others/holidays.jpg", b"jpg")
    with pytest.raises(UsageError, match="not empty and no store"):
        Store.open(f"s3://{BUCKET}/others", create=True)
    with pytest.raises(UsageError, match="write s3://BUCKET"):
        Store("s3://")
    with pytest.raises(SettingsError, match="a folder that all machines"):
        load(None, store=f"s3://{BUCKET}/wrong", engine="spark", spark="spark://host:7077")
    with pytest.raises(SettingsError, match="must be a folder, or s3://"):
        load(None, store="ftp://host/store")
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://storage.example")
    with pytest.raises(SettingsError, match="loopback only"):
        Store(f"s3://{BUCKET}/store")


@pytest.mark.slow
def test_credentials_that_expire_in_the_middle(
    team: Team, on_disk: tuple[dict[str, str], int], tmp_path: Path
) -> None:
    """The run ends with one line; with new ones the next goes on, and pays nothing twice."""
    url, (same, paid) = f"s3://{BUCKET}/expiring", on_disk
    billed = team.sandbox.billed_records

    def watch(method: str, path: str) -> None:
        if method == "PUT" and "/receipts/" in path:
            team.s3.refusal = EXPIRED

    team.s3.watch = watch
    code, out, told = team.run("one", url)
    assert (code, out) == (6, "")
    [line] = told.splitlines()
    assert f"s3://{BUCKET}/expiring says that the credentials have expired" in line
    team.s3.calm()
    time.sleep(EXPIRY + 1.5)
    assert team.run("one", url) == (0, "", "")
    assert team.kept(url, tmp_path / "kept") == same
    assert team.sandbox.billed_records - billed == paid
