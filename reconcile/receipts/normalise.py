"""Raw fields → receipts, or a reject with its reason; every line that is not blank is one of both.

The name trap is closed here: in a DLR `msisdn` is the handset and becomes `recipient`, `to` is the
sender; in a status of the Messages API `to` is the handset. Source: Vonage's references of the SMS
API, delivery receipt, and of the Messages API, message status.
"""

# ruff: noqa: S608 - SQL is put together from names of our own; texts of others are quoted

from __future__ import annotations

from collections.abc import Collection

from reconcile import border
from reconcile.engine import quote
from reconcile.receipts.fields import FIELDS, NO_ID, NO_STATUS, UNREADABLE, stranger

UNDATED = "undated"


def lines(fields: str, given: Collection[str], source: str, pii: str) -> str:
    """SQL of the lines that are not blank: the columns of `receipts`, then `day`, `kind`, `reason`.

    A receipt has the `day` of the partition that it belongs to, and no kind; a reject has a kind
    and a reason, and nothing else is to be read of it.

    Args:
        fields: the name of a relation with the columns of `fields.SCHEMA`.
        given: those of its columns that hold anything.
        source: the capture they come from.
        pii: what becomes of recipients.
    """
    messages = "message_uuid" in given
    kind, problem = stranger("other_channel")
    clean = [name for name in FIELDS if name in given]
    other = "lower(channel) <> 'sms'" if "channel" in given else "false"
    columns = ", ".join(
        f"{value} AS {name}" for name, value in _columns(set(given), pii, messages=messages).items()
    )
    return f"""
        SELECT * EXCLUDE (problem, reason, own_kind, is_other),
            CASE WHEN reason IS NULL THEN coalesce(
                {border.day("coalesce(pushed_at, captured_at)")}, '{UNDATED}') END AS day,
            CASE WHEN own_kind IS NOT NULL THEN own_kind
                 WHEN problem IS NOT NULL THEN '{UNREADABLE}'
                 WHEN is_other THEN {quote(kind)}
                 WHEN reason IS NOT NULL THEN '{UNREADABLE}' END AS kind,
            reason
        FROM (SELECT *,
            CASE WHEN problem IS NOT NULL THEN problem
                 WHEN is_other THEN {quote(problem)}
                 WHEN message_id IS NULL THEN {quote(NO_ID)}
                 WHEN status IS NULL THEN {quote(NO_STATUS)} END AS reason
            FROM (
            SELECT {columns}, {quote(source)} AS source, line, signature,
                problem, kind AS own_kind, coalesce({other}, false) AS is_other
            FROM (SELECT line, problem, kind, signature, {_cleaned(clean)}
                  FROM {fields} WHERE NOT blank)))
    """


def _columns(given: set[str], pii: str, *, messages: bool) -> dict[str, str]:
    """The columns of `receipts` that a line itself holds, as SQL of its cleaned fields."""

    def of(name: str) -> str:
        return f'"{name}"' if name in given else "NULL::VARCHAR"

    def either(sms: str, status: str) -> str:
        """SQL that differs between a DLR and a status of the Messages API."""
        return f"CASE WHEN message_uuid IS NULL THEN {sms} ELSE {status} END" if messages else sms

    identity = f"coalesce({of('message_id')}, {of('message_uuid')})"
    title = f"CASE WHEN regexp_full_match({of('error_title')}, '[0-9]+') THEN error_title END"
    kind = f"nullif(regexp_extract({of('error_type')}, '#([0-9]+)$', 1), '')"
    recipient = either(of("msisdn"), of("to"))
    return {
        "message_id": border.message_id(identity if messages else of("message_id")),
        "account_id": of("api_key"),
        "product": either("'SMS'", "'MESSAGES'"),
        "client_ref": of("client_ref"),
        "sender": either(of("to"), of("from")),
        "recipient": border.recipient(recipient, pii),
        "network_code": of("network_code"),
        "status": f"lower({of('status')})",
        "error_code": either(
            of("err_code"), f"coalesce({title if 'error_title' in given else 'NULL'}, {kind})"
        ),
        "price": border.money("price") if "price" in given else "NULL::DECIMAL(18, 8)",
        "pushed_at": either(
            border.instant(of("message_timestamp")), border.instant_or_epoch(of("timestamp"))
        ),
        "scts": of("scts"),
        "captured_at": border.captured(of("captured_at")),
    }


def _cleaned(names: Collection[str]) -> str:
    missing = [n for n in ("message_id", "status") if n not in names]
    none = "".join(f', NULL::VARCHAR AS "{name}"' for name in missing)
    return (border.text_columns(names) if names else "1 AS nothing") + none
