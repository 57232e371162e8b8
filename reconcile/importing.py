"""Takes in reports that somebody already has: they were paid for, and cost nothing more."""

# ruff: noqa: S608 - SQL is put together from names of our own; paths are quoted

from __future__ import annotations

import hashlib
import zipfile
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

from reconcile.days import DAY, Window, day_window, days_between, end_of, iso, start_of
from reconcile.engine import quote
from reconcile.errors import ContractError, InputError, ReportError, UsageError, trouble
from reconcile.reports import keep, parse, raw
from reconcile.reports.keep import Part
from reconcile.reports.plan import sources_of
from reconcile.reports.slices import Source, is_whole
from reconcile.run import Run

VIA = "import"
# So long Vonage holds records.
RETENTION = timedelta(days=396)
BLOCK = 1 << 20


@dataclass(frozen=True)
class Imported:
    """One file that was taken in, and what it held of each account.

    Attributes:
        first, last: the days of its records, or those that were named.
        whole: how many of these days it is taken to hold whole.
    """

    file: Path
    product: str
    first: date
    last: date
    whole: int
    records: dict[str, int]
    rejects: int
    new_columns: list[str]


def take_in(this: Run, file: Path, days: tuple[date, date] | None = None) -> Imported:
    """Merges a report's ZIP or CSV, or the dashboard's export, into `records`.

    Args:
        this: the run.
        file: whatever its name.
        days: the UTC days that it is known to hold whole, the second excluded. Without them it is
            taken to be whole from the day of its first record to that of its last. A day that had
            not settled when the file was made is never whole: it is named as a hole.

    Raises:
        InputError: the file is no report.
        UsageError: nobody says whose records they are.
    """
    request_id = f"file:{_digest(file)[:16]}"
    target = this.slices / f"{request_id.replace(':', '-')}.import"
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        taken = raw.write_archive(file, target, "none")
        return _merge(this, file, days, request_id, taken)
    except ReportError as error:
        raise InputError(str(error)) from None
    except ContractError as error:
        raise ContractError(f"{file}: {error}") from None
    finally:
        target.unlink(missing_ok=True)


def _merge(
    this: Run, file: Path, days: tuple[date, date] | None, request_id: str, taken: raw.RawSlice
) -> Imported:
    target = taken.path
    found = keep.days_of(this.con, target)
    first, end = days or (found[0], found[-1] + DAY) if found or days else (None, None)
    if first is None or end is None:
        raise InputError(f"{file} holds no record: name its days with --from and --to")
    if days is None and end - first > RETENTION:
        raise InputError(
            f"{file} has records from {first} to {found[-1]}, longer than Vonage holds any: "
            "name its days with --from and --to"
        )
    if str(first) < this.ledger.pruned:
        raise UsageError(
            f"{file} has days before {this.ledger.pruned}, which were pruned: name later days with "
            "--from and --to"
        )
    product, told_at = _product(this, target), _told_at(this, file, target)
    asked, account = Window(start_of(first), start_of(end)), _account(this, target, file)
    made_by = _made_by(file, this.as_of)
    counts: dict[str, int] = {}
    rejects = whole = 0
    for day in days_between(first, end):
        part = Part(target, product, account, day_window(day), told_at, f"{VIA}:{file.name}", asked)
        here = _count(this, part, day)
        rejects += sum(keep.publish(this.store, this.con, day, [part], this.as_of,
                                    this.settings.pii))  # fmt: skip
        if end_of(day) + this.settings.settle <= made_by:
            whole += 1
            for source in _sources(this, product, account, here):
                _enter(this, source, day, request_id, here)
        else:
            this.hole(day, f"{file.name} was made before it had settled: it is not taken as whole")
        counts = {name: counts.get(name, 0) + here.get(name, 0) for name in {*counts, *here}}
    this.store.save(this.ledger)
    entry = Imported(file, product, first, end - DAY, whole, counts, rejects, taken.new_columns)
    this.note("imports", {
        "file": file.name, "request_id": request_id, "product": product, "first": str(first),
        "last": str(entry.last), "whole": whole, "records": counts, "rejects": rejects,
        "new_columns": taken.new_columns,
    })  # fmt: skip
    return entry


