"""Signatures: the public vectors, what makes one wrong, and what nobody can tell."""

from __future__ import annotations

import hashlib
import json
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import jwt
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from reconcile.errors import SettingsError
from reconcile.receipts import fields
from reconcile.receipts.signature import METHODS, Secret, canonical, digest, verify
from reconcile.settings import Settings, load

# Vonage's own example, with its digests.
VECTOR = {
    "message-timestamp": "2013-11-21 15:27:30", "messageId": "020000001B0FE827",
    "msisdn": "14843472194", "text": "Test again", "timestamp": "1385047698", "to": "13239877404",
    "type": "text",
}  # fmt: skip
KEY = "my_secret_key_for_testing"
DIGESTS = {
    "md5hash": ("d2e7b1dc968737c5998ad624e02f90b7", ""),
    "md5": ("DDEBD46008C2D4E93CCE578A332A52D5", ""),
    "sha1": ("27D0D05C2876C7CB1720DBCDBA4D492E1E55C09A", ""),
    "sha256": ("DDB8397C2B90AAC7F3882D306475C9A5058C92322EEF43C92B298B6E0FC0D330", ""),
    "sha512": ("E0D3C650", "FE82"),
}
RECEIPT = {
    "message_id": "0A0000001234567B", "status": "delivered", "api_key": "5a4d0b0e", "to": "A&B=C",
    "client_ref": "ref", "msisdn": "447700900000", "network_code": "23410", "err_code": "0",
    "price": "0.03330000", "message_timestamp": "2026-01-05 10:00:00", "scts": "2601051000",
    "timestamp": "1767607200", "nonce": "ec11dd3e",
}  # fmt: skip
NAMES = {
    "message_id": "messageId", "api_key": "api-key", "client_ref": "client-ref",
    "network_code": "network-code", "err_code": "err-code",
    "message_timestamp": "message-timestamp",
}  # fmt: skip
SECRETS = {"5a4d0b0e": Secret("sha256", KEY)}
LONG = "a_secret_of_more_than_thirty_two_bytes"
LONG_SECRETS = {"5a4d0b0e": Secret("sha256", LONG)}
UUID = "aaaaaaaa-bbbb-cccc-dddd-0123456789ab"
BODY = json.dumps({"message_uuid": UUID, "status": "delivered", "channel": "sms"})


def params(receipt: dict[str, str]) -> dict[str, str]:
    return {NAMES.get(name, name): value for name, value in receipt.items()}


def signed(receipt: dict[str, str], secret: Secret = SECRETS["5a4d0b0e"]) -> dict[str, Any]:
    return receipt | {"sig": digest(canonical(params(receipt)), secret), "exact": True}


def verdict(row: dict[str, Any], secrets: dict[str, Secret] | None = None) -> str:
    columns = [pa.array([row.get(f.name)], f.type) for f in fields.SCHEMA]
    found = verify(pa.table(columns, schema=fields.SCHEMA), SECRETS if secrets is None else secrets)
    return str(found.to_pylist()[0])


@pytest.mark.parametrize("method", METHODS)
def test_public_vectors(method: str) -> None:
    """The example of Vonage's guide has the digests that the guide gives."""
    start, end = DIGESTS[method]
    found = digest(canonical(VECTOR), Secret(method, KEY)).upper()
    assert (found.startswith(start.upper()), found.endswith(end)) == (True, True)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("case", [str.upper, str.lower])
def test_valid(method: str, case: Callable[[str], str]) -> None:
    """Each method is verified, in either case."""
    secret = Secret(method, KEY)
    row = signed(RECEIPT, secret)
    assert verdict(row | {"sig": case(row["sig"])}, {"5a4d0b0e": secret}) == "valid"


@pytest.mark.parametrize("name", [name for name in RECEIPT if name != "api_key"])
def test_each_field_is_signed(name: str) -> None:
    """A changed value makes it invalid; so does one that is gone."""
    row = signed(RECEIPT)
    assert verdict(row | {name: row[name] + "0"}) == "invalid"
    assert verdict(row | {name: None}) == "invalid"


def test_what_is_absent_is_not_signed() -> None:
    """Optional fields that never were there leave it valid; one that is empty is signed as such."""
    few = {name: RECEIPT[name] for name in ("message_id", "status", "api_key")}
    assert verdict(signed(few)) == "valid"
    assert verdict(signed(few | {"client_ref": ""})) == "valid"


def test_what_nobody_can_tell() -> None:
    """Without a secret, or where the capture changed what was signed, it is no fault of anybody."""
    row = signed(RECEIPT)
    assert verdict(row, {}) == "unverifiable"
    assert verdict(row, {"other": SECRETS["5a4d0b0e"]}) == "unverifiable"
    assert verdict(row | {"price": "0.0333", "exact": False}) == "unverifiable"
    assert verdict(row | {"exact": False}) == "valid"
    assert verdict(RECEIPT) == "unsigned"


def test_parameters_of_ones_own() -> None:
    """A callback URL may have parameters of its own, which are signed too."""
    own = params(RECEIPT) | {"token": "x y"}
    row = RECEIPT | {"sig": digest(canonical(own), SECRETS["5a4d0b0e"]), "exact": True}
    assert verdict(row) == "invalid"
    assert verdict(row | {"extra": json.dumps({"token": "x y"})}) == "valid"


