"""Query strings and form bodies → raw fields: `messageId=…&status=…`, all lines at once.

Also what holds one: a URL, a request line (`GET /dlr?… HTTP/1.1`), a line of an access log.
"""

from __future__ import annotations

import json
from urllib.parse import unquote, unquote_plus

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from reconcile.receipts.fields import (
    FIELDS,
    NOT_A_RECEIPT,
    TWICE,
    meaning,
    spellings,
    stranger,
)

# The combined format of nginx and Apache, whatever stands before the time. Anchored, and each char
# decides: the expression is matched in one pass.
ACCESS = (
    r'^[^\["]*\[(?P<time>[^\]"]+)\] "(?P<method>[A-Z]+) '
    r'(?P<path>[^ "?#]*)(?:\?(?P<query>[^ "#]*))?[ "#]'
)
# A query by itself, or behind a path, a URL or a method.
QUERY = r'^\s*"?(?:[A-Z]+ )?(?:[^ ?=&"]*\?)?(?P<query>[^ ?=&"]+=[^ "]*)(?: HTTP/[0-9.]+)?"?\s*$'
HEALTH = r"(?i)^/*(?:.*/)?(?:health[a-z_-]*|live[a-z]*|ready[a-z]*|ping|status|up)?/?$"
# None of these can make a new escape of what stands around it; the rest is decoded word by word.
COMMON = (("%3A", ":"), ("%20", " "), ("%2B", "+"))
NO_REQUEST = "it is no line of an access log"
NO_QUERY = "it is no query string"
# Of a callback's own parameters none is the time at which it was captured.
_OWN = {field: own for field, own in FIELDS.items() if field != "captured_at"}


def from_access_log(text: pa.Array) -> pa.Table:
    """Raw fields of lines of an access log: columns of `FIELDS` and `problem`, `kind`, `extra`."""
    found = pc.extract_regex(text, ACCESS)
    time, method, path, query = found.flatten()
    table = from_queries(query)
    columns = {name: table[name] for name in table.column_names} | {"captured_at": time}
    lacking = pc.or_(pc.is_null(query), pc.is_valid(table["problem"]))
    if pc.any(lacking).as_py():
        columns |= _requests(lacking, found, method, path, table)
    return pa.table(columns)


def query_of(text: pa.Array) -> pa.Array:
    """The query that a text is or holds; null where there is none."""
    query = pc.struct_field(pc.extract_regex(text, QUERY), "query")
    if query.null_count:  # a line of an access log, as a container's log wraps it
        logged = pc.struct_field(pc.extract_regex(text, ACCESS), "query")
        query = pc.coalesce(query, pc.if_else(pc.equal(logged, ""), None, logged))
    return query


def from_queries(query: pa.Array) -> pa.Table:
    """Raw fields of queries, decoded; a null has the problem that it is none."""
    query = query.combine_chunks() if isinstance(query, pa.ChunkedArray) else query
    rows, names, values = _pairs(query)
    words = names.dictionary.to_pylist()
    code = names.indices.to_numpy(zero_copy_only=False)
    fields = list(_OWN)
    of_name = {n: fields.index(f) for f, own in spellings(words).items() if f in _OWN for n in own}
    field_of = np.array([of_name.get(name, -1) for name in words], np.int8)[code]
    columns, twice = {}, np.zeros(len(query), bool)
    for field in FIELDS:
        mine = np.flatnonzero(field_of == fields.index(field)) if field in _OWN else code[:0]
        columns[field], often = _column(len(query), mine, rows, values)
        twice[often] = True
    shaped = _shapes(len(query), rows, code, words, columns)
    problem = pc.if_else(pa.array(twice), TWICE, shaped["problem"])
    problem = pc.if_else(pc.is_null(query), NO_QUERY, problem)
    extra = _extra(rows, code, field_of, words, values, columns["sig"])
    return pa.table({"problem": problem, "kind": shaped["kind"], **columns, "extra": extra})


def _pairs(query: pa.Array) -> tuple[np.ndarray, pa.DictionaryArray, pa.Array]:
    """Of all `name=value` the row, the decoded name, and the value as it stands."""
    listed = pc.split_pattern(query, "&")
    rows = pc.list_parent_indices(listed).to_numpy(zero_copy_only=False)
    split = pc.split_pattern(pc.list_flatten(listed), "=", max_splits=1)
    parts, starts = split.flatten(), split.offsets.to_numpy()[:-1]
    starts = starts - (split.offsets[0].as_py() if len(split.offsets) else 0)
    with_value = np.diff(split.offsets.to_numpy()) > 1
    names = parts.take(pa.array(starts)).dictionary_encode()
    decoded = pa.array([unquote_plus(name) for name in names.dictionary.to_pylist()], pa.string())
    names = pa.DictionaryArray.from_arrays(names.indices, decoded)
    values = parts.take(pa.array(np.where(with_value, starts + 1, 0), mask=~with_value))
    return rows, names, values


