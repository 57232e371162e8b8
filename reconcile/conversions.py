"""The user's own file of conversions: what people did after a message reached them.

A CSV with a header: `message_id`, `converted` (true or false) and `at`, in any order. It is read
where it is; nothing of it is sent to Vonage. (Where a country's receipts cannot be trusted, Vonage
advises to send it such data through the Conversion API, one call as each message converts.)
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from reconcile import border
from reconcile.engine import quote
from reconcile.errors import InputError

if TYPE_CHECKING:
    from ibis.backends.duckdb import Backend

COLUMNS = ("message_id", "converted")
YES = ("true", "1", "yes")


def query(con: Backend, path: Path | None) -> str:
    """SQL of the ids of messages that converted, once each, as `converted_id`.

    Raises:
        InputError: the file cannot be read, or has not these columns; it says which.
    """
    import duckdb

    if path is None:
        return "SELECT NULL::VARCHAR AS converted_id LIMIT 0"
    rows = f"read_csv({quote(str(path))}, header = true, all_varchar = true, delim = ',')"
    try:
        found = [row[0] for row in con.con.execute(f"DESCRIBE FROM {rows}").fetchall()]
    except duckdb.Error as error:
        why = str(error).splitlines()[0]
        raise InputError(f"conversions {path} cannot be read as CSV: {why}") from None
    lacks = [name for name in COLUMNS if name not in found]
    if lacks:
        raise InputError(
            f"conversions {path} lacks the column {', '.join(lacks)}: it has {', '.join(found)}"
        )
    clean = border.text("message_id")
    yes = ", ".join(map(quote, YES))
    return (
        f"SELECT DISTINCT {border.message_id('message_id')} AS converted_id "  # noqa: S608
        f"FROM (SELECT {clean} AS message_id FROM {rows} WHERE lower(trim(converted)) IN ({yes}))"
    )
