"""JSON objects → raw fields: a receipt as it is, or inside of envelopes, however they wrap it.

All lines of a block go one level deeper together, until their payload is found: in an object, in a
JSON text inside JSON, in a query string, in a URL. Unsigned receipts with nothing odd about them
need not leave the engine: they are entered from where they are found.
"""

# ruff: noqa: S608 - SQL is put together from names of our own; texts of others are quoted

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc

from reconcile.engine import quote
from reconcile.receipts import query_fields
from reconcile.receipts.fields import (
    CAPTURED_AT,
    ENVELOPE,
    FIELDS,
    NESTED,
    NESTED_ID,
    NUMBER_ID,
    SCHEMA,
    TWICE,
    Meaning,
    meaning,
    plain,
    spellings,
    table,
)

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

DEEPEST = 5
NO_JSON = "it is no JSON object"
SEVERAL = "it holds several payloads: capture one a line"
OBJECT = r"json_valid(text) AND (text[1] = '{' OR regexp_matches(text, '^\s*\{'))"
# SQL's text of an object's keys.
KEYS = "json_keys(text)::VARCHAR"
# Fields that are signed, where a capture has made numbers of them.
NUMBERS = (
    r'(?i)"(?:api[-_]?key|client[-_]?ref|err[-_]?code|message[-_]?timestamp|msisdn|'
    r'network[-_]?code|nonce|price|scts|status|to)"\s*:\s*[^"\sn]'
)
# Lines that are no objects are named one by one up to so many.
FEW_OTHERS = 1000
# Where envelopes keep what is not of the payload.
HEADERS = ("Authorization", "authorization")
TIMES = ("/requestContext/timeEpoch", "/requestContext/time")
# Texts under a payload's name that say that there is none.
NOTHING = ("", "-", "null", "{}")

# Enters receipts that need no second look. Given the engine, SQL of their raw fields (`line`, and
# columns of `FIELDS`), which columns these are, and the lines that may be among them; says which
# lines were.
Enter = Callable[["DuckDBPyConnection", str, Collection[str], pa.ChunkedArray], pa.Array]

LEVEL = pa.schema(
    [(name, pa.int64() if name == "line" else pa.string())
     for name in ("line", "text", "outer_at", "outer_authorization", "body", "outer_problem",
                  "outer_kind")]
)  # fmt: skip


def from_json(con: DuckDBPyConnection, lines: pa.Table, enter: Enter | None = None) -> pa.Table:
    """Raw fields of lines (`lines.SCHEMA`), in no certain order: columns of `fields.SCHEMA`.

    Of those lines that were entered there are none.
    """
    told = pc.or_(lines["blank"], pc.is_valid(lines["problem"]))
    done, rows = [], lines.select(["line", "text"])
    if pc.any(told).as_py():
        aside = lines.filter(told)
        done.append(table(aside["line"], blank=aside["blank"], problem=aside["problem"]))
        rows = rows.filter(pc.invert(told))
    return pa.concat_tables(
        [*done, *from_texts(con, _level(rows, {}), enter)] or [SCHEMA.empty_table()]
    )


def from_texts(
    con: DuckDBPyConnection, rows: pa.Table, enter: Enter | None = None, *, queries: bool = False
) -> list[pa.Table]:
    """Raw fields of payloads (`LEVEL`), unwrapped until nothing is left to unwrap."""
    done = []
    for depth in range(DEEPEST):
        if depth or queries:
            is_json = pc.match_substring_regex(rows["text"], r"^\s*\{")
            done.append(_from_queries(rows.filter(pc.invert(is_json))))
            rows = rows.filter(is_json)
        if not rows.num_rows:
            break
        found, rows = _one_level(con, rows, enter, last=depth == DEEPEST - 1)
        done += found
    return [part for part in done if part.num_rows]


