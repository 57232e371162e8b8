"""Verdicts → summary tables. Pure: expressions in, expressions out, every row in a fixed order."""

from __future__ import annotations

import re
from typing import Any

import ibis
from ibis import _

from reconcile import vocabulary as words
from reconcile.moments import Moment, instant
from reconcile.tables import (
    CAMPAIGNS,
    ERROR_CODES,
    GROUP,
    PERCENTILES,
    REASONS,
    SUMMARY,
    one_of,
    small_table,
)
from reconcile.vocabulary import RULES_VERSION
from reconcile.wilson import wilson

MISSING_REASONS = (
    "lost_webhook", "carrier_silent", "platform_expired", "unattributed", "capture_outage",
)  # fmt: skip
NAMES = ("country_name", "network_name")
NONE = "none"


def summary(
    verdicts: ibis.Table, orphans: ibis.Table, day: ibis.Table, networks: ibis.Table,
    as_of: Moment, currency: str,
) -> ibis.Table:  # fmt: skip
    """One row an account × country × network code × currency of a day.

    Args:
        verdicts: the day's `verdicts`.
        orphans: the `orphans` of the day's receipts; each counts in its own network's row.
        day: one row: `date`, and `is_closed`: whether everything in it was mature at as_of.
        networks: `network_verdict` of each country and network code.
        as_of: up to when things were known.
        currency: what to call money that names no currency (for rows with orphans alone).
    """
    keys = [name for name in GROUP if name != "date"]
    alone = {"orphans": _zero(), "uncovered": _zero(), "foreign_orphans": _zero()}
    both = _messages(verdicts, keys, NAMES, alone).union(_orphans(orphans, currency))
    counts = [name for name in both.columns if name not in (*GROUP, *NAMES)]
    grouped = both.group_by(keys).agg(
        **{name: _[name].max() for name in NAMES},
        **{name: _[name].max() if name.startswith("latency") else _[name].sum() for name in counts},
    )
    return (
        _rated(grouped)
        .cross_join(day.select("date", "is_closed"))
        .left_join(networks, ["country", "network_code"])
        .mutate(
            as_of=instant(as_of),
            rules_version=ibis.literal(RULES_VERSION),
        )
        .select(SUMMARY.names)
        .order_by(keys)
    )


def campaigns(verdicts: ibis.Table, day: ibis.Table, pattern: str) -> ibis.Table:
    """One row an account × campaign × currency of a day.

    Args:
        verdicts, day: as for `summary`.
        pattern: a regular expression whose group `campaign` is in `client_ref`.
    """
    group = re.compile(pattern).groupindex["campaign"]
    named = _.client_ref.re_extract(pattern, group).nullif("").fill_null(words.UNKNOWN)
    keys = ["account_id", "campaign", "currency"]
    return (
        _rated(_messages(verdicts.mutate(campaign=named), keys, (), {}))
        .cross_join(day.select("date"))
        .select(CAMPAIGNS.names)
        .order_by(keys)
    )


def reasons(verdicts: ibis.Table, day: ibis.Table, context: tuple[str, ...]) -> ibis.Table:
    """One row more for each verdict and reason; `none` stands where a message has no reason."""
    keys = [name for name in GROUP if name != "date"]
    once = verdicts.group_by([*keys, "verdict", "reasons"]).agg(
        n=_.count(), cost=_spent(), **{name: _[name].max() for name in NAMES}
    )
    each = once.unnest("reasons", offset="at", keep_empty=True)
    return (
        each.mutate(reason=_.reasons.fill_null(NONE), first=_["at"].fill_null(0) == 0)
        .group_by([*keys, "verdict", "reason"])
        .agg(
            **{name: _[name].max() for name in NAMES},
            messages=_.n.sum(),
            messages_first=_.n.sum(where=_.first).fill_null(0),
            spend=_.cost.sum(),
        )
        .cross_join(day.select("date"))
        .mutate(is_context=_.reason.isin(context))
        .select(REASONS.names)
        .order_by([*keys, "verdict", "reason"])
    )


def error_codes(verdicts: ibis.Table, day: ibis.Table) -> ibis.Table:
    """One row a status and err-code of the deciding receipts; messages without one are left out."""
    keys = [name for name in GROUP if name != "date"]
    told = {code: fact.meaning for code, fact in words.ERROR_CODES.items()}
    meanings = small_table(told, "_code", "meaning")
    return (
        verdicts.filter(_.receipt_status.notnull())
        .mutate(receipt_error_code=_.receipt_error_code.fill_null(words.UNKNOWN))
        .group_by([*keys, "receipt_status", "receipt_error_code"])
        .agg(**{name: _[name].max() for name in NAMES}, messages=_.count(), spend=_spent())
        .left_join(meanings, [("receipt_error_code", "_code")])
        .cross_join(day.select("date"))
        .select(ERROR_CODES.names)
        .order_by([*keys, "receipt_status", "receipt_error_code"])
    )


