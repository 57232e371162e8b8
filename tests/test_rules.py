"""The rules, held against the truth tables in tests/truth: each line is a message and its verdict.

The first lines of tests/truth/grid.txt say how to read them.
"""

from __future__ import annotations

import functools
import re
from collections import defaultdict
from datetime import timedelta
from decimal import Decimal
from typing import Any

import judge_support as core
import pytest

from reconcile.judge.rules import CONTEXT_NAMES, CONTRADICTIONS, GRID, GRID_SENTENCES, RULES
from tests.truth_tables import DOCUMENT, NOT_HERE, Line, document, read_tables

_DURATION = re.compile(r"(\d+(?:\.\d+)?)(d|h|ms|m|s)")
_MS = {"d": 86_400_000, "h": 3_600_000, "m": 60_000, "s": 1000, "ms": 1}
# The words of a record and of a receipt → the columns that they fill.
RECORD_WORDS = {
    "to": "recipient", "network": "network_code", "country": "country", "account": "account_id",
    "product": "product", "price": "price", "sender": "sender", "sent_as": "sender_used",
    "record_err": "error_code", "latency": "latency_ms", "validity": "validity_ms",
    "fetched": "fetched_at",
}  # fmt: skip
RECEIPT_WORDS = {
    "to": "recipient", "network": "network_code", "account": "account_id", "product": "product",
    "price": "price", "err": "error_code", "seen": "captured_at", "signature": "signature",
    "scts": "scts",
}  # fmt: skip


LINES = read_tables()


def read_ms(text: str) -> int:
    """A duration such as `-1.001s` or `72h15m` in milliseconds."""
    bare = text.lstrip("+-")
    pieces = _DURATION.findall(bare)
    assert pieces, f"{text!r} is no duration"
    assert "".join(n + unit for n, unit in pieces) == bare, f"{text!r} is no duration"
    total = sum(Decimal(n) * _MS[unit] for n, unit in pieces)
    assert total == int(total)
    return int(-total if text.startswith("-") else total)


def read_words(text: str, known: dict[str, str], received_at: Any, ends: str) -> core.Row:
    """`delivered @+6s to=A` as columns; `ends` is the column that @ fills."""
    status, *words = text.split()
    row: core.Row = {"status": None if status == "-" else status, ends: None}
    for word in words:
        if word.startswith("@"):
            moment = word[1:]
            row[ends] = None if moment == "?" else received_at + _span(moment)
            continue
        key, value = word.split("=")
        column = known[key]
        if column.endswith("_ms"):
            row[column] = read_ms(value)
        elif column.endswith("_at"):
            row[column] = received_at + _span(value)
        elif column == "price":
            row[column] = core.money(value)
        else:
            row[column] = None if value == "-" else value
    return row


def _span(text: str) -> timedelta:
    return timedelta(milliseconds=read_ms(text))


def message(line: Line) -> tuple[list[core.Row], list[core.Row]]:
    """The records (the judged one first) and receipts of a line."""
    received_at = core.AS_OF - _span(line.cells["received"].removesuffix(" ago"))
    records = [
        core.record(
            line.name,
            received_at=received_at,
            **read_words(text, RECORD_WORDS, received_at, "finalized_at"),
        )
        for text in line.cells["record"].split(";")
    ]
    receipts = [
        core.receipt(line.name, **read_words(text, RECEIPT_WORDS, received_at, "pushed_at"))
        for text in line.cells["receipts"].split(";")
        if text.strip()
    ]
    return records, receipts


def all_messages(several_owners: bool) -> tuple[list[core.Row], list[core.Row], dict[str, Any]]:
    """Records and receipts of all lines, and the key of each line's judged record by its name.

    Only lines with one record, unless ids may be shared.
    """
    records: list[core.Row] = []
    receipts: list[core.Row] = []
    first = {}
    for line in LINES:
        mine, heard = message(line)
        if several_owners or len(mine) == 1:
            records += mine
            receipts += heard
            first[line.name] = core.key_of(mine[0])
    return records, receipts, first


@functools.cache
def all_judged(several_owners: bool) -> dict[str, core.Row]:
    """All lines judged in one execution, by name."""
    records, receipts, first = all_messages(several_owners)
    rows = core.judged(records, receipts, several_owners=several_owners)
    by_key = {core.key_of(row): row for row in rows}
    return {name: by_key[key] for name, key in first.items()}


def tell(line: Line, row: core.Row) -> str:
    """What a line says, and what the rules said instead."""
    said = f"{line.name} ({line.section})\n" + "\n".join(
        f"  {heading:12} {cell}" for heading, cell in line.cells.items()
    )
    return f"{said}\n  judged:      {row['verdict']} {', '.join(row['reasons']) or '-'}"


