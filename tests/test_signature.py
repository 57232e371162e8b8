"""Signatures of captured receipts: Vonage's public vector, and what may not pass for it."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from pathlib import Path
from typing import Any

import jwt
import pyarrow as pa
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from reconcile.errors import SettingsError
from reconcile.receipts import signature
from reconcile.receipts.fields import SCHEMA
from reconcile.receipts.signature import METHODS, SIGNED, Secret, canonical, digest, verify

# ../shared/VONAGE.md: an inbound message, by the rules of which DLRs are signed as well.
VECTOR = {
    "message-timestamp": "2013-11-21 15:27:30", "messageId": "020000001B0FE827",
    "msisdn": "14843472194", "text": "Test again", "timestamp": "1385047698",
    "to": "13239877404", "type": "text",
}  # fmt: skip
VECTOR_SECRET = "my_secret_key_for_testing"
DLR = {
    "api-key": "5a4d0b0e", "client-ref": "order 7", "err-code": "0",
    "message-timestamp": "2026-01-05 10:00:04", "messageId": "0C000000217B7F02",
    "msisdn": "447700900000", "network-code": "23410", "nonce": "a7f1", "price": "0.03330000",
    "scts": "2601051000", "status": "delivered", "timestamp": "1767607204", "to": "Rent-a-Bike",
}  # fmt: skip
OWN = Secret("md5hash", "a secret for tests only")
SECRETS = {"5a4d0b0e": OWN}
LONG = "a secret for tests only, of 32 letters and more"
BODY = '{"message_uuid": "aaaaaaaa-bbbb", "status": "delivered", "to": "447700900000"}'


def table(*rows: dict[str, Any]) -> pa.Table:
    """Raw fields; what a row does not give is null, but it is exact."""
    full = [dict.fromkeys(SCHEMA.names) | {"exact": True} | row for row in rows]
    return pa.Table.from_pylist(full, SCHEMA)


def told(*rows: dict[str, Any], secrets: dict[str, Secret] | None = None) -> list[str]:
    """What is told of rows of raw fields."""
    return verify(table(*rows), SECRETS if secrets is None else secrets).to_pylist()


def row(params: dict[str, str], sig: str | None = None, **more: Any) -> dict[str, Any]:
    """Raw fields of parameters, signed by their sender."""
    names = SIGNED | {"from": "from"}
    known = {names[name]: value for name, value in params.items() if name in names}
    others = {name: value for name, value in params.items() if name not in names}
    given = known | {"extra": json.dumps(others) if others else None}
    return given | {"sig": digest(canonical(params), OWN) if sig is None else sig} | more


def token(key: str = LONG, algorithm: str | None = "HS256", **claims: Any) -> str:
    """A JWT as Vonage's webhooks have it."""
    given = {
        "iat": 1_767_607_204, "jti": "1", "iss": "Vonage", "api_key": "5a4d0b0e",
        "payload_hash": hashlib.sha256(BODY.encode()).hexdigest(),
    } | claims  # fmt: skip
    given = {name: value for name, value in given.items() if value is not None}
    return jwt.encode(given, key if algorithm == "HS256" else "", algorithm)


def status(authorization: str | None, body: str | None = BODY) -> dict[str, Any]:
    return {"message_uuid": "aaaaaaaa-bbbb", "status": "delivered", "body": body,
            "authorization": authorization}  # fmt: skip


def judged(authorization: str | None, body: str | None = BODY, secret: str = LONG) -> str:
    """What is told of one status."""
    [found] = told(status(authorization, body), secrets={"5a4d0b0e": Secret("sha256", secret)})
    return found


def part(value: Any) -> str:
    """A segment of a JWT."""
    text = value if isinstance(value, bytes) else json.dumps(value).encode()
    return base64.urlsafe_b64encode(text).decode().rstrip("=")


def by_hand(header: dict[str, Any], claims: Any, key: bytes) -> str:
    """A JWT that no library would make."""
    signed = f"{part(header)}.{part(claims)}"
    return f"{signed}.{part(hmac.digest(key, signed.encode(), 'sha256'))}"


