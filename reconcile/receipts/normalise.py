"""Raw fields → receipts, or a reject with its reason; every line that is not blank is one of both.

The name trap is closed here: in a DLR `msisdn` is the handset and becomes `recipient`, `to` is the
sender. Source: Vonage's SMS API reference, delivery receipt.
"""

from __future__ import annotations

from reconcile import border
from reconcile.engine import quote

UNREADABLE, NOT_A_RECEIPT = "unreadable", "not_a_receipt"
UNDATED = "undated"


def receipts(fields: str, source: str, pii: str) -> str:
    """SQL of the receipts among raw fields, with the `day` of the partition each belongs to.

    Args:
        fields: the name of a relation with the columns of `formats.SCHEMA`.
        source: the capture they come from.
        pii: what becomes of recipients.
    """
    t = border.text
    return f"""
        SELECT *, coalesce(strftime(coalesce(pushed_at, captured_at)::TIMESTAMP, '%Y-%m-%d'),
                           '{UNDATED}') AS day
        FROM (
            SELECT {border.message_id("message_id")} AS message_id,
                {t("api_key")} AS account_id,
                'SMS' AS product,
                {t("client_ref")} AS client_ref,
                {t('"to"')} AS sender,
                {border.recipient("msisdn", pii)} AS recipient,
                {t("network_code")} AS network_code,
                {border.lower("status")} AS status,
                {t("err_code")} AS error_code,
                {border.money("price")} AS price,
                {border.instant("message_timestamp")} AS pushed_at,
                {t("scts")} AS scts,
                {border.instant_or_epoch("captured_at")} AS captured_at,
                {quote(source)} AS source,
                line,
                CASE WHEN {t("sig")} IS NULL THEN 'unsigned' ELSE 'unverifiable' END AS signature
            FROM {fields} WHERE NOT blank AND ({_refused()}) IS NULL
        )
    """  # noqa: S608 - built from our own names, the source quoted


def rejects(fields: str, source: str) -> str:
    """SQL of the lines that are no receipts, each with its kind and reason."""
    return f"""
        SELECT {quote(source)} AS source, line,
            CASE WHEN problem IS NULL THEN '{NOT_A_RECEIPT}' ELSE '{UNREADABLE}' END AS kind,
            {_refused()} AS reason
        FROM {fields} WHERE NOT blank AND ({_refused()}) IS NOT NULL
    """  # noqa: S608 - built from our own names, the source quoted


def _refused() -> str:
    """Why a line is no receipt; null where it is one."""
    return f"""
        CASE WHEN problem IS NOT NULL THEN problem
             WHEN {border.text("message_id")} IS NULL THEN 'it has no message id'
             WHEN {border.text("status")} IS NULL THEN 'it has no status, so it is no receipt' END
    """
