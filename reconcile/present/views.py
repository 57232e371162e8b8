"""Published summaries → the small frames that are shown: sums over days, with their intervals."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import date
from typing import TYPE_CHECKING, Any

from reconcile.store import Store, parquet_query, read_query
from reconcile.tables import ERROR_CODES, REASONS, SUMMARY
from reconcile.vocabulary import VERDICTS

if TYPE_CHECKING:
    import pandas as pd
    from ibis.backends.duckdb import Backend

VIEWS = {
    "network": (SUMMARY, ("country", "network_code")),
    "country": (SUMMARY, ("country",)),
    "day": (SUMMARY, ("date",)),
    "reason": (REASONS, ("verdict", "reason")),
    "error-code": (ERROR_CODES, ("receipt_status", "receipt_error_code")),
}
COUNTS = ("messages", *VERDICTS)
MONEY = ("spend", "spend_unconfirmed")


def view(store: Store, con: Backend, by: str, days: Iterable[date | str], worst: int | None) -> Any:
    """A pandas frame, one row a group, the worst first: most missing, unknown and suspect."""
    table, keys = VIEWS[by]
    files = [path for path in (store.path(table, day) for day in days) if path.exists()]
    if not files:
        return None
    rows = read_query(con, table, parquet_query(table, files))
    frame = _summary(con, rows, keys) if table is SUMMARY else _counts(con, rows, keys)
    return frame.head(worst) if worst else frame


def _summary(con: Backend, rows: Any, keys: tuple[str, ...]) -> pd.DataFrame:
    from ibis import _

    from reconcile.summarise import rates

    # Money of several currencies is never added up.
    named = ("country_name", "network_name")[: len(keys)] if "country" in keys else ()
    grouped = rows.group_by([*keys, "currency"]).agg(
        **{name: _[name].max() for name in named},
        **{name: _[name].sum() for name in (*COUNTS, "missing_capture_outage", *MONEY)},
    )
    told = _.messages - _.pending - _.not_expected
    heard = _.missing_capture_outage
    rated = grouped.mutate(
        **rates("missing", _.missing - heard, told - heard),
        **rates("unknown", _.unknown, told),
        **rates("suspect", _.suspect, told),
        unconfirmed=_.missing + _.unknown + _.suspect,
    )
    order = [_.date] if keys == ("date",) else [_.unconfirmed.desc(), *keys, "currency"]
    return _frame(con, rated.order_by(order).drop("missing_capture_outage"))


def _counts(con: Backend, rows: Any, keys: tuple[str, ...]) -> pd.DataFrame:
    from ibis import _

    extra = {"meaning": _.meaning.max()} if "meaning" in rows.columns else {}
    return _frame(
        con,
        rows.group_by([*keys, "currency"])
        .agg(**extra, messages=_.messages.sum(), spend=_.spend.sum())
        .order_by([_.messages.desc(), *keys, "currency"]),
    )


def _frame(con: Backend, rows: Any) -> pd.DataFrame:
    frame: pd.DataFrame = con.to_pyarrow(rows).to_pandas(date_as_object=True)
    return frame
