"""How text becomes ids, times, money and hidden numbers at both borders, as SQL of the engine.

Records and receipts must agree on every one of these to be paired, so both read them from here.
Each function takes an SQL expression of type VARCHAR and returns one.
"""

from __future__ import annotations

import os
import secrets
from pathlib import Path
from typing import TYPE_CHECKING

from reconcile.errors import SettingsError

if TYPE_CHECKING:
    from ibis.backends.duckdb import Backend

    from reconcile.settings import Settings

# What Vonage's redaction leaves in the place of a number or a body.
REDACTED = "REDACTED"
PII_KEY = "pii_key"
HASH_DIGITS = 16
UUID = "[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}"


def text(raw: str) -> str:
    """Stripped; blank and redacted are null."""
    return f"nullif(nullif(trim({raw}), ''), '{REDACTED}')"


def lower(raw: str) -> str:
    """As `text`, in lower case (statuses)."""
    return f"lower({text(raw)})"


def message_id(raw: str) -> str:
    """Hexadecimal ids in upper case, UUIDs in lower case, others as they are. Never a number."""
    clean = text(raw)
    return (
        f"CASE WHEN regexp_full_match({clean}, '{UUID}') THEN lower({clean}) "
        f"WHEN regexp_full_match({clean}, '[0-9A-Fa-f]+') THEN upper({clean}) ELSE {clean} END"
    )


def instant(raw: str) -> str:
    """A UTC instant in whole milliseconds; without an offset the text means UTC. Null if no time.

    Reads `Y-m-d H:M:S`, the same with ` +0000`, and ISO 8601 with `Z`, `+00:00` or `+0000`.
    """
    joined = f"regexp_replace({text(raw)}, ' (UTC|[+-]\\d\\d:?\\d\\d)$', '\\1')"
    dated = f"regexp_matches({text(raw)}, '^\\d\\d\\d\\d-\\d\\d-\\d\\d[T ]\\d\\d:\\d\\d')"
    return _whole_ms(f"CASE WHEN {dated} THEN try_cast({joined} AS TIMESTAMPTZ) END")


def instant_or_epoch(raw: str) -> str:
    """As `instant`; digits alone are seconds, milliseconds or microseconds since 1970."""
    number = f"try_cast({text(raw)} AS DOUBLE)"
    seconds = (
        f"CASE WHEN {number} < 1e11 THEN {number} WHEN {number} < 1e14 THEN {number} / 1e3 "
        f"WHEN {number} < 1e17 THEN {number} / 1e6 END"
    )
    since = _whole_ms(f"CASE WHEN {number} >= 1e8 THEN to_timestamp({seconds}) END")
    return f"coalesce({instant(raw)}, {since})"


def money(raw: str) -> str:
    """decimal(18,8), rounded half to even where the text is finer."""
    plain = f"regexp_full_match({text(raw)}, '[+-]?\\d+(\\.\\d*)?([eE][+-]?\\d+)?')"
    fine = f"try_cast({text(raw)} AS DECIMAL(38, 18))"
    return f"CASE WHEN {plain} THEN try_cast(round_even({fine}, 8) AS DECIMAL(18, 8)) END"


def whole(raw: str) -> str:
    """A whole number as BIGINT, null if it is none."""
    return f"try_cast({text(raw)} AS BIGINT)"


def flag(raw: str) -> str:
    """TRUE/FALSE in any case, null for all else."""
    return f"CASE {lower(raw)} WHEN 'true' THEN true WHEN 'false' THEN false END"


def recipient(raw: str, pii: str) -> str:
    """A handset's number: digits only, then hidden as `pii` says (hash, keep or drop)."""
    digits = f"nullif(regexp_replace({text(raw)}, '[^0-9]', '', 'g'), '')"
    hidden = f"left(sha256(getvariable('{PII_KEY}') || {digits}), {HASH_DIGITS})"
    return {"hash": hidden, "keep": digits, "drop": "NULL::VARCHAR"}[pii]


def set_key(con: Backend, settings: Settings) -> None:
    """Gives the engine the key of the hash, where one is needed."""
    if settings.pii == "hash":
        con.con.execute(f"SET VARIABLE {PII_KEY} = $key", {"key": _key(settings.pii_key_file)})


def _key(file: Path | None) -> str:
    """The key from its file; made once in the user's configuration folder where none is named.

    It never lies in the store: numbers can be enumerated, so key and store are the numbers.
    """
    if file is None:
        home = os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config"
        file = Path(home, "reconcile", "pii.key")
        if not file.exists():
            _make_key(file)
    try:
        key = file.read_text("ascii").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"the key in {file} cannot be read ({error}): see pii_key_file") from None
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
        out.write(secrets.token_hex(32) + "\n")


def _whole_ms(moment: str) -> str:
    return f"make_timestamptz(epoch_ms({moment}) * 1000)"
