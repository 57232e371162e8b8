"""The same tables by pandas.read_csv and operations on whole columns, written by pyarrow.

Lines are counted by keeping blank ones. A line of too many fields is known by an extra column, one
of too few by its last field, which is then empty: that this capture has no other empty last fields
is known to it. No field may hold a line end. Prices are converted once each.
"""

from __future__ import annotations

from hashlib import sha256

import pandas as pd
import pyarrow as pa
from ingest_program import Task, run
from ingest_rival import UNREADABLE, money, write

from reconcile.receipts.fields import NO_ID, NO_STATUS
from reconcile.receipts.table_fields import WRONG_WIDTH
from reconcile.tables import RECEIPTS, REJECTS

UUID = "[0-9A-Fa-f]{8}(?:-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}"
BEYOND = "beyond the last"
SAME = {
    "account_id": "api-key", "client_ref": "client-ref", "sender": "to",
    "network_code": "network-code", "error_code": "err-code", "scts": "scts",
}  # fmt: skip


def take(task: Task) -> None:
    """Writes what the capture holds."""
    names = list(pd.read_csv(task.captures, nrows=0).columns)
    rows = pd.read_csv(
        task.captures, dtype=str, keep_default_na=False, header=None, skiprows=1,
        names=[*names, BEYOND], index_col=False, skip_blank_lines=False,
    )  # fmt: skip
    rows["line"] = range(2, len(rows) + 2)
    rows = rows[(rows[[*names, BEYOND]] != "").any(axis=1)]
    wrong = (rows[names[-1]] == "") | (rows[BEYOND] != "")
    for name in names:
        text = rows[name].str.strip()
        rows[name] = text.mask(text.isin(["", "REDACTED"]))
    reason = pd.Series(None, rows.index, dtype=str)
    reason[rows["status"].isna()] = NO_STATUS
    reason[rows["messageId"].isna()] = NO_ID
    reason[wrong] = WRONG_WIDTH
    source, key = str(task.captures), task.key.read_text("ascii").strip().encode()
    bad = reason.notna()
    rejects = pd.DataFrame(
        {"source": source, "line": rows["line"][bad], "kind": UNREADABLE, "reason": reason[bad]}
    )
    receipts = _receipts(rows[~bad], source, key)
    write(task, _table(receipts, RECEIPTS.schema), _table(rejects, REJECTS.schema))


def _table(frame: pd.DataFrame, schema: pa.Schema) -> pa.Table:
    table = pa.Table.from_pandas(frame[schema.names], schema, preserve_index=False)
    return table.replace_schema_metadata()


def _receipts(rows: pd.DataFrame, source: str, key: bytes) -> pd.DataFrame:
    columns = {name: rows[column] for name, column in SAME.items()}
    return pd.DataFrame(
        columns
        | {
            "message_id": _message_ids(rows["messageId"]),
            "product": "SMS",
            "recipient": _hidden(rows["msisdn"], key),
            "status": rows["status"].str.lower(),
            "price": _money(rows["price"]),
            "pushed_at": _moments(rows["message-timestamp"]),
            "captured_at": _captured(rows["captured_at"]),
            "source": source,
            "line": rows["line"],
            "signature": "unsigned",
        }
    )


def _message_ids(texts: pd.Series) -> pd.Series:
    is_hex, is_uuid = texts.str.fullmatch("[0-9A-Fa-f]+"), texts.str.fullmatch(UUID)
    return texts.where(~is_hex, texts.str.upper()).where(~is_uuid, texts.str.lower())


def _hidden(numbers: pd.Series, key: bytes) -> list[str | None]:
    digits = numbers.str.replace("[^0-9]", "", regex=True).fillna("")
    return [sha256(key + d.encode()).hexdigest()[:16] if d else None for d in digits]


def _moments(texts: pd.Series) -> pd.Series:
    return pd.to_datetime(texts, utc=True, format="ISO8601", errors="coerce").dt.floor("ms")


def _captured(texts: pd.Series) -> pd.Series:
    """Times, or milliseconds since 1970."""
    epoch = texts.str.fullmatch("[0-9]{12,14}").fillna(value=False).astype(bool)
    found = _moments(texts.mask(epoch)).astype("datetime64[us, UTC]")
    found[epoch] = pd.to_datetime(texts[epoch].astype("int64"), unit="ms", utc=True)
    return found


def _money(texts: pd.Series) -> pd.Series:
    return texts.map({text: money(text) for text in texts.dropna().unique()}).astype(object)


if __name__ == "__main__":
    run(take)