def _column(
    length: int, mine: np.ndarray, rows: np.ndarray, values: pa.Array
) -> tuple[pa.Array, np.ndarray]:
    """A field's value in each row, decoded, and the rows that give it twice, differently.

    Args:
        length: how many rows there are.
        mine: which of all pairs are of this field, in order.
        rows: the row of each pair.
        values: the value of each pair.
    """
    if not len(mine):
        return pa.nulls(length, pa.string()), mine
    own = rows[mine]
    found = np.full(length, -1, np.int64)
    found[own[::-1]] = mine[::-1]  # the first of several wins
    often = own[1:][own[1:] == own[:-1]]
    if len(often):
        first = values.take(pa.array(found[own]))
        differ = pc.fill_null(pc.not_equal(values.take(pa.array(mine)), first), fill_value=False)
        often = own[differ.to_numpy(zero_copy_only=False)]
    return _decoded(values.take(pa.array(found, mask=found < 0))), often


def _decoded(values: pa.Array) -> pa.Array:
    """Percent-decoded, `+` as space; bytes that are no UTF-8 are replaced."""
    if _any(values, "+"):
        values = pc.replace_substring(values, "+", " ")
    if not _any(values, "%"):
        return values
    for escape, char in COMMON:
        values = pc.replace_substring(values, escape, char)
    escaped = pc.fill_null(pc.match_substring(values, "%"), fill_value=False)
    if not pc.any(escaped).as_py():
        return values
    unique = values.filter(escaped).dictionary_encode()
    words = pa.array([unquote(word) for word in unique.dictionary.to_pylist()], pa.string())
    return pc.replace_with_mask(values, escaped, words.take(unique.indices))


def _any(values: pa.Array, text: str) -> bool:
    return bool(pc.any(pc.match_substring(values, text)).as_py())


def _shapes(
    length: int, rows: np.ndarray, code: np.ndarray, names: list[str], columns: dict[str, pa.Array]
) -> dict[str, pa.Array]:
    """Kind and problem of the rows that are no receipts, by their names."""
    named = pc.coalesce(columns["message_id"], columns["message_uuid"])
    lacking = pc.or_(pc.is_null(named), pc.is_null(columns["status"]))
    kinds: list[str | None] = [None] * length
    problems: list[str | None] = [None] * length
    if pc.any(lacking).as_py():
        wanted = lacking.to_numpy(zero_copy_only=False)
        own: dict[int, set[int]] = {row: set() for row in np.flatnonzero(wanted).tolist()}
        few = wanted[rows]
        for row, name in zip(rows[few].tolist(), code[few].tolist(), strict=True):
            own[row].add(name)
        for row, present in own.items():
            means = meaning(names[n] for n in present)
            kinds[row], problems[row] = means.kind or None, means.problem or None
    return {"kind": pa.array(kinds, pa.string()), "problem": pa.array(problems, pa.string())}


def _requests(
    lacking: pa.Array, found: pa.Array, method: pa.Array, path: pa.Array, table: pa.Table
) -> dict[str, pa.Array]:
    """Kind and problem of requests; those without a receipt's parameters by method and path."""
    kind, problem = table["kind"], table["problem"]
    strange = pc.fill_null(pc.match_substring(kind, f"{NOT_A_RECEIPT}:other"), fill_value=False)
    no_query = pc.fill_null(pc.equal(problem, NO_QUERY), fill_value=False)
    empty = pc.and_(lacking, pc.or_(strange, no_query))
    health = pc.and_(empty, pc.match_substring_regex(pc.fill_null(path, "?"), HEALTH))
    post = pc.and_(empty, pc.fill_null(pc.equal(method, "POST"), fill_value=False))
    for rows, name in ((empty, "other_request"), (health, "health_check"),
                       (post, "post_without_body")):  # fmt: skip
        its_kind, its_problem = stranger(name)
        kind = pc.if_else(rows, its_kind, kind)
        problem = pc.if_else(rows, its_problem, problem)
    no_line = pc.is_null(found)
    nothing = pa.nulls(len(no_line), pa.string())
    return {"kind": pc.if_else(no_line, nothing, kind),
            "problem": pc.if_else(no_line, NO_REQUEST, problem)}  # fmt: skip


def _extra(
    rows: np.ndarray, code: np.ndarray, field_of: np.ndarray, words: list[str], values: pa.Array,
    sig: pa.Array,
) -> pa.Array:  # fmt: skip
    """Parameters of signed queries that are no receipt's, as JSON: they may be signed as well."""
    signed = pc.is_valid(sig).to_numpy(zero_copy_only=False)
    found: dict[int, dict[str, str]] = {}
    if signed.any():
        for pair in np.flatnonzero((field_of < 0) & signed[rows]).tolist():
            value = values[pair].as_py() or ""
            found.setdefault(int(rows[pair]), {})[words[code[pair]]] = unquote_plus(value)
    if not found:
        return pa.nulls(len(sig), pa.string())
    return pa.array([json.dumps(found[n]) if n in found else None for n in range(len(sig))])
