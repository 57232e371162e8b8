"""A raw slice → records, or rejects with their reasons.

The name trap is closed here: a row's `to` is the handset and becomes `recipient`, its `from`
becomes `sender`.
"""

# ruff: noqa: S608 - SQL is put together from names of our own; texts of others are quoted

from __future__ import annotations

from datetime import datetime
from pathlib import Path

from reconcile import border
from reconcile.days import Window, iso
from reconcile.engine import quote
from reconcile.reports import raw as raw_slices
from reconcile.reports.raw import KNOWN, LINE, PROBLEM
from reconcile.vocabulary import UNKNOWN

# The one channel that is reconciled; rows of the product SMS have none.
SMS_CHANNEL = "sms"


def records(
    raw: Path, product: str, account_id: str, window: Window | None, fetched_at: datetime,
    pii: str, among: str | None = None,
) -> str:  # fmt: skip
    """SQL of the rows of a raw slice that are records of a window, and of their `_line` in it.

    Rows that share an id are all there: which of them stays is for `keep` to say.

    Args:
        raw: the slice.
        product, account_id: what its rows are of; an account that a row names counts more.
        window: what the records must lie in; None where `all_lie_in` says that they do.
        fetched_at: when they were as the slice shows them.
        pii: what becomes of recipients.
        among: a table of keys; only rows that have one of them.
    """
    rows = _cleaned(raw)
    if among:
        rows += f" SEMI JOIN {among} ON {among}.key = {key('message_id')}"
    rows += f" WHERE {PROBLEM} IS NULL AND message_id IS NOT NULL AND {_is_sms('provider')}"
    records = _normalised(rows, product, account_id, fetched_at, pii)
    # The engine would read each time twice: once to ask where it lies, once for the column.
    return (
        f"SELECT * FROM ({records}) WHERE {_lies_in('received_at', window)}" if window else records
    )


def all_lie_in(raw: Path, window: Window) -> str:
    """SQL of whether each row of a raw slice has a time, in a window; quick, as few differ."""
    received = border.instant(border.text("date_received"))
    times = f"SELECT DISTINCT date_received FROM {_rows(raw)}"
    return f"SELECT coalesce(bool_and({_lies_in(received, window)}), true) FROM ({times})"


def rejects(raw: Path, asked: Window, source: str) -> str:
    """SQL of the rows of a raw slice that can be records of no window, each with its reason.

    Args:
        raw: the slice.
        asked: the whole span that was asked for; a row outside of it is a reject.
        source: what the rejects name as their source.
    """
    return f"""
        SELECT {quote(source)} AS source, {LINE} AS line,
            CASE WHEN well_formed AND NOT is_sms
                 THEN 'other_channel' ELSE 'malformed_record' END AS kind,
            CASE WHEN problem IS NOT NULL THEN problem
                 WHEN message_id IS NULL THEN 'it has no message_id'
                 WHEN received_at IS NULL THEN 'its date_received is no time'
                 WHEN NOT is_sms THEN 'it went by ' || channel || ', and only sms is reconciled'
                 ELSE 'its date_received lies outside of the days asked for' END AS reason
        FROM (
            SELECT *, {_is_sms("channel")} AS is_sms,
                problem IS NULL AND message_id IS NOT NULL AND received_at IS NOT NULL
                    AS well_formed
            FROM (
                SELECT {LINE}, {PROBLEM} AS problem, message_id, lower(provider) AS channel,
                    {border.instant("date_received")} AS received_at
                FROM ({_cleaned(raw)})
            )
        )
        WHERE NOT (well_formed AND is_sms AND {_lies_in("received_at", asked)})
    """


def days(raw: Path) -> str:
    """SQL of the UTC days of a raw slice's rows, as dates in order; null where a row has no time.

    A condition on the day would be read by the engine before the times are made few.
    """
    received = border.instant(border.text("date_received"))
    return f"""
        SELECT DISTINCT make_timestamp(epoch_us({received}))::DATE AS day
        FROM (SELECT DISTINCT date_received FROM {_rows(raw)}) ORDER BY day
    """


def last_moment(raw: Path) -> str:
    """SQL of the last moment that a raw slice's rows name."""
    named = ("date_received", "date_finalized")
    present = [name for name in named if name in raw_slices.columns_of(raw)]
    moments = [f"max({border.instant(border.text(name))})" for name in present]
    return f"SELECT greatest({', '.join([*moments, 'NULL::TIMESTAMPTZ'])}) FROM {_rows(raw)}"


def keys(raw: Path) -> str:
    """SQL of the `key` of each row of a raw slice."""
    return f"SELECT {key('message_id')} AS key FROM ({_cleaned(raw)})"


def key(message_id: str) -> str:
    """SQL of a number that stands for a message id, be it normalised yet or not."""
    return f"hash(upper({message_id}))"


def _is_sms(provider: str) -> str:
    return f"coalesce(lower({provider}) = {quote(SMS_CHANNEL)}, true)"


def _lies_in(moment: str, window: Window) -> str:
    return (
        f"coalesce({moment} >= TIMESTAMPTZ '{iso(window.start)}' "
        f"AND {moment} < TIMESTAMPTZ '{iso(window.end)}', false)"
    )


def _cleaned(raw: Path) -> str:
    """SQL of a raw slice as cleaned text: every known column, null where the slice has none."""
    present = raw_slices.columns_of(raw)
    absent = [f'NULL::VARCHAR AS "{name}"' for name in KNOWN if name not in present]
    texts = border.text_columns(name for name in KNOWN if name in present)
    columns = ", ".join(filter(None, [texts, *absent]))
    return f"SELECT * FROM (SELECT {LINE}, {PROBLEM}, {columns} FROM {_rows(raw)})"


def _rows(raw: Path) -> str:
    return f"read_parquet({quote(str(raw))}, hive_partitioning = false)"


def _normalised(rows: str, product: str, account_id: str, fetched_at: datetime, pii: str) -> str:
    return f"""
        SELECT {border.message_id("message_id")} AS message_id,
            id AS record_id,
            {quote(product)} AS product,
            coalesce(account_id, {quote(account_id)}) AS account_id,
            client_ref,
            "from" AS sender,
            coalesce(changed_from, forced_from) AS sender_used,
            {border.recipient('"to"', pii)} AS recipient,
            coalesce(upper(country), {quote(UNKNOWN)}) AS country,
            country_name,
            coalesce(network, {quote(UNKNOWN)}) AS network_code,
            network_name,
            {border.instant("date_received")} AS received_at,
            {border.instant("date_finalized")} AS finalized_at,
            {border.whole("latency")} AS latency_ms,
            lower(status) AS status,
            error_code,
            {border.money("coalesce(total_price, price, estimated_price)")} AS price,
            currency,
            {border.flag("concatenated")} AS concatenated,
            CASE WHEN {border.whole("validity_period")} > 0
                 THEN {border.whole("validity_period")} END AS validity_ms,
            TIMESTAMPTZ '{iso(fetched_at)}' AS fetched_at,
            {LINE}
        FROM ({rows})
    """