@pytest.mark.parametrize(
    ("method", "first", "last"),
    [
        ("md5hash", "d2e7b1dc968737c5998ad624e02f90b7", ""),
        ("md5", "DDEBD46008C2D4E93CCE578A332A52D5", ""),
        ("sha1", "27D0D05C2876C7CB1720DBCDBA4D492E1E55C09A", ""),
        ("sha256", "DDB8397C2B90AAC7F3882D306475C9A5058C92322EEF43C92B298B6E0FC0D330", ""),
        ("sha512", "E0D3C650", "FE82"),
    ],
)
def test_public_vector(method: str, first: str, last: str) -> None:
    """Vonage's own example comes out for each method, also through what readers make of it."""
    secret = Secret(method, VECTOR_SECRET)
    found = digest(canonical(VECTOR), secret).upper()
    assert found.startswith(first.upper())
    assert found.endswith(last)
    assert last or found == first.upper()
    for sig in (found, found.lower()):
        assert told(row(VECTOR, sig), secrets={"": secret}) == ["valid"]


def test_canonical() -> None:
    """By name, `sig` left out, & and = replaced."""
    assert canonical({"b": "x&y=z", "sig": "1", "a": ""}) == "&a=&b=x_y_z"
    assert digest("&a=\ud800", OWN) != digest("&a=?", OWN)


def test_signed_in_order() -> None:
    """The columns are joined in the order in which names are sorted."""
    assert list(SIGNED) == sorted(SIGNED)
    assert set(SIGNED.values()) <= set(SCHEMA.names)
    own = {name: value for name, value in DLR.items() if name != "nonce"}
    assert signature._bases(table(row(own))).to_pylist() == [canonical(own)]


@pytest.mark.parametrize("method", METHODS)
def test_each_method(method: str) -> None:
    """A DLR signed by one method is valid by this and by no other."""
    sig = digest(canonical(DLR), Secret(method, "one"))
    for other in METHODS:
        wanted = "valid" if other == method else "invalid"
        assert told(row(DLR, sig), secrets={"5a4d0b0e": Secret(other, "one")}) == [wanted]


@pytest.mark.parametrize("name", DLR)
def test_tampering(name: str) -> None:
    """A parameter that was changed, removed or blanked, whichever it is."""
    secrets = dict.fromkeys(("5a4d0b0e", "", "5a4d0b0f"), OWN)
    sig = digest(canonical(DLR), OWN)
    without = {n: v for n, v in DLR.items() if n != name}
    for params in (DLR | {name: "5a4d0b0f"}, without, DLR | {name: ""}):
        assert told(row(params, sig), secrets=secrets) == ["invalid"]
    assert told(row(DLR, sig), secrets=secrets) == ["valid"]


def test_absent_parameters() -> None:
    """Vonage leaves out what it does not know; then it is not signed."""
    for name in set(DLR) - {"messageId", "status", "api-key"}:
        params = {n: v for n, v in DLR.items() if n != name}
        assert told(row(params), row(params, digest(canonical(DLR), OWN))) == ["valid", "invalid"]


@pytest.mark.parametrize("blank", ["", " "])
def test_blank_parameters(blank: str) -> None:
    """A blank parameter may be signed or left out: Vonage's SDKs do either."""
    params = DLR | {"client-ref": blank, "nonce": blank}
    kept = {name: value for name, value in DLR.items() if name not in ("client-ref", "nonce")}
    assert told(row(params), row(params, digest(canonical(kept), OWN))) == ["valid", "valid"]
    assert told(row(params | {"status": "failed"}, digest(canonical(kept), OWN))) == ["invalid"]


def test_secret_of_another() -> None:
    """A wrong secret makes it invalid; none for its account, unverifiable."""
    other = Secret("md5hash", "another secret")
    assert told(row(DLR), secrets={"5a4d0b0e": other}) == ["invalid"]
    assert told(row(DLR), secrets={"": OWN, "other": OWN}) == ["unverifiable"]
    assert told(row(DLR), secrets={}) == ["unverifiable"]