def _rated(counted: ibis.Table) -> ibis.Table:
    told = _.messages - _.pending - _.not_expected
    return counted.mutate(
        **rates("missing", _.missing - _.missing_capture_outage, told - _.missing_capture_outage),
        **rates("unknown", _.unknown, told),
        **rates("suspect", _.suspect, told),
    )


def _messages(
    verdicts: ibis.Table, keys: list[str], names: tuple[str, ...], alone: dict[str, ibis.Value]
) -> ibis.Table:
    """Counts and money of messages by `keys`; `alone`: what only receipts without a record have."""
    end = ibis.coalesce(_ended(_.record_status), _ended(_.receipt_status))
    first = _.reasons[0]
    return (
        verdicts.mutate(end=end, first=first)
        .group_by(keys)
        .agg(
            **{name: _[name].max() for name in names},
            messages=_.count(),
            **{name: _.count(where=_.verdict == name) for name in words.VERDICTS},
            **{
                f"missing_{reason}": _.count(where=(_.verdict == "missing") & (_.first == reason))
                for reason in MISSING_REASONS
            },
            delivered=_.count(where=_.end.isin(("delivered", "read"))),
            failed=_.count(where=_.end.isin(("failed", "rejected", "undeliverable", "deleted"))),
            expired=_.count(where=_.end == "expired"),
            **alone,
            receipts=_.receipts.sum().cast("int64"),
            duplicate_receipts=_.duplicates.sum().cast("int64"),
            latencies=_.latency_ms.quantile(
                [p / 100 for p in PERCENTILES], where=_.end.isin(("delivered", "read"))
            ),
            spend=_spent(),
            spend_unconfirmed=_spent(_.verdict.isin(("missing", "unknown", "suspect"))),
        )
        .mutate(
            **{
                f"latency_p{p}_ms": _.latencies[n].round().cast("int64")
                for n, p in enumerate(PERCENTILES)
            }
        )
        .drop("latencies")
    )


def _orphans(orphans: ibis.Table, currency: str) -> ibis.Table:
    counted = (
        orphans.mutate(
            account_id=_.account_id.fill_null(words.UNKNOWN),
            network_code=_.network_code.fill_null(words.UNKNOWN),
            currency=ibis.literal(currency),
        )
        .group_by([name for name in GROUP if name != "date"])
        .agg(
            n=_.count(),
            uncovered=_.count(where=_.kind == "uncovered"),
            foreign=_.count(where=_.kind == "foreign_account"),
        )
    )
    money = ibis.literal(0).cast("decimal(38, 8)")
    zeros = ("messages", *words.VERDICTS, *(f"missing_{r}" for r in MISSING_REASONS),
             "delivered", "failed", "expired")  # fmt: skip
    return counted.select(
        *[name for name in GROUP if name != "date"],
        **{name: ibis.null(str) for name in NAMES},
        **{name: _zero() for name in zeros},
        orphans=_.n - _.uncovered,
        uncovered=_.uncovered,
        foreign_orphans=_.foreign,
        receipts=_.n,
        duplicate_receipts=_zero(),
        spend=money,
        spend_unconfirmed=money,
        **{f"latency_p{p}_ms": ibis.null("int64") for p in PERCENTILES},
    )


def rates(name: str, k: Any, n: Any) -> dict[str, Any]:
    """A rate with its Wilson 95 % interval; null where there is nothing to divide."""
    size = ibis.ifelse(n > 0, n, ibis.null("int64")).cast("float64")
    share = k.cast("float64") / size
    low, high = wilson(share, size, lambda square: square.sqrt())
    # Rounding may leave the ends a hair outside; no share is below 0 or above 1.
    return {
        f"{name}_rate": share,
        f"{name}_rate_low": ibis.ifelse(k > 0, low, size * 0),
        f"{name}_rate_high": ibis.ifelse(k < n, high, size * 0 + 1),
    }


def _ended(status: Any) -> Any:
    return ibis.ifelse(one_of(status, words.DEFINITE), status, ibis.null(str))


def _spent(where: Any = None) -> Any:
    return _.record_price.sum(where=where).fill_null(0).cast("decimal(38, 8)")


def _zero() -> ibis.Value:
    return ibis.literal(0, "int64")
