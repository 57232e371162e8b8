"""Verifies the signatures of captured receipts: an SMS DLR's `sig`, a Messages API status's JWT.

Source: Vonage's guides on signing messages and on signed webhooks. A signature shows that whoever
sent a receipt knew the account's secret. Where a capture did not keep all that was signed, nobody
can tell: `unverifiable`, never `invalid`.
"""

from __future__ import annotations

import hashlib
import hmac
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc

if TYPE_CHECKING:
    from jwt import PyJWS

METHODS = ("md5hash", "md5", "sha1", "sha256", "sha512")
VALID, INVALID, UNSIGNED, UNVERIFIABLE = "valid", "invalid", "unsigned", "unverifiable"
# A DLR's parameters under Vonage's names, in the order in which they are signed.
SIGNED = {
    "api-key": "api_key", "client-ref": "client_ref", "err-code": "err_code",
    "message-timestamp": "message_timestamp", "messageId": "message_id", "msisdn": "msisdn",
    "network-code": "network_code", "nonce": "nonce", "price": "price", "scts": "scts",
    "status": "status", "timestamp": "timestamp", "to": "to",
}  # fmt: skip
# What an Authorization header holds besides its scheme; other schemes are of the webhook's own.
TOKEN = r"(?i)^(?:bearer\s+)?(?P<token>\S+)$"  # noqa: S105 - a pattern
# Bytes that were no UTF-8 when a capture was written or read.
LOST = "\ufffd"


@dataclass(frozen=True)
class Secret:
    """What an account signs with."""

    method: str
    secret: str = field(repr=False)

    @property
    def key(self) -> bytes:
        """The secret's bytes, also where the environment holds no UTF-8."""
        return self.secret.encode("utf-8", "surrogateescape")


Secrets = Mapping[str, Secret]  # by account; "" for receipts that name none


def canonical(params: Mapping[str, str]) -> str:
    """What is signed of these parameters (decoded; `sig` is left out).

    Names are tamed like values, as Vonage's own SDK does: else one name could hold a pair.
    """
    return "".join(f"&{_tame(k)}={_tame(v)}" for k, v in sorted(params.items()) if k != "sig")


def digest(base: str, secret: Secret) -> str:
    """The signature of what `canonical` returns, in lower case."""
    return _digest(base.encode("utf-8", "surrogatepass"), secret.method, secret.key)


def verify(fields: pa.Table, secrets: Secrets) -> pa.Array:
    """`valid`, `invalid`, `unsigned` or `unverifiable` for each row of raw fields (`SCHEMA`)."""
    is_status = pc.not_equal(pc.fill_null(fields["message_uuid"], ""), "")
    proof = _whole(pc.if_else(is_status, _token(fields["authorization"]), _told(fields["sig"])))
    signed = pc.is_valid(proof)
    found = pc.if_else(signed, UNVERIFIABLE, UNSIGNED)
    if not secrets:
        return found
    for own, told in ((pc.invert(is_status), _dlrs), (is_status, _statuses)):
        mine = _whole(pc.and_(own, signed))
        if pc.any(mine).as_py():
            rows = told(fields.filter(mine), proof.filter(mine), secrets)
            found = pc.replace_with_mask(found, mine, pa.array(rows, pa.string()))
    return found


def _dlrs(rows: pa.Table, sigs: pa.Array, secrets: Secrets) -> list[str]:
    """Of DLRs that have a signature."""
    keys = {account: (secret.method, secret.key) for account, secret in secrets.items()}
    known = [keys.get(account or "") for account in rows["api_key"].to_pylist()]
    theirs = pc.cast(pc.ascii_lower(sigs), pa.binary()).to_pylist()
    bases = _bases(rows)
    signed = pc.cast(bases, pa.binary()).to_pylist()
    good = [
        own is not None and hmac.compare_digest(_digest(base, *own).encode(), sig)
        for own, base, sig in zip(known, signed, theirs, strict=True)
    ]
    kept = pc.and_(rows["exact"], pc.invert(pc.match_substring(bases, LOST)))
    found = [
        VALID if ok else INVALID if own and whole else UNVERIFIABLE
        for ok, own, whole in zip(good, known, kept.to_pylist(), strict=True)
    ]
    bad = pa.array([bool(own) and not ok for ok, own in zip(good, known, strict=True)])
    if pc.any(bad).as_py():
        _try_again(found, _whole(pc.and_(bad, _may_be_other(rows))), rows, theirs, secrets)
    return found


