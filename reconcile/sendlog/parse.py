"""Lines of a send log → messages, or a reject with its reason.

The SMS API answers `{"message-count": "2", "messages": [{"to": …, "message-id": …, "status": "0",
…}, …]}`; a log has these answers, in an envelope or not, or a flat object or a CSV row a message.
The name trap is closed here: `to` is the handset and becomes `recipient`.
"""

# ruff: noqa: S608 - SQL is put together from names of our own; texts of others are quoted

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import partial
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc

from reconcile import border
from reconcile.engine import quote
from reconcile.errors import InputError
from reconcile.receipts.fields import (
    BODIES,
    CAPTURED_AT,
    MOST_SPELLINGS,
    NESTED_ID,
    NUMBER_ID,
    TWICE,
    UNREADABLE,
    plain,
)
from reconcile.receipts.formats import (
    SURE,
    Block,
    Format,
    Reading,
    Work,
    block_of,
    looks_like_ndjson,
    looks_like_objects,
    read_lines,
)
from reconcile.receipts.lines import split_objects
from reconcile.receipts.table_fields import Header, csv_columns
from reconcile.store import UNDATED
from reconcile.vocabulary import STATUSES

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

# What an answer says of a message, and the names it goes by (compared as receipts' names are).
FIELDS: dict[str, tuple[str, ...]] = {
    "message_id": ("messageid",),
    "status": ("status",),
    "to": ("to",),
    "network": ("network", "networkcode"),
    "price": ("messageprice", "price"),
    "client_ref": ("clientref",),
    "error_text": ("errortext",),
    "account_id": ("apikey", "accountid"),
    "sent_at": tuple(dict.fromkeys(("sentat", "timestamp", "attimestamp", "time", "ts",
                                    *CAPTURED_AT))),
}  # fmt: skip
MESSAGES = ("messages",)
ENVELOPE = tuple(dict.fromkeys(("response", "responsebody", "result", "answer", "reply", *BODIES)))
DEEPEST = 3
# A payload that is worth opening: an object or an array, in which an answer may be.
INSIDE = r'^\s*[\[{](?s:.*)(?i:message[-_]?id|"messages|"status|\\"status|\\"messages)'
NOT_AN_ANSWER = "not_an_answer"
NO_ID = "it was accepted and has no message id"
NO_STATUS = "it has no status, so nobody can say whether it was accepted: log the answer's status"
NO_CODE = "its status is no code of the SMS API's answer, where 0 is accepted"
A_RECEIPT = "it is a delivery receipt: name its log in dlr"
OTHER = "it holds no answer of the SMS API: neither a message id nor a status beside a number"
NO_JSON = "it is no JSON object"
NO_MESSAGE = "it names no message"
NO_OBJECT = "it is no object"

# Messages as their line has them. `part` is 0 where a line holds none; `answer`: it was in a list
# of messages.
SCHEMA = pa.schema(
    [("line", pa.int64()), ("part", pa.int32()), ("blank", pa.bool_()), ("problem", pa.string()),
     ("answer", pa.bool_()), *((name, pa.string()) for name in FIELDS)]
)  # fmt: skip
LEVEL = pa.schema(
    [("line", pa.int64()), *((name, pa.string()) for name in ("text", "outer_at", "outer_account"))]
)


