"""How text becomes ids, times, money and hidden numbers at both borders, as SQL of the engine.

Records and receipts must agree on every one of these to be paired, so both read them from here.
Each function takes an SQL expression of type VARCHAR and returns one. `text` comes first: the
others want what it has cleaned, as a column of a subquery, so that it is cleaned once.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from reconcile.engine import quote
from reconcile.errors import SettingsError

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection
    from ibis.backends.duckdb import Backend

    from reconcile.settings import Settings

# What Vonage's redaction leaves in the place of a number or a body.
REDACTED = "REDACTED"
PII_KEY = "pii_key"
HASH_DIGITS = 16
UUID = "[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}"


def text(raw: str) -> str:
    """Stripped; blank and redacted are null."""
    # Trimming is slow, and hardly ever needed: all that sorts before `!` is space or control.
    ends = " OR ".join(
        f"suffix({raw}, {space})" for space in ("' '", "chr(13)", "chr(10)", "chr(9)")
    )
    edge = f"{raw} < '!' OR {ends}"
    trimmed = f"nullif(trim({raw}, E' \\t\\r\\n'), '')"
    return f"nullif(CASE WHEN {edge} THEN {trimmed} ELSE {raw} END, '{REDACTED}')"


def text_columns(names: Iterable[str]) -> str:
    """A select list of these columns, each as `text` cleans it."""
    quoted = [f'"{name}"' for name in names]
    return ", ".join(f"{text(name)} AS {name}" for name in quoted)


def message_id(clean: str) -> str:
    """Hexadecimal ids in upper case, UUIDs in lower case, others as they are. Never a number."""
    # Most are in upper case as they come.
    return (
        f"CASE WHEN regexp_full_match({clean}, '[0-9A-F]+') THEN {clean} "
        f"WHEN regexp_full_match({clean}, '{UUID}') THEN lower({clean}) "
        f"WHEN regexp_full_match({clean}, '[0-9A-Fa-f]+') THEN upper({clean}) ELSE {clean} END"
    )


def instant(clean: str) -> str:
    """A UTC instant in whole milliseconds; without an offset the text means UTC. Null if no time.

    Reads `Y-m-d H:M:S`, the same with ` +0000` or ` UTC`, and ISO 8601 with `Z`, `+00:00` or
    `+0000`, of the years 1900 to 2999: a partition is named after it. Zones of other names are no
    time: to the engine, the next texts without a zone would lie in that one, too.
    """
    zone = r"( ?[zZ]| UTC| GMT| ?[+-]\d\d(:?\d\d)?)?"
    shape = rf"^(19|2\d)\d\d-\d\d-\d\d[T ]\d\d:\d\d[0-9:.]*{zone}$"
    joined = (
        f"CASE WHEN contains({clean}, ' +') THEN replace({clean}, ' +', '+') "
        f"WHEN contains({clean}, ' -') THEN replace({clean}, ' -', '-') ELSE {clean} END"
    )
    return _whole_ms(
        # Without a zone the engine would find an instant by way of a calendar.
        f"CASE WHEN {_has_form(clean, '')} THEN epoch_ms(try_cast({clean} AS TIMESTAMP)) "
        f"WHEN {_has_form(clean, '+00:00')} OR {_has_form(clean, '.??[0-9]Z')} "
        f"THEN epoch_ms(try_cast({clean} AS TIMESTAMPTZ)) "
        f"WHEN regexp_matches({clean}, '{shape}') "
        f"THEN epoch_ms(try_cast({joined} AS TIMESTAMPTZ)) END"
    )


def _has_form(clean: str, behind: str) -> str:
    """Whether a time is a second, as `2026-01-05 10:00:00`, and this pattern behind it.

    It is told in a third of the time that a regular expression takes. Other letters in a digit's
    place are refused by the cast, except for where they are named.
    """
    form = f"2???-??-?[0-9][T ][0-9]?:??:?[0-9]{behind}"
    size = len(form.replace("[0-9]", "0").replace("[T ]", "T"))
    return f"strlen({clean}) = {size} AND {clean} GLOB '{form}'"


def instant_or_epoch(clean: str) -> str:
    """As `instant`; digits alone are seconds, milliseconds or microseconds since 1970."""
    # All in whole numbers of 64 bits: decimals of more digits are slow, and casts that fail are.
    digits = rf"regexp_full_match({clean}, '\d{{9,16}}(\.\d*)?')"
    whole = f"try_cast(split_part({clean}, '.', 1) AS BIGINT)"
    thousandths = f"try_cast(left(rpad(split_part({clean}, '.', 2), 3, '0'), 3) AS BIGINT)"
    scaled = (
        f"CASE WHEN {whole} < 100_000_000_000 THEN {whole} * 1000 + {thousandths} "
        f"WHEN {whole} < 100_000_000_000_000 THEN {whole} ELSE {whole} // 1000 END"
    )
    since = _whole_ms(f"CASE WHEN {digits} THEN {scaled} END")
    return f"coalesce({instant(clean)}, {since})"


def captured(clean: str) -> str:
    """As `instant_or_epoch`; reads also logs' `05/Jan/2026:10:00:00 +0000` and `10:00:00,250`."""
    formats = "['%d/%b/%Y:%H:%M:%S %z', '%d/%b/%Y:%H:%M:%S']"
    log = _whole_ms(f"epoch_ms(try_strptime({clean}, {formats}))")
    comma = instant(f"replace({clean}, ',', '.')")
    return (
        f"CASE WHEN contains({clean}, '/') THEN {log} WHEN contains({clean}, ',') THEN {comma} "
        f"ELSE {instant_or_epoch(clean)} END"
    )