def test_account_of_none() -> None:
    """A receipt that names no account has the default secret, if there is one."""
    params = {name: value for name, value in DLR.items() if name != "api-key"}
    assert told(row(params), secrets={"": OWN}) == ["valid"]
    assert told(row(params)) == ["unverifiable"]


@pytest.mark.parametrize("sig", [None, "", " ", "-"])
def test_unsigned(sig: str | None) -> None:
    """Logs write nothing, or a dash, where there is no signature."""
    for secrets in (SECRETS, {}):
        assert told(row(DLR) | {"sig": sig}, secrets=secrets) == ["unsigned"]


@pytest.mark.parametrize("sig", ["0", "é", "\0", "d" * 32, "x" * 100_000])
def test_no_signature_at_all(sig: str) -> None:
    """What is no digest is an invalid one."""
    assert told(row(DLR, sig)) == ["invalid"]


def test_spelling_of_a_signature() -> None:
    """Vonage's SDKs write digests in upper and in lower case."""
    sig = digest(canonical(DLR), OWN)
    assert told(row(DLR, sig.upper()), row(DLR, f" {sig}\n")) == ["valid", "valid"]


def test_ampersand_and_equals_sign() -> None:
    """They are signed as _, and cannot make a parameter of a part of another."""
    params = DLR | {"client-ref": "a=1&err-code=9"}
    assert told(row(params)) == ["valid"]
    joined = {name: value for name, value in DLR.items() if name not in ("err-code", "client-ref")}
    forged = joined | {"client-ref=order 7&err-code": "0"}
    assert told(row(forged, digest(canonical(DLR), OWN))) == ["invalid"]


def test_columns_and_numbers() -> None:
    """Where a capture did not keep values as they came, they may do, but none is a forger."""
    assert told(row(DLR, exact=False)) == ["valid"]
    changed = DLR | {"price": "0.0333"}
    assert told(row(changed, digest(canonical(DLR), OWN), exact=False)) == ["unverifiable"]
    assert told(row(changed, digest(canonical(DLR), OWN), exact=None)) == ["unverifiable"]


@pytest.mark.parametrize("where", ["client-ref", "tenant", "from"])
def test_bytes_that_were_lost(where: str) -> None:
    """A value that was no UTF-8 when it was read cannot be verified any more."""
    sent, read = DLR | {where: "caf\u00e9"}, DLR | {where: "caf\ufffd"}
    assert told(row(read, digest(canonical(sent), OWN))) == ["unverifiable"]


def test_extra() -> None:
    """Parameters of the callback's own URL may be signed, or added by whoever captured it."""
    with_own = DLR | {"tenant": "42", "a&b": "1", "zone": "eu"}
    sig = digest(canonical(DLR), OWN)
    assert told(row(with_own), row(with_own, sig)) == ["valid", "valid"]
    other = row(with_own) | {"extra": '{"tenant": "43", "a&b": "1", "zone": "eu"}'}
    assert told(other, row(with_own | {"status": "failed"}, sig)) == ["invalid", "invalid"]
    assert told(row(DLR | {"from": "shop"})) == ["valid"]


def test_extra_is_the_whole_payload() -> None:
    """Numbers count as they are written; a receipt's own parameters count as its columns say."""
    sig = digest(canonical(DLR | {"n": "1.50", "big": "1" * 5000}), OWN)
    whole = json.dumps(DLR | {"sig": sig, "status": "failed", "none": None, "deep": {"a": "b"}})
    text = f'{whole[:-1]}, "n": 1.50, "big": {"1" * 5000}}}'
    assert told(row(DLR, sig, extra=text)) == ["valid"]


@pytest.mark.parametrize(
    "extra", ["", "no JSON", "[1]", "null", "[" * 100_000, '{"a": "\\ud800"}', '{"\\ud800": "a"}']
)
def test_extra_that_is_none(extra: str) -> None:
    """Whatever stands there, a signature is verified, and nothing is raised."""
    assert told(row(DLR, extra=extra), row(DLR, "00", extra=extra)) == ["valid", "invalid"]