def messages(fields: str, source: str, pii: str) -> str:
    """SQL of the columns of `sent`, then `day`, `kind` and `reason`; blank lines are left out.

    A message that can be read has the `day` of its partition and no kind; another has a kind and
    a reason, and nothing else is to be read of it.

    Args:
        fields: the name of a relation with the columns of `SCHEMA`.
        source: the log that they come from.
        pii: what becomes of recipients.
    """
    told = ", ".join(map(quote, STATUSES))
    flat = 'NOT answer AND message_id IS NULL AND coalesce("to", error_text) IS NULL'
    reason = f"""CASE
        WHEN problem IS NOT NULL THEN problem
        WHEN starts_with(message_id, '[') OR starts_with(message_id, '{{') THEN {quote(NESTED_ID)}
        WHEN regexp_full_match(message_id, '[0-9.]+[eE][+][0-9]+') THEN {quote(NUMBER_ID)}
        WHEN lower(status) IN ({told}) AND NOT answer AND message_id IS NOT NULL
            THEN {quote(A_RECEIPT)}
        WHEN {flat} OR (answer AND message_id IS NULL AND status IS NULL) THEN {quote(OTHER)}
        WHEN status IS NULL THEN {quote(NO_STATUS)}
        WHEN code IS NULL THEN {quote(NO_CODE)}
        WHEN code = 0 AND message_id IS NULL THEN {quote(NO_ID)} END"""
    code = "CASE WHEN regexp_full_match(status, '[0-9]{1,2}') THEN status::INTEGER END"
    return f"""
        SELECT * EXCLUDE (reason), CASE WHEN reason IS NULL
                THEN coalesce({border.day("sent_at")}, '{UNDATED}') END AS day,
            CASE WHEN reason = {quote(A_RECEIPT)} THEN '{NOT_AN_ANSWER}:receipt'
                 WHEN reason = {quote(OTHER)} THEN '{NOT_AN_ANSWER}:other'
                 WHEN reason IS NOT NULL THEN '{UNREADABLE}' END AS kind,
            CASE WHEN part > 1 THEN 'message ' || part || ': ' || reason ELSE reason END AS reason
        FROM (SELECT {border.message_id("message_id")} AS message_id, code::VARCHAR AS status,
                account_id, {border.recipient('"to"', pii)} AS recipient,
                network AS network_code, {border.money("price")} AS price, client_ref,
                {border.captured("sent_at")} AS sent_at, {quote(source)} AS source, line, part,
                {reason} AS reason
            FROM (SELECT *, {code} AS code
                FROM (SELECT line, part, problem, answer, {border.text_columns(FIELDS)}
                      FROM {fields} WHERE NOT blank)))
    """


def from_json(con: DuckDBPyConnection, lines: pa.Table) -> pa.Table:
    """What lines (`lines.SCHEMA`) say, in no certain order: columns of `SCHEMA`."""
    aside = pc.or_(lines["blank"], pc.is_valid(lines["problem"]))
    told, rest = lines.filter(aside), lines.filter(pc.invert(aside))
    done = [_table(told["line"], blank=told["blank"], problem=told["problem"])]
    return pa.concat_tables([*done, *_from_texts(con, _level(rest["line"], rest["text"]))])


def from_csv(con: DuckDBPyConnection, lines: pa.Table, header: Header) -> pa.Table:
    """What lines below a header say: each is a message, or has an answer as JSON in a column."""
    line, named, rest = csv_columns(lines, header)
    own = _spelled(named)
    told = _table(rest["line"], blank=rest["blank"], problem=rest["problem"])
    nothing = pa.nulls(len(line), pa.string())
    first = {f: pc.coalesce(nothing, *(named[n] for n in names)) for f, names in own.items()}
    if own["message_id"] and own["status"]:
        problem = nothing
        for name, other in ((f, n) for f in own if f != "sent_at" for n in own[f][1:]):
            differs = pc.fill_null(pc.not_equal(named[other], first[name]), fill_value=False)
            problem = pc.if_else(differs, TWICE, problem)
        one = pa.array([1] * len(line), pa.int32())
        return pa.concat_tables([told, _table(line, part=one, problem=problem, **first)])
    payload = pc.coalesce(nothing, *(named[n] for n in _enveloped(named)))
    level = _level(line, payload, first["sent_at"], first["account_id"])
    return pa.concat_tables([told, *_from_texts(con, level)])


def _from_texts(con: DuckDBPyConnection, rows: pa.Table) -> Iterator[pa.Table]:
    """Messages of JSON texts (`LEVEL`), their envelopes opened."""
    for depth in range(DEEPEST + 1):
        if not rows.num_rows:
            return
        con.register("level", rows)
        try:
            opened = con.execute(_opened(_names(con, "level"))).to_arrow_table()
        finally:
            con.unregister("level")
        deeper = pc.and_(pc.is_valid(opened["payload"]), pa.scalar(depth < DEEPEST))
        yield from _messages(con, opened.filter(pc.invert(deeper)))
        inner = opened.filter(deeper)
        rows = _level(inner["line"], inner["payload"], inner["outer_at"], inner["outer_account"])


