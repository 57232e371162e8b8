"""Raw slices → the store: of each message the newest state stays, of each bad row its reason."""

from __future__ import annotations

from datetime import date, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from reconcile.days import iso
from reconcile.reports import parse
from reconcile.reports.slices import Fetched, Slice
from reconcile.store import Ledger, Staged, Store
from reconcile.tables import RECORDS, REJECTS

if TYPE_CHECKING:
    from ibis.backends.duckdb import Backend


def take_in(
    store: Store, con: Backend, ledger: Ledger, fetched: Fetched, as_of: datetime, pii: str,
    *, fetched_at: datetime | None = None,
) -> int:  # fmt: skip
    """Merges a fetched slice into `records`, enters it in the ledger, and drops its files.

    Args:
        store, con, ledger: where to.
        fetched: the slice.
        as_of: the run's.
        pii: what becomes of recipients.
        fetched_at: the as_of of the run that began to fetch it, where that was an earlier one.

    Returns:
        How many of its rows were no records.
    """
    part = fetched.slice
    bad_rows = publish(store, con, part, fetched.raw, as_of, pii, fetched_at=fetched_at)
    ledger.downloads.append(
        {"account_id": part.account_id, "product": part.product, "start": iso(part.window.start),
         "end": iso(part.window.end), "via": fetched.via, "request_id": fetched.request_id,
         "records": fetched.rows - bad_rows, "billed": fetched.billed, "rejects": bad_rows,
         "as_of": iso(as_of)}
    )  # fmt: skip
    store.save(ledger)
    for path in fetched.raw.parent.glob(f"{part.name}.*"):
        path.unlink()
    return bad_rows


def publish(
    store: Store, con: Backend, part: Slice, raw: Path, as_of: datetime, pii: str,
    by: str = "reports", *, fetched_at: datetime | None = None,
) -> int:  # fmt: skip
    """Puts what a raw slice holds into `records` and `rejects`; returns how many are rejects."""
    args = (raw, part.product, part.account_id, part.window, fetched_at or as_of, pii)
    staged = [merge(store, con, part.day, parse.records(*args), as_of)]
    bad = parse.rejects(*args, by)
    found = con.con.execute(f"SELECT count(*) FROM ({bad})").fetchone()  # noqa: S608 - built from our own names only
    bad_rows = int(found[0]) if found else 0
    if bad_rows:
        rows = f"""
            SELECT * FROM ({store.query(REJECTS, [as_of.date()])})
            WHERE source NOT IN (SELECT source FROM ({bad}))
            UNION ALL SELECT * FROM ({bad}) ORDER BY source, line
        """  # noqa: S608 - built from our own names only
        staged.append(store.write(con, rows, REJECTS, as_of.date(), as_of))
    store.publish(staged)
    return bad_rows


def merge(store: Store, con: Backend, day: date, fresh: str, as_of: datetime) -> Staged:
    """Stages a day's records with fresh ones (SQL): of one key the newest state stays."""
    columns = ", ".join(RECORDS.names)
    rows = f"""
        SELECT {columns} FROM (({store.query(RECORDS, [day])}) UNION ALL BY NAME ({fresh}))
        QUALIFY row_number() OVER (
            PARTITION BY {", ".join(RECORDS.key)}
            ORDER BY fetched_at DESC, finalized_at DESC NULLS LAST
        ) = 1
        ORDER BY account_id, message_id
    """  # noqa: S608 - built from our own names only
    return store.write(con, rows, RECORDS, day, as_of)