def test_rows_stay_in_order() -> None:
    """Each row is told by itself, in tables of any chunks."""
    secrets = {"5a4d0b0e": Secret("md5hash", LONG)}
    good = row(DLR, digest(canonical(DLR), secrets["5a4d0b0e"]))
    rows = [good, row(DLR, "00"), status(f"Bearer {token()}"), good | {"sig": None},
            status(None), row(DLR, "00", exact=False), {}, good]  # fmt: skip
    wanted = ["valid", "invalid", "valid", "unsigned", "unsigned", "unverifiable", "unsigned",
              "valid"]  # fmt: skip
    chunked = pa.concat_tables([table(each) for each in rows])
    assert told(*rows, secrets=secrets) == wanted
    assert verify(chunked, secrets).to_pylist() == wanted
    for known in (secrets, {}):
        assert verify(SCHEMA.empty_table(), known).to_pylist() == []


@pytest.mark.parametrize("prefix", ["Bearer ", "bearer ", "BEARER  ", "", " Bearer "])
def test_jwt(prefix: str) -> None:
    """A token with the digest of the body, under any spelling of its scheme."""
    assert judged(prefix + token()) == "valid"
    hashed = hashlib.sha256(BODY.encode()).hexdigest().upper()
    assert judged(prefix + token(payload_hash=hashed)) == "valid"


@pytest.mark.parametrize("header", [None, "", "-", "Basic dXNlcjpwYXNz", 'Digest username="a"'])
def test_no_jwt(header: str | None) -> None:
    """A status without one, or whose webhook has a password of its own, is unsigned."""
    assert judged(header) == judged(header, None) == "unsigned"


def test_body_that_was_not_kept() -> None:
    """What is signed is the body's digest: without the body nobody can tell."""
    assert judged(f"Bearer {token()}", None) == "unverifiable"
    sent = BODY.replace("delivered", "d\u00e9livr\u00e9")
    hashed = hashlib.sha256(sent.encode("latin-1")).hexdigest()
    read = sent.encode("latin-1").decode("utf-8", "replace")
    assert judged(token(payload_hash=hashed), read) == "unverifiable"


@pytest.mark.parametrize(
    "body", [BODY.replace("delivered", "rejected"), BODY + " ", BODY.replace(" ", ""), ""]
)
def test_body_that_was_changed(body: str) -> None:
    """The digest is of the body's bytes, not of what they mean."""
    assert judged(token(), body) == "invalid"


@pytest.mark.parametrize("told_hash", [None, "", "0" * 64, 7, [], "\ud800"])
def test_digest_of_another_body(told_hash: Any) -> None:
    """A token of another body, or of none, says nothing of this one."""
    assert judged(token(payload_hash=told_hash)) == "invalid"


def test_jwt_of_another_secret() -> None:
    """Signed with another secret; by an account that is not known; by one that it does not name."""
    assert judged(token(LONG + "!")) == "invalid"
    assert judged(token(api_key="other")) == "unverifiable"
    assert judged(token(api_key=["5a4d0b0e"])) == "unverifiable"
    secrets = {"": Secret("md5hash", LONG)}
    assert told(status(token(api_key=None)), secrets=secrets) == ["valid"]
    assert told(status(token()), secrets=secrets) == ["unverifiable"]


def test_jwt_whose_time_has_passed() -> None:
    """A capture is old, and clocks differ: only who sent it is asked."""
    assert judged(token(exp=1, iat=9_999_999_999, nbf=9_999_999_999, aud="x")) == "valid"


def test_short_secret() -> None:
    """A secret shorter than a JWT's should be verifies, and nobody is warned."""
    sent = by_hand({"alg": "HS256"}, {"api_key": "5a4d0b0e", "payload_hash":
                   hashlib.sha256(BODY.encode()).hexdigest()}, b"short")  # fmt: skip
    assert judged(sent, secret="short") == "valid"
    assert judged(sent, secret="short!") == "invalid"