def day(moment: str) -> str:
    """The UTC day of an instant (SQL of type TIMESTAMPTZ), as text."""
    return f"make_timestamp(epoch_us({moment}))::DATE::VARCHAR"


def money(clean: str) -> str:
    """decimal(18,8), rounded half to even where the text is finer. Null if it is none or too large.

    DuckDB's own round_even goes through floating point, which is no place for money.
    """
    fine = f"try_cast({clean} AS DECIMAL(38, 18))"
    near = f"try_cast({fine} AS DECIMAL(28, 8))"  # half away from zero
    tie = f"abs({fine} - {near}) = 0.000000005 AND ({near} * 100000000) % 2 <> 0"
    even = f"CASE WHEN {tie} THEN {near} - sign({fine}) * 0.00000001 ELSE {near} END"
    cut = rf"regexp_extract({clean}, '^[+-]?\d+\.\d{{8}}')"
    return (
        rf"CASE WHEN regexp_full_match({clean}, '[+-]?\d+(\.\d{{0,8}})?') "
        rf"OR regexp_full_match({clean}, '[+-]?\d{{1,9}}([eE]-0?[0-8]|\.\d{{0,3}}[eE]-0?[0-5])') "
        f"THEN try_cast({clean} AS DECIMAL(18, 8)) "
        # A cast rounds half away from zero, which is half to even but for these.
        rf"WHEN regexp_full_match({clean}, '[+-]?\d+\.\d{{7}}[02468]50*') "
        f"THEN try_cast({cut} AS DECIMAL(18, 8)) "
        rf"WHEN regexp_full_match({clean}, '[+-]?\d+\.\d+') "
        f"THEN try_cast({clean} AS DECIMAL(18, 8)) "
        rf"WHEN regexp_full_match({clean}, '[+-]?\d+(\.\d*)?[eE][+-]?\d+') "
        f"THEN try_cast({even} AS DECIMAL(18, 8)) END"
    )


def whole(clean: str) -> str:
    """A whole number as BIGINT, null if it is none."""
    return f"try_cast({clean} AS BIGINT)"


def flag(clean: str) -> str:
    """TRUE/FALSE in any case, null for all else."""
    return f"CASE lower({clean}) WHEN 'true' THEN true WHEN 'false' THEN false END"


def recipient(clean: str, pii: str) -> str:
    """A handset's number: digits only, then hidden as `pii` says (hash, keep or drop)."""
    # A number without a sign in it is told by becoming one, in half the time.
    stripped = f"regexp_replace({clean}, '[^0-9]', '', 'g')"
    as_it_is = f"try_cast({clean} AS UBIGINT)::VARCHAR = {clean}"
    digits = f"nullif(CASE WHEN {as_it_is} THEN {clean} ELSE {stripped} END, '')"
    hidden = f"substr(sha256(getvariable('{PII_KEY}') || {digits}), 1, {HASH_DIGITS})"
    return {"hash": hidden, "keep": digits, "drop": "NULL::VARCHAR"}[pii]


def set_key(con: Backend, settings: Settings) -> None:
    """Gives the engine the key of the hash, where one is needed."""
    if settings.pii == "hash":
        _set(con.con, _key(settings.pii_key_file))


def with_key(con: DuckDBPyConnection, other: DuckDBPyConnection) -> DuckDBPyConnection:
    """Another connection, with the key that the first was given."""
    [key] = con.execute(f"SELECT getvariable('{PII_KEY}')").fetchone() or (None,)
    if key is not None:
        _set(other, key)
    return other


def _set(con: DuckDBPyConnection, key: str) -> None:
    # Not by a parameter: with its first one the engine imports pandas, which takes long.
    con.execute(f"SET VARIABLE {PII_KEY} = {quote(key)}")


def _key(file: Path | None) -> str:
    """The key from its file; made once in the user's configuration folder where none is named.

    It never lies in the store: numbers can be enumerated, so key and store are the numbers.
    """
    place = key_file(file)
    if file is None and not place.exists():
        _make_key(place)
    return read_key(place)


def key_file(named: Path | None) -> Path:
    """Where the key is: in the file that is named, or in the user's configuration folder."""
    home = os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config"
    return named or Path(home, "reconcile", "pii.key")


def read_key(file: Path) -> str:
    """The key of the hash.

    Raises:
        SettingsError: it cannot be read, or is too short.
    """
    try:
        key = file.read_text("ascii").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(
            f"the key in {file} cannot be read ({error}): see pii_key_file"
        ) from None
    if len(key) < HASH_DIGITS:
        raise SettingsError(f"the key in {file} is shorter than 16 characters: put a longer one")
    return key


def _make_key(file: Path) -> None:
    try:
        file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        handle = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        return
    except OSError as error:
        raise SettingsError(
            f"no key can be made at {file} ({error.strerror}): name one with pii_key_file"
        ) from None
    with os.fdopen(handle, "w") as out:
        # 128 bits; with more letters key and number would fill two of SHA-256's blocks.
        out.write(secrets.token_hex(16) + "\n")


def _whole_ms(milliseconds: str) -> str:
    return f"make_timestamptz(({milliseconds}) * 1000)"