def _digest(file: Path) -> str:
    digest = hashlib.sha256()
    try:
        with file.open("rb") as content:
            while block := content.read(BLOCK):
                digest.update(block)
    except OSError as error:
        raise InputError(f"{file} cannot be read: {trouble(error)}") from None
    return digest.hexdigest()


def _told_at(this: Run, file: Path, target: Path) -> datetime:
    """When the report was made at the earliest: by its ZIP, else its last moment; at most as_of.

    Whether a message that is not final is asked for again goes by it, and which state is newer. A
    bare file's own time would only say when it was copied.
    """
    times = _times_in(file)
    if not times:
        query = f"SELECT epoch_ms(m) FROM ({parse.last_moment(target)}) AS t(m)"
        [ms] = this.con.con.execute(query).fetchone() or (None,)
        times = [datetime.fromtimestamp(ms / 1000, UTC)] if ms is not None else []
    return min([*times, this.as_of])


def _made_by(file: Path, as_of: datetime) -> datetime:
    """When the report was made at the latest: by its ZIP, else by its file; at most as_of."""
    times = _times_in(file) or [datetime.fromtimestamp(file.stat().st_mtime, UTC)]
    return min([*times, as_of])


def _times_in(file: Path) -> list[datetime]:
    """The times of a ZIP's members; none if it was written without a clock, or is no ZIP."""
    if not zipfile.is_zipfile(file):
        return []
    with zipfile.ZipFile(file) as archive, suppress(ValueError):
        return [datetime(*member.date_time, tzinfo=UTC) for member in archive.infolist()]
    return []


def _product(this: Run, target: Path) -> str:
    """MESSAGES where rows name a channel, else SMS."""
    if "provider" not in raw.columns_of(target):
        return "SMS"
    query = f"SELECT count(nullif(provider, '')) FROM read_parquet({quote(str(target))})"
    found = this.con.con.execute(query).fetchone()
    return "MESSAGES" if found and found[0] else "SMS"


def _account(this: Run, target: Path, file: Path) -> str:
    """Whose the records are that name no account: the only one that is ours."""
    ours = sorted({source.account_id for source in sources_of(this.settings, this.ledger)})
    if len(ours) == 1:
        return ours[0]
    names = "account_id" in raw.columns_of(target)
    query = f"SELECT min(account_id) FROM read_parquet({quote(str(target))}) WHERE account_id <> ''"
    found = this.con.con.execute(query).fetchone() if names else None
    if not found or not found[0]:
        raise UsageError(f"{file} does not say whose records it holds: name --account-id")
    return str(found[0])


def _count(this: Run, part: Part, day: date) -> dict[str, int]:
    records = part.records(day, "drop", all_lie_in=keep.all_lie_in(this.con, part, day))
    query = f"SELECT account_id, count(*) FROM ({records}) GROUP BY ALL"
    return dict(this.con.con.execute(query).fetchall())


def _sources(this: Run, product: str, account: str, here: dict[str, int]) -> list[Source]:
    """The sources of which a day is here now; one with subaccounts takes all of them."""
    ours = [s for s in sources_of(this.settings, this.ledger) if s.product == product]
    together = [source for source in ours if source.subaccounts]
    return together or [Source(name, product) for name in sorted(here or {account: 0})]


def _enter(this: Run, source: Source, day: date, request_id: str, here: dict[str, int]) -> None:
    if is_whole(this.ledger, source, day):
        return
    records = sum(here.values()) if source.subaccounts else here.get(source.account_id, 0)
    this.ledger.downloads.append({
        "account_id": source.account_id, "product": source.product, "start": iso(start_of(day)),
        "end": iso(end_of(day)), "via": VIA, "request_id": request_id, "records": records,
        "billed": 0, "rejects": 0, "as_of": iso(this.as_of),
        **({"subaccounts": True} if source.subaccounts else {}),
    })  # fmt: skip