HS256 = part({"alg": "HS256"})
CLAIMS = {"api_key": "5a4d0b0e", "payload_hash": hashlib.sha256(BODY.encode()).hexdigest()}


@pytest.mark.parametrize(
    "header",
    [
        {"alg": "none"}, {"alg": "HS512"}, {"alg": "RS256"}, {"alg": "hs256"}, {"alg": ""}, {},
        {"alg": ["HS256"]}, {"alg": None}, {"alg": "HS256", "crit": ["x"]},
    ],
)  # fmt: skip
def test_other_algorithms(header: dict[str, Any]) -> None:
    """A token may not choose how it is verified."""
    assert judged(by_hand({"alg": "HS256"}, CLAIMS, LONG.encode())) == "valid"
    assert judged(by_hand(header, CLAIMS, LONG.encode())) == "invalid"


def test_no_algorithm() -> None:
    """A token that says that it is not signed."""
    assert judged(token(algorithm=None)) == "invalid"
    assert judged(f"{part({'alg': 'none'})}.{part(CLAIMS)}.") == "invalid"


@pytest.mark.parametrize("algorithm", ["RS256", "HS256"])
def test_public_key_as_secret(algorithm: str) -> None:
    """A public key in the secret's place, which anybody could sign with, is refused."""
    pem = "-----BEGIN PUBLIC KEY-----\nMFwwDQYJKoZIhvcNAQEBBQAD\n-----END PUBLIC KEY-----"
    assert judged(by_hand({"alg": algorithm}, CLAIMS, pem.encode()), secret=pem) == "invalid"


@pytest.mark.parametrize(
    "header",
    [
        "a", "a.b", "a.b.c", "..", "Bearer", "Bearer \u00e9.\u00e9.\u00e9", "\0", "a.b.c.d",
        f"{HS256}.{part([1])}.a", f"{HS256}.{part(b'[' * 99_999)}.a", f"{HS256}.{part(b'{}x')}.a",
        f"{part(b'[' * 99_999)}.{part(CLAIMS)}.a", f"{part(b'1' * 9_999)}.{part(b'1' * 9_999)}.a",
    ],
)  # fmt: skip
def test_no_token_at_all(header: str) -> None:
    """What is no JWT is an invalid one, and nothing is raised."""
    assert judged(header) == "invalid"


def test_blank_uuid() -> None:
    """A blank message_uuid makes no status of a DLR."""
    assert told(row(DLR, message_uuid="", authorization="x")) == ["valid"]
    assert told(row(DLR) | {"sig": None, "message_uuid": "", "authorization": "x"}) == ["unsigned"]


VALUES = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
PARAMS = st.fixed_dictionaries(
    {"messageId": VALUES, "status": VALUES},
    optional={name: VALUES for name in SIGNED if name not in ("messageId", "status", "api-key")}
    | {"tenant": VALUES},
)  # fmt: skip


@settings(deadline=None)
@given(PARAMS, st.sampled_from(METHODS), st.data())
def test_one_char(params: dict[str, str], method: str, data: st.DataObject) -> None:
    """What is signed is valid, and with one character changed, added or removed it never is."""
    secret = Secret(method, "one")
    sig = digest(canonical(params), secret)
    assert told(row(params, sig), secrets={"": secret}) == ["valid"]
    name = data.draw(st.sampled_from(sorted(params)))
    value = params[name]
    at = data.draw(st.integers(0, len(value)))
    char = data.draw(st.characters(exclude_categories=["Cs"]) | st.just(""))
    cut = data.draw(st.sampled_from([0, 1]))
    changed = value[:at] + char + value[at + cut :]
    # & and = are signed as _: by Vonage's definition these are one.
    assume(canonical({name: changed}) != canonical({name: value}))
    assert told(row(params | {name: changed}, sig), secrets={"": secret}) != ["valid"]