def _one_level(
    con: DuckDBPyConnection, rows: pa.Table, enter: Enter | None, *, last: bool
) -> tuple[list[pa.Table], pa.Table]:
    """The receipts of this level and what is none, and the payloads of its envelopes."""
    con.register("level", rows)
    try:
        shapes = _shapes(con)
        done = []
        if enter and shapes.plain and not _told(rows["outer_authorization"]):
            rows = rows.filter(pc.invert(enter(con, *_plain(shapes), rows["line"])))
            if not rows.num_rows:
                return [], rows
            con.register("level", rows)
        if shapes.receipts:
            fields = con.execute(_extraction(shapes)).to_arrow_table()
            whole = pc.fill_null(fields["is_receipt"], fill_value=False)
            if pc.all(whole).as_py():
                return [_receipts(con, rows, fields, shapes)], rows.slice(0, 0)
            left = fields["line"].filter(pc.invert(whole))
            done.append(_receipts(con, rows, fields.filter(whole), shapes))
            rows = rows.filter(pc.is_in(rows["line"], left.combine_chunks()))
            con.register("level", rows)
        opened, strangers = _envelopes(con, shapes, last=last)
        return [*done, strangers], opened
    finally:
        con.unregister("level")


@dataclass(frozen=True)
class _Shapes:
    """The different lists of keys that lines have, and what each of them means.

    Attributes:
        meanings: by list.
        others: the lines that are no objects.
        misleading: lists, as SQL's text, that are no receipt's, though they name an id and a
            status: of a queue, say, around a receipt.
    """

    meanings: dict[tuple[str, ...], Meaning]
    others: list[int]
    misleading: list[str]

    @property
    def may_be_receipt(self) -> str:
        """SQL that tells objects, less the misleading; where the others are few, none is parsed."""
        if self.misleading:
            listed = ", ".join(map(quote, self.misleading))
            return f"CASE WHEN {OBJECT} THEN {KEYS} NOT IN ({listed}) ELSE false END"
        if len(self.others) > FEW_OTHERS:
            return OBJECT
        return f"line NOT IN ({', '.join(map(str, self.others))})" if self.others else "true"

    @property
    def plain(self) -> bool:
        """Whether there are receipts, of which none is signed or says anything twice."""
        signed = self.spelled["sig"] or self.spelled["authorization"]
        return bool(self.receipts) and not signed and not self.twofold

    @property
    def receipts(self) -> list[tuple[str, ...]]:
        return [keys for keys, means in self.meanings.items() if means.receipt]

    def names(self, shapes: Iterable[tuple[str, ...]]) -> list[str]:
        return list(dict.fromkeys(name for keys in shapes for name in keys))

    @property
    def spelled(self) -> dict[str, list[tuple[str, ...]]]:
        """Where each raw field lies in this level's receipts."""
        names = self.names(self.receipts)
        found: dict[str, list[tuple[str, ...]]] = {
            f: [(name,) for name in own] for f, own in spellings(names).items()
        }
        for path, field in NESTED.items():
            if path[0] in names:
                found[field].append(path)
        return found

    @property
    def strange(self) -> bool:
        """Whether receipts have names that are no field's."""
        names = self.names(self.receipts)
        return len(names) > sum(map(len, spellings(names).values()))

    @property
    def twofold(self) -> list[tuple[str, ...]]:
        """Lists in which a field stands twice."""
        return [keys for keys in self.receipts
                if any(len(own) > 1 for field, own in spellings(keys).items()
                       if field != "captured_at")]  # fmt: skip


def _shapes(con: DuckDBPyConnection) -> _Shapes:
    # As texts, which become the same lists again (a test holds it), they are grouped faster.
    found = con.execute(
        f"SELECT keys, keys::VARCHAR[], list(line) FILTER (keys IS NULL) "
        f"FROM (SELECT line, CASE WHEN {OBJECT} THEN {KEYS} END AS keys FROM level) "
        "GROUP BY keys"
    ).fetchall()
    others: list[int] = next((lines for text, _, lines in found if text is None), [])
    told = sorted((tuple(keys), text) for text, keys, _ in found if text is not None)
    meanings = {keys: meaning(keys) for keys, _ in told}
    misleading = [text for keys, text in told
                  if not meanings[keys].receipt and _names_receipt(keys)]  # fmt: skip
    return _Shapes(meanings, others, misleading)


def _names_receipt(keys: tuple[str, ...]) -> bool:
    own = spellings(keys)
    return bool(own["message_id"] or own["message_uuid"]) and bool(own["status"])