@given(st.dictionaries(st.sampled_from(sorted(RECEIPT)), st.text(max_size=8)), st.data())
def test_any_change_shows(changes: dict[str, str], data: st.DataObject) -> None:
    """Whatever is signed is valid, and one other character makes it invalid."""
    receipt = {k: v for k, v in (RECEIPT | changes).items() if k != "api_key"}
    receipt["api_key"] = "5a4d0b0e"
    row = signed({k: v.encode("utf-8", "replace").decode() for k, v in receipt.items()})
    assert verdict(row) == "valid"
    name = data.draw(st.sampled_from([n for n in RECEIPT if n != "api_key"]))
    assert verdict(row | {name: row[name] + "x"}) == "invalid"


def token(body: str = BODY, key: str = LONG, algorithm: str = "HS256", **claims: Any) -> str:
    payload_hash = hashlib.sha256(body.encode()).hexdigest()
    told = {"iss": "Vonage", "iat": 1, "payload_hash": payload_hash, "api_key": "5a4d0b0e"}
    return "Bearer " + jwt.encode(told | claims, key, algorithm)


with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    SHORT = token(key=KEY)
    SHORTER_HASH = token(algorithm="HS512")


@pytest.mark.parametrize(
    ("row", "wanted"),
    [
        ({"authorization": token(), "body": BODY}, "valid"),
        ({"authorization": token(exp=2), "body": BODY}, "valid"),
        ({"authorization": token(), "body": BODY.replace("delivered", "rejected")}, "invalid"),
        ({"authorization": token(key="another_key_that_is_long_enough_"), "body": BODY}, "invalid"),
        ({"authorization": "Bearer nonsense", "body": BODY}, "invalid"),
        ({"authorization": SHORTER_HASH, "body": BODY}, "invalid"),
        ({"authorization": token(), "body": None}, "unverifiable"),
        ({"authorization": token(api_key="other"), "body": BODY}, "unverifiable"),
        ({"authorization": None, "body": BODY}, "unsigned"),
    ],
)
def test_statuses_of_the_messages_api(row: dict[str, Any], wanted: str) -> None:
    """A JWT that holds the digest of the body as it was captured; how old it is does not matter."""
    assert verdict({"message_uuid": UUID, "status": "delivered"} | row, LONG_SECRETS) == wanted


def test_no_algorithm_is_no_signature() -> None:
    """A token that says it needs no signature has none."""
    forged = jwt.encode({"api_key": "5a4d0b0e", "payload_hash": "x"}, None, "none")
    row = {"message_uuid": UUID, "status": "delivered", "authorization": forged, "body": BODY}
    assert verdict(row, LONG_SECRETS) == "invalid"


def test_a_short_secret_is_no_warning(recwarn: pytest.WarningsRecorder) -> None:
    """Vonage's secrets may be short; nobody is told so every night."""
    recwarn.clear()
    row = {"message_uuid": UUID, "status": "delivered", "authorization": SHORT, "body": BODY}
    assert verdict(row) == "valid"
    assert not recwarn


def test_the_secret_never_shows() -> None:
    """Neither in a repr."""
    assert KEY not in repr(Secret("md5", KEY))


def settings(tmp_path: Path, text: str) -> Settings:
    file = tmp_path / "reconcile.toml"
    file.write_text(text)
    return load(file)


def test_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One secret from the environment for the one account, or one an account."""
    monkeypatch.setenv("VONAGE_API_KEY", "abcd1234")
    monkeypatch.setenv("VONAGE_SIGNATURE_SECRET", KEY)
    found = settings(tmp_path, 'signature_method = "sha1"').signature_secrets()
    assert found == {"abcd1234": ("sha1", KEY), "": ("sha1", KEY)}
    (tmp_path / "secret").write_text("of a file\n")
    several = settings(
        tmp_path,
        f"""
        [[accounts]]
        api_key = "abcd1234"
        signature_method = "md5"
        signature_secret_file = "{tmp_path}/secret"
        [[accounts]]
        api_key = "efgh5678"
    """,
    ).signature_secrets()
    assert several == {"abcd1234": ("md5", "of a file")}


def test_a_method_without_its_secret(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It says where to put it."""
    monkeypatch.delenv("VONAGE_SIGNATURE_SECRET", raising=False)
    with pytest.raises(SettingsError, match="VONAGE_SIGNATURE_SECRET is not set"):
        settings(tmp_path, 'signature_method = "sha1"').signature_secrets()
    entry = '[[accounts]]\napi_key = "abcd1234"\nsignature_method = "md5"'
    with pytest.raises(SettingsError, match="signature_secret_file"):
        settings(tmp_path, entry).signature_secrets()


def test_a_query_keeps_what_was_signed() -> None:
    """From a captured GET to a valid signature, percent escapes and all."""
    from reconcile.receipts.query_fields import from_queries

    own = params(RECEIPT)
    query = urlencode(own | {"sig": digest(canonical(own), SECRETS["5a4d0b0e"])})
    found = from_queries(pa.array([query])).to_pylist()[0]
    assert verdict(found | {"exact": True}) == "valid"