@settings(deadline=None)
@given(st.text(min_size=1, max_size=30), st.data())
def test_one_char_of_a_body(body: str, data: st.DataObject) -> None:
    """A body that was signed is valid, and another never is."""
    sent = token(payload_hash=hashlib.sha256(body.encode()).hexdigest())
    at = data.draw(st.integers(0, len(body) - 1))
    changed = body[:at] + data.draw(st.characters(exclude_categories=["Cs"])) + body[at + 1 :]
    assert judged(sent, body) == "valid"
    assert judged(sent, changed) == "valid" if changed == body else judged(sent, changed) != "valid"


@settings(deadline=None)
@given(st.text(), st.text(), st.text(), st.text(), st.booleans())
def test_anything(sig: str, extra: str, header: str, body: str, exact: bool) -> None:
    """Whatever a capture holds, it is told, and without the secret it is not valid."""
    rows = [row(DLR, sig, extra=extra, exact=exact), status(header, body)]
    found = told(*rows, secrets={"5a4d0b0e": Secret("sha256", LONG)})
    assert set(found) <= {"invalid", "unsigned", "unverifiable"}


def test_secret_never_shows() -> None:
    """Neither in a repr, nor in what an unknown method raises."""
    secret = Secret("rot13", "hush hush")
    assert "hush" not in repr(secret) + str({"": secret})
    with pytest.raises(ValueError, match="unsupported hash type") as raised:
        digest("&a=b", secret)
    assert "hush" not in str(raised.value)


def test_secret_of_other_bytes() -> None:
    """A secret that is no UTF-8 in the environment is taken as its bytes."""
    secret = Secret("md5hash", b"caf\xe9".decode("utf-8", "surrogateescape"))
    assert digest("&a=b", secret) == hashlib.md5(b"&a=bcaf\xe9", usedforsecurity=False).hexdigest()


def test_secrets_of_settings(configure: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """From the environment or from a file that it names; none without a method."""
    monkeypatch.setenv("VONAGE_API_KEY", "5a4d0b0e")
    monkeypatch.setenv("VONAGE_SIGNATURE_SECRET", "one")
    own = ("md5hash", "one")
    assert configure().signature_secrets() == {}
    found = configure(signature_method="md5hash").signature_secrets()
    assert found == {"5a4d0b0e": own, "": own}
    monkeypatch.delenv("VONAGE_SIGNATURE_SECRET")
    Path("secret").write_text("three\n", "ascii")
    monkeypatch.setenv("VONAGE_SIGNATURE_SECRET_FILE", "secret")
    assert configure(signature_method="md5").signature_secrets()[""] == ("md5", "three")


def test_one_secret_an_account(configure: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each account has a secret of its own; only one alone is for receipts that name none."""
    monkeypatch.setenv("SECRET_TWO", "two")
    Path("secret").write_text("three\n", "ascii")
    accounts = [
        {"api_key": "b", "signature_method": "sha256", "signature_secret_env": "SECRET_TWO"},
        {"api_key": "c", "signature_method": "sha512", "signature_secret_file": "secret"},
    ]
    assert configure(accounts=accounts).signature_secrets() == {
        "b": ("sha256", "two"), "c": ("sha512", "three"),
    }  # fmt: skip
    assert configure(accounts=accounts[:1]).signature_secrets()[""] == ("sha256", "two")


def test_secrets_that_are_not_there(configure: Any) -> None:
    """A method whose secret is nowhere is an error that says where to put it."""
    with pytest.raises(SettingsError, match="VONAGE_SIGNATURE_SECRET is not set"):
        configure(signature_method="md5").signature_secrets()
    bare = [{"api_key": "b", "signature_method": "sha256"}]
    with pytest.raises(SettingsError, match="signature_secret_env or signature_secret_file"):
        configure(accounts=bare).signature_secrets()


def test_a_query_keeps_what_was_signed() -> None:
    """From a captured GET to a valid signature, percent escapes and all."""
    from urllib.parse import urlencode

    from reconcile.receipts.query_fields import from_queries

    own = DLR | {"client-ref": "a&b=c %ü"}
    query = urlencode(own | {"sig": digest(canonical(own), OWN)})
    found = from_queries(pa.array([query])).to_pylist()[0]
    assert told(found | {"exact": True}) == ["valid"]