def _plain(shapes: _Shapes) -> tuple[str, Collection[str]]:
    """SQL of the raw fields of those receipts at this level that need no second look; which they
    are."""
    columns = {f: f'"{f}"' for f, own in shapes.spelled.items() if own}
    columns["captured_at"] = f"coalesce({columns.get('captured_at', 'NULL::VARCHAR')}, outer_at)"
    told = ", ".join(f'{value} AS "{field}"' for field, value in columns.items())
    identity = "coalesce(message_id, message_uuid)"
    listed = " OR ".join(f"starts_with({identity}, '{start}')" for start in "[{")
    good = f"is_receipt AND number_id IS NOT TRUE AND NOT ({listed})"
    # A condition would be moved to where the text is read, and have it read twice; not so one that
    # the engine takes for a matter of chance.
    by_chance = f"coalesce({good}, random() > 1)"
    return f"SELECT line, {told} FROM ({_extraction(shapes)}) WHERE {by_chance}", columns


def _extraction(shapes: _Shapes) -> str:
    """SQL of all raw fields at this level, from one pass over the text."""
    spelled = shapes.spelled
    paths = list(dict.fromkeys(path for own in spelled.values() for path in own))
    found, place = _found(paths)
    places = {field: [place[path] for path in own] for field, own in spelled.items()}
    fields = ", ".join(f'{_first(own)} AS "{field}"' for field, own in places.items())
    ids = [*spelled["message_id"], *spelled["message_uuid"]]
    number = " OR ".join(
        f"CASE WHEN regexp_full_match({place[path]}, '[-+.0-9eE]+') "
        f"THEN json_type(text, {_pointer(*path)}) IN ('UBIGINT', 'BIGINT', 'DOUBLE', 'HUGEINT') "
        "ELSE false END"
        for path in ids
    )  # fmt: skip
    return f"""
        SELECT line, outer_at, ({number}) AS number_id, {fields},
            {_first([place[path] for path in ids])} IS NOT NULL
                AND {_first(places["status"])} IS NOT NULL AS is_receipt,
            CASE WHEN {_first(places["sig"])} IS NOT NULL
                THEN NOT regexp_matches(text, {quote(NUMBERS)}) ELSE true END AS exact
        FROM (SELECT line, outer_at, text,
                CASE WHEN {shapes.may_be_receipt} THEN {found} END AS found FROM level)
    """


def _found(paths: list[tuple[str, ...]]) -> tuple[str, dict[tuple[str, ...], str]]:
    """SQL of what lies at these paths, and of each of them within it.

    A struct is read fastest, but the engine does not tell its names apart by case.
    """
    names = {name.lower() for path in paths for name in path[:1]}
    if len(names) == len({path[0] for path in paths}):
        structure: dict[str, Any] = {}
        for *outer, name in paths:
            inside = structure
            for each in outer:
                inside = inside.setdefault(each, {})
            inside[name] = "VARCHAR"
        struct = f"json_transform(text, {quote(json.dumps(structure))})"
        return struct, {p: "found" + "".join(f"[{quote(n)}]" for n in p) for p in paths}
    listed = ", ".join(_pointer(*path) for path in paths)
    places = {path: f"found[{n}]" for n, path in enumerate(paths, 1)}
    return f"json_extract_string(text, [{listed}])", places


def _receipts(
    con: DuckDBPyConnection, rows: pa.Table, fields: pa.Table, shapes: _Shapes
) -> pa.Table:
    """Receipts of this level; `rows` has the texts of all of it."""
    count = fields.num_rows
    nothing = pa.nulls(count, pa.string())
    columns = {name: fields[name] for name in FIELDS} | {"exact": fields["exact"]}
    problem = nothing
    if pc.any(fields["number_id"]).as_py():
        problem = pc.if_else(fields["number_id"], NUMBER_ID, nothing)
    if shapes.twofold and count:
        twice = _said_twice(con, fields["line"], rows)
        problem = pc.if_else(twice, TWICE, problem)
    if _told(fields["sig"]):
        text = rows["text"].take(pc.index_in(fields["line"], rows["line"]))
        columns["extra"] = pc.if_else(pc.is_valid(fields["sig"]), text, nothing)
        if shapes.strange:
            # Beside a receipt's own parameters there are some that the capture may have added.
            body = rows["body"].take(pc.index_in(fields["line"], rows["line"]))
            columns["exact"] = pc.and_(fields["exact"], pc.is_valid(body))
    if wrapped := [n for n in ("outer_at", "outer_authorization", "body") if _told(rows[n])]:
        around = rows.take(pc.index_in(fields["line"], rows["line"]))
        for name, outer in (("captured_at", "outer_at"),
                            ("authorization", "outer_authorization")):  # fmt: skip
            if outer in wrapped:
                columns[name] = pc.coalesce(columns[name], around[outer])
        columns["body"] = around["body"]
    listed = nested_id(columns)
    if pc.any(listed).as_py():
        columns |= {n: pc.if_else(listed, _singles(columns[n]), columns[n]) for n in FIELDS}
        columns["exact"] = pc.and_(columns["exact"], pc.invert(listed))
        problem = pc.if_else(nested_id(columns), NESTED_ID, problem)
    return table(fields["line"], problem=problem, **columns)