@pytest.mark.parametrize("line", LINES, ids=lambda line: line.name)
def test_line(line: Line) -> None:
    """A message gets the verdict and exactly the reasons of its line."""
    row = all_judged(several_owners=True)[line.name]
    told = (line.cells["verdict"], line.reasons)
    assert (row["verdict"], row["reasons"]) == told, tell(line, row)


def test_owners_do_not_matter() -> None:
    """A record that shares its id with none is judged alike, whether ids may be shared or not."""
    alone, shared = all_judged(several_owners=False), all_judged(several_owners=True)
    assert len(alone) > 200
    for name, row in alone.items():
        assert (row["verdict"], row["reasons"]) == (
            shared[name]["verdict"],
            shared[name]["reasons"],
        ), name


def test_grid_lines_stand_where_they_say() -> None:
    """Each line of the table `grid` is in the row of the grid, and the column, that it names."""
    columns = {"nothing": (0,), "not final": (0,), "unknown": (1,), "same": (2,), "other": (3,),
               "definite": (2, 3)}  # fmt: skip
    rows = all_judged(several_owners=True)
    for line in LINES:
        if line.section == "grid":
            at, column = divmod(rows[line.name]["cell"], 4)
            assert line.cells["record is"] == GRID[at][0], line.name
            assert column in columns[line.cells["receipts say"]], line.name


def test_every_cell_has_a_line() -> None:
    """No cell of the grid is without a line; a record without an end can agree with none."""
    said = {
        (line.cells["record is"], line.cells["receipts say"])
        for line in LINES
        if line.section == "grid"
    }
    for name, *_ in GRID:
        ends = {"same", "other"} if name.startswith("definite") else {"definite"}
        for receipts in {"nothing", "not final", "unknown"} | ends:
            assert (name, receipts) in said, f"no line for {name} / {receipts}"


def test_record_without_end_agrees_with_none() -> None:
    """Where the record has no end, the columns same and other outcome say the same."""
    for name, _none, _unknown, same, other in GRID:
        if not name.startswith("definite"):
            assert same == other, name


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.name)
def test_every_rule_has_lines_on_both_sides(rule: Any) -> None:
    """Each rule has a table of its name: three lines or more where it holds, and one where not."""
    sides = [rule.name in line.reasons for line in LINES if line.section == rule.name]
    if rule.name in NOT_HERE:
        assert not sides, f"{rule.name} has a table: take it out of NOT_HERE"
    else:
        assert sides.count(True) >= 3, f"tests/truth lacks lines in which {rule.name} holds"
        assert False in sides, f"tests/truth lacks lines in which {rule.name} does not hold"


def test_every_reason_is_known() -> None:
    """A truth table names no reason that the rules do not have, and misses none but those told."""
    known = {rule.name for rule in RULES} | set(GRID_SENTENCES)
    named = {reason for line in LINES for reason in line.reasons}
    assert named == known - set(NOT_HERE)


def test_document_is_fresh() -> None:
    """docs/verdicts.md shows the tables as they are; `python -m tests.truth_tables` renews it."""
    assert DOCUMENT.read_text("utf-8") == document()


def test_every_cell_reason_has_a_sentence() -> None:
    """The grid's reasons and their sentences are the same words."""
    cells = [cell.split() for row in GRID for cell in row[1:]]
    assert {cell[1] for cell in cells if len(cell) > 1} == set(GRID_SENTENCES)


def test_context_comes_last() -> None:
    """The reasons of the verdict come first, then context, each in the order of the rules."""
    order = [rule.name for rule in RULES]
    for row in all_judged(several_owners=True).values():
        context = [reason in CONTEXT_NAMES for reason in row["reasons"]]
        assert context == sorted(context), row["reasons"]
        ruled = [order.index(reason) for reason in row["reasons"] if reason in order]
        assert ruled == sorted(ruled), row["reasons"]


def test_contradiction_outranks_all() -> None:
    """Who is contradicted is suspect, and every suspect of the grid is not."""
    contradictions = {rule.name for rule in CONTRADICTIONS}
    for row in all_judged(several_owners=True).values():
        if contradictions.intersection(row["reasons"]):
            assert row["verdict"] == "suspect"
            assert not set(GRID_SENTENCES).intersection(row["reasons"])


def test_rule_names_are_unique() -> None:
    """No reason is made in two places."""
    seen: dict[str, int] = defaultdict(int)
    for name in (*(rule.name for rule in RULES), *GRID_SENTENCES):
        seen[name] += 1
    assert set(seen.values()) == {1}
