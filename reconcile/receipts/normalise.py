"""Raw fields → receipts, or a reject with its reason; every line that is not blank is one of both.

The name trap is closed here: in a DLR `msisdn` is the handset and becomes `recipient`, `to` is the
sender. Source: Vonage's SMS API reference, delivery receipt.
"""

from __future__ import annotations

from reconcile import border
from reconcile.engine import quote
from reconcile.receipts.formats import FIELDS

UNREADABLE, NOT_A_RECEIPT = "unreadable", "not_a_receipt"
UNDATED = "undated"


def lines(fields: str, source: str, pii: str) -> str:
    """SQL of the lines that are not blank: the columns of `receipts`, then `day`, `kind`, `reason`.

    A receipt has the `day` of the partition that it belongs to, and no kind; a reject has a kind
    and a reason, and nothing else is to be read of it.

    Args:
        fields: the name of a relation with the columns of `formats.SCHEMA`.
        source: the capture they come from.
        pii: what becomes of recipients.
    """
    return f"""
        SELECT * EXCLUDE (problem, reason),
            CASE WHEN reason IS NULL THEN coalesce(
                {border.day("coalesce(pushed_at, captured_at)")}, '{UNDATED}') END AS day,
            CASE WHEN problem IS NOT NULL THEN '{UNREADABLE}'
                 WHEN reason IS NOT NULL THEN '{NOT_A_RECEIPT}' END AS kind,
            reason
        FROM (
            SELECT {border.message_id("message_id")} AS message_id,
                api_key AS account_id,
                'SMS' AS product,
                client_ref,
                "to" AS sender,
                {border.recipient("msisdn", pii)} AS recipient,
                network_code,
                lower(status) AS status,
                err_code AS error_code,
                {border.money("price")} AS price,
                {border.instant("message_timestamp")} AS pushed_at,
                scts,
                {border.instant_or_epoch("captured_at")} AS captured_at,
                {quote(source)} AS source,
                line,
                CASE WHEN sig IS NULL THEN 'unsigned' ELSE 'unverifiable' END AS signature,
                problem,
                CASE WHEN problem IS NOT NULL THEN problem
                     WHEN message_id IS NULL THEN 'it has no message id'
                     WHEN status IS NULL THEN 'it has no status, so it is no receipt' END AS reason
            FROM (SELECT line, problem, {border.text_columns(FIELDS)}
                  FROM {fields} WHERE NOT blank)
        )
    """  # noqa: S608 - built from our own names, the source quoted