def nested_id(columns: Mapping[str, Any]) -> Any:
    """Which ids are lists or objects, as JSON text."""
    ids = pc.fill_null(pc.coalesce(columns["message_id"], columns["message_uuid"]), "")
    return pc.or_(pc.starts_with(ids, "["), pc.starts_with(ids, "{"))


def _singles(values: Any) -> pa.Array:
    """Lists of one text, which some parsers of queries make of every value, as that text."""
    return pa.array([_single(value) for value in values.to_pylist()], pa.string())


def _single(value: str | None) -> str | None:
    if value is None or not value.startswith("["):
        return value
    try:
        inner = json.loads(value)
    except (ValueError, RecursionError):
        return value
    return inner[0] if len(inner) == 1 and isinstance(inner[0], str) else value


def _told(column: Any) -> bool:
    return bool(column.null_count < len(column))


def _said_twice(con: DuckDBPyConnection, wanted: Any, rows: pa.Table) -> pa.Array:
    """Which lines give a field twice, differently; few have the names for it, and only they are
    looked at one by one."""
    keys = con.execute(f"SELECT line, json_keys(text) FROM level WHERE {OBJECT}").fetchall()
    suspects = [line for line, own in keys
                if any(len(names) > 1 for f, names in spellings(own).items()
                       if f != "captured_at")]  # fmt: skip
    few = rows.filter(pc.is_in(rows["line"], pa.array(suspects, pa.int64())))
    texts = zip(few["line"].to_pylist(), few["text"].to_pylist(), strict=True)
    differ = [line for line, text in texts if _differs(text)]
    return pc.is_in(wanted, pa.array(differ, pa.int64()))


def _differs(text: str) -> bool:
    def pairs(items: list[tuple[str, Any]]) -> list[tuple[str, Any]]:
        return items

    try:
        items = json.loads(text, object_pairs_hook=pairs)
    except (ValueError, RecursionError):
        return True
    said: dict[str, set[str]] = {}
    of = {name: f for f, names in spellings([k for k, _ in items]).items() for name in names}
    for name, value in items:
        if value is not None and of.get(name, "captured_at") != "captured_at":
            said.setdefault(of[name], set()).add(str(value))
    return any(len(values) > 1 for values in said.values())


def _envelopes(
    con: DuckDBPyConnection, shapes: _Shapes, *, last: bool
) -> tuple[pa.Table, pa.Table]:
    """What is no receipt: the payloads of envelopes, and what is none."""
    every = shapes.names(shapes.meanings)
    inner = sorted({name for m in shapes.meanings.values() for name in m.envelope},
                   key=lambda name: _rank(name, every))  # fmt: skip
    times = [_pointer(n) for key in (*CAPTURED_AT, "timestamp") for n in every if plain(n) == key]
    headers = [n for n in every if plain(n) in ("headers", "header")]
    bearer = [_pointer(n) for n in every if plain(n) in FIELDS["authorization"]]
    bearer += [_pointer(n, header) for n in headers for header in HEADERS]
    quoted = [_pointer(name) for name in inner]
    nothing = ", ".join(map(quote, NOTHING))
    rows = con.execute(f"""
        SELECT line, outer_problem, outer_kind, keys, outer_body,
            coalesce({_extracted([*times, *map(quote, TIMES)])}, outer_at) AS outer_at,
            coalesce({_extracted(bearer)}, outer_authorization) AS outer_authorization, payload,
            CASE WHEN payload IS NOT NULL THEN json_type(text, [{", ".join(quoted)}]::VARCHAR[])
                [list_position(found, payload)] = 'VARCHAR' END AS is_text
        FROM (SELECT *, coalesce(
                list_filter(good, lambda c: regexp_matches(c, '(?i)message[-_]?(id|uuid)'))[1],
                good[1]) AS payload
            FROM (SELECT *, list_filter(found, lambda c: c NOT IN ({nothing})) AS good
                FROM (SELECT line, text, outer_at, outer_authorization, outer_problem, outer_kind,
                        body AS outer_body,
                        CASE WHEN {OBJECT} THEN json_keys(text) END AS keys,
                        CASE WHEN {OBJECT}
                            THEN json_extract_string(text, [{", ".join(quoted)}]::VARCHAR[])
                            END AS found
                    FROM level)))
    """).to_arrow_table()
    return _sorted_out(rows, shapes, last=last)