def _try_again(
    found: list[str], again: pa.Array, rows: pa.Table, theirs: list[bytes], secrets: Secrets
) -> None:
    """Looks at these rows one by one: their senders may have signed other parameters."""
    few = rows.filter(again).select([*SIGNED.values(), "from", "extra"]).to_pylist()
    for n, row in zip(pc.indices_nonzero(again).to_pylist(), few, strict=True):
        secret = secrets[row["api_key"] or ""]
        bases = [canonical(params) for params in _variants(row)]
        ours = (digest(base, secret).encode() for base in bases)
        if any(hmac.compare_digest(each, theirs[n]) for each in ours):
            found[n] = VALID
        elif any(LOST in base for base in bases):
            found[n] = UNVERIFIABLE


def _may_be_other(rows: pa.Table) -> pa.Array:
    """Which DLRs have parameters besides a receipt's, or blank ones."""
    found = pc.or_(pc.is_valid(rows["extra"]), pc.is_valid(rows["from"]))
    for name in SIGNED.values():
        blank = pc.equal(pc.utf8_trim_whitespace(rows[name]), "")
        found = pc.or_(found, pc.fill_null(blank, fill_value=False))
    return found


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


def _variants(row: Mapping[str, Any]) -> Iterator[dict[str, str]]:
    """What else a DLR's sender may have signed than its own parameters.

    Those of the callback's URL, or that we do not know, as well; and none that is blank: Vonage's
    Java SDK leaves these out on both sides. A value that is not blank is signed in each.
    """
    own = {name: row[of] for name, of in SIGNED.items() if row[of] is not None}
    more = _extra(row["extra"]) | ({"from": row["from"]} if row["from"] is not None else {})
    for params in (own, more | own) if more else (own,):
        yield params
        yield {name: value for name, value in params.items() if value.strip()}


def _extra(text: str | None) -> dict[str, str]:
    """Parameters in a JSON object: numbers as they are written, without what is nested."""
    try:
        found = json.loads(text or "{}", parse_int=str, parse_float=str)
    except (ValueError, RecursionError):
        return {}
    pairs = found.items() if isinstance(found, dict) else ()
    return {name: value for name, value in pairs if isinstance(value, str)}


def _statuses(rows: pa.Table, tokens: pa.Array, secrets: Secrets) -> list[str]:
    """Of statuses that have a JWT."""
    import jwt

    jws = jwt.PyJWS()
    return [
        UNVERIFIABLE if body is None else _status(token, body, secrets, jws)
        for token, body in zip(tokens.to_pylist(), rows["body"].to_pylist(), strict=True)
    ]


def _status(token: str, body: str, secrets: Secrets, jws: PyJWS) -> str:
    """A JWT (HS256) that holds the digest of the body; its age is not asked, captures are old."""
    import jwt

    try:
        claims = jwt.decode(token, options={"verify_signature": False})
        account = claims.get("api_key", "")
        secret = secrets.get(account) if isinstance(account, str) else None
        if secret is None:
            return UNVERIFIABLE
        # HMAC fills up a short key with NULs itself; PyJWT would warn of it on each run.
        jws.decode(token, secret.key.ljust(32, b"\0"), algorithms=["HS256"])
    except (jwt.PyJWTError, ValueError, RecursionError):
        return INVALID
    ours = hashlib.sha256(body.encode()).hexdigest().encode()
    theirs = str(claims.get("payload_hash")).lower().encode("utf-8", "surrogatepass")
    if hmac.compare_digest(ours, theirs):
        return VALID
    return UNVERIFIABLE if LOST in body else INVALID


def _digest(base: bytes, method: str, key: bytes) -> str:
    if method == "md5hash":
        return hashlib.md5(base + key, usedforsecurity=False).hexdigest()
    return hmac.digest(key, base, method).hex()


def _token(header: pa.ChunkedArray) -> pa.ChunkedArray:
    """The token of Authorization headers; null where they have none."""
    return pc.struct_field(pc.extract_regex(_told(header), TOKEN), "token")


def _told(values: pa.ChunkedArray) -> pa.ChunkedArray:
    """Trimmed; null where a log has written that there is none."""
    trimmed = pc.utf8_trim_whitespace(values)
    return pc.if_else(pc.is_in(trimmed, pa.array(["", "-"])), pa.scalar(None, pa.string()), trimmed)


def _whole(column: pa.Array | pa.ChunkedArray) -> pa.Array:
    return column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column


def _tame(text: str) -> str:
    return text.replace("&", "_").replace("=", "_")
