"""A raw slice → records, or rejects with their reasons.

The name trap is closed here: a row's `to` is the handset and becomes `recipient`, its `from`
becomes `sender`.
"""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

from reconcile import border
from reconcile.days import Window, iso
from reconcile.engine import quote
from reconcile.reports.raw import KNOWN


def records(
    raw: Path, product: str, account_id: str, window: Window, as_of: datetime, pii: str
) -> str:
    """SQL of the records of a raw slice; of rows with one id the one finalised last."""
    return f"""
        SELECT * EXCLUDE (_line, _problem)
        FROM ({_normalised(raw, product, account_id, as_of, pii)})
        WHERE {_good(window)}
        QUALIFY row_number() OVER (
            PARTITION BY account_id, message_id ORDER BY finalized_at DESC NULLS LAST, _line
        ) = 1
    """  # noqa: S608 - built from our own names only


def rejects(
    raw: Path, product: str, account_id: str, window: Window, as_of: datetime, pii: str,
    by: str = "reports",
) -> str:  # fmt: skip
    """SQL of the rows of a raw slice that are no records of its window, each with its reason.

    Args:
        raw, product, account_id, window, as_of, pii: as for `records`.
        by: how the slice came, the first word of the rejects' source.
    """
    source = quote(f"{by}:{product}:{account_id}:{iso(window.start)}")
    return f"""
        SELECT {source} AS source, _line AS line, 'malformed_record' AS kind,
            CASE WHEN _problem IS NOT NULL THEN _problem
                 WHEN message_id IS NULL THEN 'it has no message_id'
                 WHEN received_at IS NULL THEN 'its date_received is no time'
                 ELSE 'its date_received lies outside of the days asked for' END AS reason
        FROM ({_normalised(raw, product, account_id, as_of, pii)})
        WHERE ({_good(window)}) IS NOT TRUE
    """  # noqa: S608 - built from our own names only


def _good(window: Window) -> str:
    return (
        f"message_id IS NOT NULL AND received_at >= TIMESTAMPTZ '{iso(window.start)}' "
        f"AND received_at < TIMESTAMPTZ '{iso(window.end)}'"
    )


def _normalised(raw: Path, product: str, account_id: str, as_of: datetime, pii: str) -> str:
    return f"""
        SELECT {border.message_id("message_id")} AS message_id,
            id AS record_id,
            {quote(product)} AS product,
            coalesce(account_id, {quote(account_id)}) AS account_id,
            client_ref,
            "from" AS sender,
            coalesce(changed_from, forced_from) AS sender_used,
            {border.recipient('"to"', pii)} AS recipient,
            coalesce(upper(country), 'unknown') AS country,
            country_name,
            coalesce(network, 'unknown') AS network_code,
            network_name,
            {border.instant("date_received")} AS received_at,
            {border.instant("date_finalized")} AS finalized_at,
            {border.whole("latency")} AS latency_ms,
            lower(status) AS status,
            error_code,
            {border.money("coalesce(total_price, price)")} AS price,
            currency,
            {border.flag("concatenated")} AS concatenated,
            CASE WHEN {border.whole("validity_period")} > 0
                 THEN {border.whole("validity_period")} END AS validity_ms,
            TIMESTAMPTZ '{iso(as_of)}' AS fetched_at,
            _line, _problem
        FROM (SELECT _line, _problem, {border.text_columns(KNOWN)}
              FROM read_parquet({quote(str(raw))}))
    """  # noqa: S608 - built from our own names only