def _opened(names: list[str]) -> str:
    """SQL of each text of `level` (null if it is no JSON) and of its list of messages, or of the
    payload of its envelope."""
    own, found = _spelled(names), _found(names)
    lists = _places([name for name in names if plain(name) in MESSAGES], names)
    inner = _places(_enveloped(names), names)
    return f"""
        SELECT line, text, coalesce({_first(own["sent_at"], names)}, outer_at) AS outer_at,
            coalesce({_first(own["account_id"], names)}, outer_account) AS outer_account, listed,
            CASE WHEN listed IS NULL AND ({_first(own["message_id"], names)} IS NULL
                OR {_first(own["status"], names)} IS NULL)
                THEN list_filter([{inner}]::VARCHAR[],
                    lambda c: regexp_matches(c, {quote(INSIDE)}))[1] END AS payload
        FROM (SELECT *, CASE kind WHEN 'ARRAY' THEN text WHEN 'OBJECT' THEN
                list_filter([{lists}]::VARCHAR[], lambda c: starts_with(c, '['))[1] END AS listed
            FROM (SELECT *, json_type(text) AS kind, {found} AS found
                FROM (SELECT * REPLACE (CASE WHEN json_valid(text) THEN text END AS text)
                    FROM level)))
    """


def _messages(con: DuckDBPyConnection, opened: pa.Table) -> Iterator[pa.Table]:
    """The messages of texts in which no envelope is left to open, and what is wrong with others."""
    con.register("opened", opened)
    con.execute("""
        CREATE OR REPLACE TEMP TABLE own_messages AS
        SELECT line, outer_at, outer_account, true AS answer, unnest(own) AS text,
            unnest(range(1, len(own) + 1))::INTEGER AS part
        FROM (SELECT *, json_extract(CASE WHEN json_valid(listed) THEN listed END, '$[*]') AS own
            FROM opened WHERE listed IS NOT NULL)
        UNION ALL BY NAME
        SELECT line, outer_at, outer_account, false AS answer, text, 1 AS part
        FROM opened WHERE listed IS NULL AND json_type(text) = 'OBJECT'
    """)
    con.execute("CREATE OR REPLACE TEMP TABLE objects AS "
                "SELECT * FROM own_messages WHERE json_type(text) = 'OBJECT'")  # fmt: skip
    names = _names(con, "objects")
    own = _spelled(names)
    fields = ", ".join(f'{_first(n, names)} AS "{field}"' for field, n in own.items())
    twofold = " OR ".join(
        f"len(list_distinct(list_filter([{_places(n, names)}], lambda c: c IS NOT NULL))) > 1"
        for field, n in own.items()
        if field != "sent_at" and len(n) > 1
    )
    number = " OR ".join(
        f"json_type(text, {_pointer(name)}) NOT IN ('VARCHAR', 'OBJECT', 'ARRAY', 'NULL')"
        for name in own["message_id"]
    )
    found = con.execute(f"""
        SELECT * REPLACE (coalesce(sent_at, outer_at) AS sent_at,
                coalesce(account_id, outer_account) AS account_id),
            CASE WHEN coalesce({number or "false"}, false) THEN {quote(NUMBER_ID)}
                 WHEN {twofold or "false"} OR len(keys) <> len(list_distinct(keys))
                 THEN {quote(TWICE)} END AS problem
        FROM (SELECT *, json_keys(text) AS keys, {fields}
            FROM (SELECT *, {_found(names)} AS found FROM objects))
    """).to_arrow_table()
    bad = con.execute(f"""
        SELECT line, part, {quote(NO_OBJECT)} AS problem
        FROM own_messages ANTI JOIN objects USING (line, part)
        UNION ALL
        SELECT line, 0, CASE WHEN listed IS NULL THEN {quote(NO_JSON)} ELSE {quote(NO_MESSAGE)} END
        FROM opened ANTI JOIN own_messages USING (line)
    """).to_arrow_table()
    con.execute("DROP TABLE objects; DROP TABLE own_messages")
    con.unregister("opened")
    yield _table(found["line"], **{n: found[n] for n in ("part", "problem", "answer", *FIELDS)})
    yield _table(bad["line"], part=bad["part"], problem=bad["problem"])


def _names(con: DuckDBPyConnection, relation: str) -> list[str]:
    """The keys of a relation's objects that mean anything."""
    known = {name for own in (*FIELDS.values(), MESSAGES, ENVELOPE) for name in own}
    bare = "regexp_replace(replace(lower(name), '@', 'at'), '[^a-z0-9]', '', 'g')"
    found = con.execute(
        f"SELECT name FROM (SELECT DISTINCT unnest(json_keys(CASE WHEN json_valid(text) THEN text "
        f"END)) AS name FROM {relation}) WHERE {bare} IN ({', '.join(map(quote, known))})"
    ).fetchall()
    return sorted(name for (name,) in found)


