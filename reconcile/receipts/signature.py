"""Verifies the signatures of captured receipts: an SMS DLR's `sig`, a Messages API status's JWT.

Source: Vonage's guides on signing messages and on signed webhooks. A signature shows that whoever
sent a receipt knew the account's secret. Where a capture did not keep all that was signed, nobody
can tell: `unverifiable`, never `invalid`.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

import pyarrow as pa
import pyarrow.compute as pc

Method = Literal["md5hash", "md5", "sha1", "sha256", "sha512"]
METHODS: tuple[str, ...] = get_args(Method)
VALID, INVALID, UNSIGNED, UNVERIFIABLE = "valid", "invalid", "unsigned", "unverifiable"
# A DLR's parameters under Vonage's names, in the order in which they are signed.
SIGNED = {
    "api-key": "api_key", "client-ref": "client_ref", "err-code": "err_code",
    "message-timestamp": "message_timestamp", "messageId": "message_id", "msisdn": "msisdn",
    "network-code": "network_code", "nonce": "nonce", "price": "price", "scts": "scts",
    "status": "status", "timestamp": "timestamp", "to": "to",
}  # fmt: skip


@dataclass(frozen=True)
class Secret:
    """What an account signs with."""

    method: str
    secret: str = field(repr=False)


Secrets = Mapping[str, Secret]  # by account; "" for receipts that name none


def canonical(params: Mapping[str, str]) -> str:
    """What is signed of these parameters (decoded; `sig` is left out)."""
    return "".join(f"&{k}={_tame(v)}" for k, v in sorted(params.items()) if k != "sig")


def digest(base: str, secret: Secret) -> str:
    """The signature of what `canonical` returns, in lower case."""
    text, key = base.encode(), secret.secret.encode()
    if secret.method == "md5hash":
        return hashlib.md5(text + key, usedforsecurity=False).hexdigest()
    return hmac.digest(key, text, secret.method).hex()


def verify(fields: pa.Table, secrets: Secrets) -> pa.Array:
    """`valid`, `invalid`, `unsigned` or `unverifiable` for each row of raw fields (`SCHEMA`)."""
    is_status = pc.is_valid(fields["message_uuid"])
    signed = pc.if_else(is_status, pc.is_valid(fields["authorization"]), pc.is_valid(fields["sig"]))
    told = pc.if_else(signed, UNVERIFIABLE, UNSIGNED)
    if not secrets or not pc.any(signed).as_py():
        return told
    rows = fields.filter(signed)
    with warnings.catch_warnings():
        # Vonage's secrets may be shorter than what PyJWT recommends: no fault of who runs this.
        warnings.simplefilter("ignore")
        found = _looked_at(rows, secrets)
    return pc.replace_with_mask(_whole(told), _whole(signed), found)


def _looked_at(rows: pa.Table, secrets: Secrets) -> pa.Array:
    return pa.array(
        [_status(row, secrets) if row["message_uuid"] else _dlr(row, base, secrets)
         for row, base in zip(_rows(rows), _bases(rows).to_pylist(), strict=True)], pa.string(),
    )  # fmt: skip


def _whole(column: pa.Array | pa.ChunkedArray) -> pa.Array:
    return column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column


def _rows(rows: pa.Table) -> Any:
    names = ["message_uuid", "api_key", "sig", "exact", "extra", "authorization", "body"]
    columns = [rows[name].to_pylist() for name in names]
    return (dict(zip(names, values, strict=True)) for values in zip(*columns, strict=True))


def _bases(rows: pa.Table) -> pa.Array:
    """What a DLR's own parameters sign, as a column."""
    parts = []
    for name, of in SIGNED.items():
        value = rows[of]
        for char in "&=":
            value = pc.replace_substring(value, char, "_")
        pair = pc.binary_join_element_wise(f"&{name}=", value, "")
        parts.append(pc.fill_null(pair, ""))
    return pc.binary_join_element_wise(*parts, "")


def _dlr(row: dict[str, Any], base: str, secrets: Secrets) -> str:
    secret = secrets.get(row["api_key"] or "")
    if secret is None:
        return UNVERIFIABLE
    if _same(digest(base, secret), row["sig"]):
        return VALID
    if row["extra"] and _same(digest(_with(base, row["extra"]), secret), row["sig"]):
        return VALID
    return INVALID if row["exact"] else UNVERIFIABLE


def _with(base: str, extra: str) -> str:
    """What is signed where the payload has parameters besides a receipt's."""
    own = dict(pair.split("=", 1) for pair in base.split("&")[1:])
    more = {name: str(value) for name, value in json.loads(extra).items()}
    return canonical(more | own)


def _status(row: dict[str, Any], secrets: Secrets) -> str:
    """A status of the Messages API: a JWT (HS256) that holds the digest of the body."""
    import jwt

    if row["body"] is None:
        return UNVERIFIABLE
    token = row["authorization"].strip().removeprefix("Bearer").strip()
    try:
        named = jwt.decode(token, options={"verify_signature": False}).get("api_key")
        secret = secrets.get(named or "")
        if secret is None:
            return UNVERIFIABLE
        claims = jwt.decode(
            token, secret.secret, algorithms=["HS256"],
            # A capture may be read long after: only who sent it is asked, not when.
            options={"verify_exp": False, "verify_iat": False, "verify_nbf": False,
                     "verify_aud": False},
        )  # fmt: skip
    except jwt.PyJWTError:
        return INVALID
    body = hashlib.sha256(row["body"].encode()).hexdigest()
    return VALID if _same(body, str(claims.get("payload_hash", ""))) else INVALID


def _same(ours: str, theirs: str) -> bool:
    return hmac.compare_digest(ours.lower().encode(), theirs.strip().lower().encode())


def _tame(value: str) -> str:
    return value.replace("&", "_").replace("=", "_")