def _sorted_out(rows: pa.Table, shapes: _Shapes, *, last: bool) -> tuple[pa.Table, pa.Table]:
    encoded = [None if keys is None else tuple(keys) for keys in rows["keys"].to_pylist()]
    own = [Meaning(problem=NO_JSON) if k is None else shapes.meanings[k] for k in encoded]
    payload = [m.envelope and p for m, p in zip(own, rows["payload"].to_pylist(), strict=True)]
    deeper = pa.array([bool(p) and not last for p in payload], pa.bool_())
    kind = pa.array([m.kind or None for m in own], pa.string())
    problem = pa.array([m.problem or None for m in own], pa.string())
    rows = rows.append_column("kind", kind).append_column("problem", problem)
    opened, closed = rows.filter(deeper), rows.filter(pc.invert(deeper))
    body = pc.if_else(pc.fill_null(opened["is_text"], fill_value=False), opened["payload"],
                      pa.nulls(opened.num_rows, pa.string()))  # fmt: skip
    level = _level(opened, {
        "text": opened["payload"], "body": body, "outer_problem": opened["problem"],
        "outer_kind": opened["kind"],
    })  # fmt: skip
    return level, table(closed["line"], problem=closed["problem"], kind=closed["kind"])


def _from_queries(rows: pa.Table) -> pa.Table:
    """Raw fields of payloads that are no objects; what is no query either is what it lay in."""
    text = rows["text"].combine_chunks()
    listed = pc.match_substring_regex(text, r"^\s*\[")
    query = query_fields.query_of(text)
    fields = query_fields.from_queries(query)
    none = pc.is_null(query)
    problem = pc.if_else(none, rows["outer_problem"], fields["problem"])
    problem = pc.if_else(listed, SEVERAL, problem)
    kind = pc.if_else(none, rows["outer_kind"], fields["kind"])
    kind = pc.if_else(listed, pa.scalar(None, pa.string()), kind)
    values = {name: fields[name] for name in FIELDS}
    values["captured_at"], values["authorization"] = rows["outer_at"], rows["outer_authorization"]
    exact = pa.array([True] * len(text), pa.bool_())
    return table(
        rows["line"], problem=problem, kind=kind, extra=fields["extra"], exact=exact, **values
    )


def _level(rows: pa.Table, columns: dict[str, Any]) -> pa.Table:
    given = {name: rows[name] for name in rows.column_names if name in LEVEL.names} | columns
    return pa.table(
        [given.get(f.name, pa.nulls(rows.num_rows, f.type)) for f in LEVEL], schema=LEVEL
    )


def _rank(name: str, every: list[str]) -> tuple[int, int]:
    return ENVELOPE.index(plain(name)), every.index(name)


def _extracted(pointers: list[str]) -> str:
    """SQL of the first of these that a text has."""
    if not pointers:
        return "NULL::VARCHAR"
    found = f"json_extract_string(text, [{', '.join(pointers)}])"
    return f"CASE WHEN keys IS NOT NULL THEN list_filter({found}, lambda c: c IS NOT NULL)[1] END"


def _first(values: list[str]) -> str:
    if len(values) > 1:
        return f"coalesce({', '.join(values)})"
    return values[0] if values else "NULL::VARCHAR"


def _pointer(*names: str) -> str:
    return quote("".join("/" + n.replace("~", "~0").replace("/", "~1") for n in names))