def _spelled(names: Iterable[str]) -> dict[str, list[str]]:
    """The names under which each field stands here, the surest spelling first."""
    known = [(name, plain(name)) for name in names]
    return {
        field: [name for own in spellings for name, bare in known if bare == own][:MOST_SPELLINGS]
        for field, spellings in FIELDS.items()
    }


def _enveloped(names: Iterable[str]) -> list[str]:
    known = [(name, plain(name)) for name in names]
    return [name for own in ENVELOPE for name, bare in known if bare == own]


def _pointer(name: str) -> str:
    return quote("/" + name.replace("~", "~0").replace("/", "~1"))


def _found(names: list[str]) -> str:
    """SQL of what lies under these names of `text`, from one pass over it."""
    if not names:
        return "NULL::VARCHAR[]"
    return f"json_extract_string(text, [{', '.join(map(_pointer, names))}])"


def _places(wanted: list[str], names: list[str]) -> str:
    """SQL of where some of these names lie in what `_found` gives."""
    return ", ".join(f"found[{names.index(name) + 1}]" for name in wanted)


def _first(wanted: list[str], names: list[str]) -> str:
    """SQL of the first of some of these names that a text has."""
    return f"coalesce({_places(wanted, names)})" if wanted else "NULL::VARCHAR"


def _level(line: Any, text: Any, at: Any = None, account: Any = None) -> pa.Table:
    nothing = pa.nulls(len(line), pa.string())
    columns = [line, text, nothing if at is None else at, nothing if account is None else account]
    return pa.table(columns, schema=LEVEL)


def _table(line: Any, **columns: Any) -> pa.Table:
    """Rows in the shape of `SCHEMA`; what is not given is null, no line is blank."""
    no = pa.array([False] * len(line), pa.bool_())
    zero = pa.array([0] * len(line), pa.int32())
    given = {"line": line, "part": zero, "blank": no, "answer": no} | columns
    return pa.table(
        [given[f.name].cast(f.type) if f.name in given else pa.nulls(len(line), f.type)
         for f in SCHEMA], schema=SCHEMA,
    )  # fmt: skip


def _read_csv(con: DuckDBPyConnection, reading: Reading) -> Iterator[Work]:
    del con
    for block in reading.lines():
        above = 0 if "header" in reading.state else _header(block, reading)
        yield partial(_csv, above, block, reading)


def _csv(above: int, block: pa.Table, reading: Reading, con: DuckDBPyConnection) -> Block:
    blank = pa.array([True] * above, pa.bool_())
    found = _table(block["line"].slice(0, above), blank=blank)
    if above < block.num_rows:
        header = Header.read(reading.state["header"])
        found = pa.concat_tables([found, from_csv(con, block.slice(above), header)])
    return block_of(block, found)


def _header(block: pa.Table, reading: Reading) -> int:
    """Remembers the line that names the columns; how many lines end with it. It counts as blank."""
    at = pc.index(block["blank"], value=False).as_py()
    if at < 0:
        return int(block.num_rows)
    line = block["text"][at].as_py()
    if line is None:
        raise InputError(
            f"the send log {reading.path} begins with a line that is no text: "
            "it is read as NDJSON or CSV; if it is no log, narrow send_log"
        )
    names = Header.read(line).names
    own = _spelled(names)
    lacks = [field for field in ("message_id", "status") if not own[field]]
    if lacks and not _enveloped(names):
        raise InputError(
            f"the send log {reading.path} has no column {' and no '.join(lacks)}: "
            "name its columns as the SMS API names the fields"
        )
    reading.state["header"] = line.strip("\r\n")
    return int(at) + 1


def _looks_like_csv(_start: bytes, text: list[str]) -> int:
    if text[0].lstrip().startswith(("{", "[")):
        return 0
    names = Header.read(text[0]).names
    own = _spelled(names)
    told = (own["message_id"] and own["status"]) or _enveloped(names)
    return SURE if len(names) > 1 and told else 0


FORMATS = (
    Format("json", "An array of objects, or objects that take several lines each, or share one.",
           looks_like_objects, read_lines(from_json, split_objects)),
    Format("ndjson", "A JSON object a line: an answer, or an envelope around one, or a message.",
           looks_like_ndjson, read_lines(from_json)),
    Format("csv", "A header, then a message a line; or an answer as JSON in one of the columns.",
           _looks_like_csv, _read_csv),
)  # fmt: skip
