"""What must be right before the first night, each looked at by itself; nothing is billed by it."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from reconcile import border
from reconcile.bucket import is_url
from reconcile.errors import ReconcileError, SettingsError, VonageError
from reconcile.receipts import database
from reconcile.receipts.away import listed
from reconcile.receipts.ingest import find
from reconcile.reports.client import Client
from reconcile.settings import PING_URL, WEBHOOK_URL, Account, Settings, secret_url
from reconcile.store import Store

OK, WARN, FAIL = "ok", "warn", "fail"
LOCAL = 6  # local input or disk
# A night of a million messages writes some hundred MB.
LITTLE_BYTES, TOO_FEW_BYTES = 5 << 30, 200 << 20
# Vonage's clock and ours: reports and receipts are held against each other by the second.
ODD_CLOCK, WRONG_CLOCK = timedelta(seconds=10), timedelta(minutes=5)
STALE = timedelta(hours=24)
TRIES = 1


@dataclass(frozen=True)
class Checked:
    """What one check found; `exit_code` is that of the shell where it failed."""

    name: str
    state: str
    sentence: str
    exit_code: int = 0


Check = Callable[[Settings], Iterable[Checked]]


def check(settings: Settings, now: datetime) -> Iterator[Checked]:
    """One finding after the other, in the order in which a night would meet them.

    Args:
        settings: as loaded: that much is proven.
        now: by our clock.
    """
    yield Checked("settings", OK, "read, and nothing in them is strange")
    yield from _told("watchers", _watchers, settings)
    yield from _told("credentials", lambda s: _vonage(s, now), settings)
    yield from _told("store", _store, settings)
    yield from _told("disk", _disk, settings)
    yield from _told("key", _key, settings)
    yield from _told("captures", lambda s: _captures(s, now), settings)
    yield from _told("signatures", _signatures, settings)
    yield from _told("send_log", lambda s: _files("send_log", s.send_log, now), settings)
    yield from _told("tables", _tables, settings)
    yield from _told("metrics_file", _metrics_file, settings)


def exit_code(found: Iterable[Checked]) -> int:
    """That of the first check that failed; 0: none did."""
    return next((each.exit_code for each in found if each.state == FAIL), 0)


def is_begun(settings: Settings) -> bool:
    """Whether a run has been here before."""
    return Store(settings.store).is_begun


def _told(name: str, look: Check, settings: Settings) -> Iterator[Checked]:
    try:
        yield from look(settings)
    except ReconcileError as error:
        yield Checked(name, FAIL, " ".join(str(error).split()), error.exit_code)


def _watchers(_settings: Settings) -> Iterator[Checked]:
    for name, variable in (("ping", PING_URL), ("webhook", WEBHOOK_URL)):
        url = secret_url(variable)
        if url:
            host = url.split("/")[2]
            yield Checked(name, OK, f"each run tells {host}")


def _vonage(settings: Settings, now: datetime) -> Iterator[Checked]:
    """Asks for the list of reports under way, which holds no record and so costs nothing."""
    told = settings.model_copy(update={"retries": min(settings.retries, TRIES)})
    clocks: list[datetime] = []
    for account in settings.credentials():
        try:
            moment = _clock(account, told, now)
        except VonageError as error:
            yield Checked("credentials", FAIL, f"account {account.account_id}: {error}", 4)
            continue
        clocks += [moment] if moment else []
        yield Checked("credentials", OK, f"account {account.account_id}: Vonage lets it in")
    if clocks:
        yield _clock_told(datetime.now(UTC) - clocks[-1])


def _clock(account: Account, settings: Settings, now: datetime) -> datetime | None:
    client = Client(account, settings)
    try:
        moments = [client.clock(owner.account_id, now) for owner in account.owners]
    finally:
        client.close()
    return moments[-1]


def _clock_told(ahead: timedelta) -> Checked:
    by = f"{abs(ahead.total_seconds()):.0f} s {'ahead of' if ahead > timedelta(0) else 'behind'}"
    if abs(ahead) > WRONG_CLOCK:
        return Checked("clock", FAIL, f"ours is {by} Vonage's: set it (NTP)", LOCAL)
    if abs(ahead) > ODD_CLOCK:
        return Checked("clock", WARN, f"ours is {by} Vonage's: does NTP run?")
    return Checked("clock", OK, "ours and Vonage's tell the same time")


def _store(settings: Settings) -> Iterator[Checked]:
    store, there = Store(settings.store), is_begun(settings)
    if there:
        Store.open(settings.store)  # says if its layout is another one's
    else:
        store.refuse_others()
    place = _there(store.root)
    problem = _not_writable(place)
    if problem:
        yield Checked("store", FAIL, f"{place} cannot be written: {problem}", LOCAL)
    else:
        begun = "is there" if there else "will be made by the first run"
        yield Checked("store", OK, f"{store.name} {begun}, and can be written")


def _disk(settings: Settings) -> Iterator[Checked]:
    places = {"store": _there(Store(settings.store).root)}
    if settings.temp_directory:
        places["temp_directory"] = _there(settings.temp_directory)
    for name, place in places.items():
        free = shutil.disk_usage(place).free
        words = f"{free / 1e9:,.1f} GB are free beside the {name}"
        state = FAIL if free < TOO_FEW_BYTES else WARN if free < LITTLE_BYTES else OK
        yield Checked("disk", state, words, LOCAL if state == FAIL else 0)


def _key(settings: Settings) -> Iterator[Checked]:
    if settings.pii != "hash":
        yield Checked("key", OK, f"none is needed: pii is {settings.pii}")
        return
    file = border.key_file(settings.pii_key_file)
    if settings.pii_key_file is None and not file.exists():
        yield Checked("key", OK, f"the first run makes one at {file}: back it up")
        return
    border.read_key(file)
    if file.resolve().is_relative_to(Store(settings.store).root.resolve()):
        yield Checked("key", FAIL, f"{file} lies in the store: both together are the numbers", 2)
    elif file.stat().st_mode & 0o077:
        yield Checked("key", WARN, f"others can read {file}: chmod 600 it")
    else:
        yield Checked("key", OK, f"{file} is there, and its owner's alone")


def _captures(settings: Settings, now: datetime) -> Iterator[Checked]:
    if not settings.dlr and not settings.dlr_sql:
        raise SettingsError("nothing says where captured receipts are: set dlr")
    yield from _files("captures", settings.dlr, now)
    for query in database.queries_of(settings):
        first = database.first_key(query)
        words = "it has no row yet" if first is None else f"its first row is read, key {first}"
        yield Checked("captures", OK, f"dlr_sql {query.name}: {words}")


def _files(name: str, patterns: list[str], now: datetime) -> Iterator[Checked]:
    if not patterns:
        return
    for pattern in filter(is_url, patterns):
        yield from _objects(name, pattern, now)
    files, nothing = find(p for p in patterns if not is_url(p))
    for pattern in nothing:
        yield Checked(name, FAIL, f"{pattern} matches no file", LOCAL)
    locked = [file for file in files if not os.access(file, os.R_OK)]
    for file in locked:
        yield Checked(name, FAIL, f"{file} cannot be read: no permission", LOCAL)
    if not files:
        return
    newest = max(files, key=lambda file: file.stat().st_mtime)
    moment = datetime.fromtimestamp(newest.stat().st_mtime, UTC)
    yield _age(name, f"{len(files):,} files", newest.name, now - moment)


def _objects(name: str, pattern: str, now: datetime) -> Iterator[Checked]:
    objects = listed(pattern)
    if not objects:
        yield Checked(name, FAIL, f"{pattern} matches no object", LOCAL)
        return
    newest = max(objects, key=lambda url: objects[url].modified)
    age = now - objects[newest].modified
    yield _age(name, f"{len(objects):,} objects", newest.rpartition("/")[2], age)


def _age(name: str, what: str, newest: str, age: timedelta) -> Checked:
    hours = max(age, timedelta(0)) / timedelta(hours=1)
    words = f"{what}; the newest, {newest}, was written to {hours:,.1f} h ago"
    stale = age > STALE
    return Checked(name, WARN if stale else OK, words + (": are they still captured?"
                                                         if stale else ""))  # fmt: skip


def _signatures(settings: Settings) -> Iterator[Checked]:
    secrets = settings.signature_secrets()
    if secrets:
        methods = ", ".join(sorted({method for method, _ in secrets.values()}))
        yield Checked("signatures", OK, f"secrets are there ({methods})")


def _tables(settings: Settings) -> Iterator[Checked]:
    known = settings.capability_table()
    if settings.capabilities:
        words = f"{settings.capabilities} has {len(known):,} lines"
        yield Checked("capabilities", OK if known else WARN, words)
    if settings.conversions:
        is_there = os.access(settings.conversions, os.R_OK)
        words = f"{settings.conversions} {'can' if is_there else 'cannot'} be read"
        yield Checked("conversions", OK if is_there else FAIL, words, 0 if is_there else LOCAL)


def _metrics_file(settings: Settings) -> Iterator[Checked]:
    if settings.metrics_file:
        folder = settings.metrics_file.absolute().parent
        problem = _not_writable(folder)
        words = f"{folder} " + (f"cannot be written: {problem}" if problem else "can be written")
        yield Checked("metrics_file", WARN if problem else OK, words)


def _there(path: Path) -> Path:
    """The path, or the nearest folder above it that is there."""
    path = path.absolute()
    return next(place for place in (path, *path.parents) if place.exists())


def _not_writable(folder: Path) -> str:
    """Why nothing can be written into a folder; "": it can be."""
    try:
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(b"x" * 4096)
            file.flush()
    except OSError as error:
        return error.strerror or type(error).__name__
    return ""
