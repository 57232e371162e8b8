"""The truth tables of tests/truth: read, and written as `docs/verdicts.md`.

    python -m tests.truth_tables

The tables are what the rules are held against; the document shows the same lines to people.
"""

from __future__ import annotations

import textwrap
from dataclasses import dataclass
from pathlib import Path

from reconcile.judge.orphans import KINDS
from reconcile.judge.rules import (
    CONTEXT,
    CONTRADICTIONS,
    GRID,
    GRID_SENTENCES,
    OUTAGE,
    REFINEMENTS,
    Rule,
)
from reconcile.present.text import markdown
from reconcile.tables import SUMMARY
from reconcile.vocabulary import VERDICTS

ROOT = Path(__file__).parent.parent
TRUTH = ROOT / "tests" / "truth"
ORPHANS = "orphans"
DOCUMENT = ROOT / "docs" / "verdicts.md"

# Rules that no line about one message can show, and why.
NOT_HERE = {
    "no_receipt_expected": "it holds where your capability table says `none`",
    "untrusted_network": "it holds where your capability table says `untrusted`",
    "unsent_by_us": "it takes a send log to see",
    OUTAGE.name: "it takes many messages to see",
}


@dataclass(frozen=True)
class Line:
    """One line of a truth table: where it stands, and its cells by their heading."""

    file: str
    number: int
    section: str
    cells: dict[str, str]

    @property
    def name(self) -> str:
        return f"{self.file}:{self.number:03d}"

    @property
    def reasons(self) -> list[str]:
        told = self.cells["reasons"]
        return [] if told == "-" else [reason.strip() for reason in told.split(",")]


@dataclass
class Section:
    """A table with its name and what is written above it; `prose` of the first: how to read all."""

    name: str
    prose: list[str]
    lines: list[Line]

    @property
    def paragraphs(self) -> list[str]:
        return [" ".join(part.split()) for part in "\n".join(self.prose).split("\n\n") if part]


def read_file(path: Path) -> list[Section]:
    """What stands before the first table, and each table."""
    sections, heading = [Section("", [], [])], None
    for number, text in enumerate(path.read_text("ascii").splitlines(), 1):
        if text.startswith("## "):
            sections.append(Section(text[3:].strip(), [], []))
            heading = None
        elif "|" not in text:
            sections[-1].prose.append(text)
        else:
            cells = [cell.strip() for cell in text.split("|")]
            if heading is None:
                heading = cells
            else:
                found = dict(zip(heading, cells, strict=True))
                sections[-1].lines.append(Line(path.name, number, sections[-1].name, found))
    return sections


def read_tables() -> list[Line]:
    """Every line of every truth table about messages."""
    paths = (path for path in sorted(TRUTH.glob("*.txt")) if path.stem != ORPHANS)
    return [line for path in paths for section in read_file(path) for line in section.lines]


def read_orphans() -> list[Line]:
    """Every line of the truth table about receipts that join no record."""
    return [line for section in read_file(TRUTH / f"{ORPHANS}.txt") for line in section.lines]


def document() -> str:
    """The truth tables as one document."""
    grid, contradictions, refinements, context, lone = (
        read_file(TRUTH / f"{name}.txt")
        for name in ("grid", "contradictions", "refinements", "context", ORPHANS)
    )
    first, how_to_read = grid[0].paragraphs
    parts = [
        "# What a message is called, and why",
        _wrapped(
            first + " Every line below is a test: the job gives the message exactly this verdict "
            "and these reasons, on DuckDB and on Spark."
        ),
        "<!-- made by `python -m tests.truth_tables` from tests/truth, checked by the tests -->",
        "## How to read the tables",
        _wrapped(f"They show {how_to_read.removeprefix('How to read the tables: ')}"),
        _wrapped(
            "Unless a line says otherwise: validity is 72 h, grace 24 h, the recipient is A, the "
            "network is 26201 (Germany), a receipt without `@` has no time, and what a receipt "
            "does not name does not count. The reasons of the verdict come first, then context; "
            "`-` is none."
        ),
        "## The six verdicts",
        markdown(["verdict", "what it says", "its reasons"], _verdicts()),
        "## In which order",
        _wrapped(
            "First the contradictions: if any holds, the message is `suspect`, and all that hold "
            "are named. Else the grid answers; a refinement may replace its answer, the first that "
            "holds. Context is added at the end and makes no verdict."
        ),
        "## The grid",
        _wrapped(
            "The record stands in rows, the deciding receipt in columns: the last that tells an "
            "end, else the last that says unknown, else the last."
        ),
        markdown(
            ["record", "no receipt, or none that is final", "unknown", "same end", "other end"],
            [[row[0], *row[1:]] for row in GRID],
        ),
        *(part for section in grid[1:] for part in _section(section, None)),
        "## Contradictions",
        *_rules(contradictions, CONTRADICTIONS),
        "## Refinements",
        *_rules(refinements, (*REFINEMENTS, OUTAGE)),
        "## Context",
        *_rules(context, CONTEXT),
        "## Receipts that join no record",
        "They have no verdict: they stand in `orphans`, each with its kind.",
        markdown(["kind", "what it is"], [[f"`{k}`", sentence] for k, sentence in KINDS.items()]),
        *(_wrapped(text) for text in lone[0].paragraphs),
        *(part for section in lone[1:] for part in _section(section, None)),
    ]
    return "\n\n".join(part.strip("\n") for part in parts) + "\n"


def _verdicts() -> list[list[str]]:
    """Each verdict with its sentence and its reasons."""
    says = {column.name: column.sentence for column in SUMMARY.columns}
    reasons: dict[str, dict[str, None]] = {verdict: {} for verdict in VERDICTS}
    for cell in (cell.split() for row in GRID for cell in row[1:]):
        reasons[cell[0]] |= dict.fromkeys(cell[1:])
    for rule in (*CONTRADICTIONS, *REFINEMENTS, OUTAGE):
        reasons[str(rule.verdict)][rule.name] = None
    return [
        [f"`{verdict}`", says[verdict], ", ".join(f"`{name}`" for name in names) or "none"]
        for verdict, names in reasons.items()
    ]


def _rules(sections: list[Section], rules: tuple[Rule, ...]) -> list[str]:
    """The parts of a chapter: each rule in the order of the rules, then what is about several."""
    by_name = {section.name: section for section in sections}
    parts = [_wrapped(text) for text in by_name[""].paragraphs]
    for rule in rules:
        parts += _section(by_name.pop(rule.name, Section(rule.name, [], [])), rule)
    for name, section in by_name.items():
        parts += _section(section, None) if name else []
    return parts


def _section(section: Section, rule: Rule | None) -> list[str]:
    """A table under its heading; a rule's under its sentence."""
    title = f"`{rule.name}`" if rule else section.name.capitalize()
    if section.name in KINDS:
        title = f"`{section.name}`"
    if section.name == "grid":
        title = "Each cell of the grid"
    parts = [f"### {title}"]
    if rule:
        made = f" It makes `{rule.verdict}`" if rule.verdict else ""
        over = f", in place of {_listed(rule.replaces)}" if rule.replaces else ""
        parts.append(_wrapped(rule.sentence + (f"{made}{over}." if made else "")))
        if rule.name in NOT_HERE:
            parts.append(f"No table of single messages can show it: {NOT_HERE[rule.name]}.")
    parts += [_wrapped(text) for text in section.paragraphs]
    if section.lines:
        names = list(section.lines[0].cells)
        rows = [[_cell(name, line.cells[name]) for name in names] for line in section.lines]
        parts.append(markdown(names, rows))
    if section.name == "grid":
        sentences = [[f"`{name}`", sentence] for name, sentence in GRID_SENTENCES.items()]
        parts.append(markdown(["reason of a cell", "what it says"], sentences))
    return parts


def _cell(name: str, text: str) -> str:
    """A record or a receipt in letters of equal width, several under each other."""
    if name not in ("record", "receipt", "receipts"):
        return text
    if text in ("", "-"):
        return "none"
    return "<br>".join(f"`{part.strip()}`" for part in text.split(";"))


def _listed(words: tuple[str, ...]) -> str:
    *most, last = (f"`{word}`" for word in words)
    return f"{', '.join(most)} or {last}" if most else last


def _wrapped(text: str) -> str:
    return textwrap.fill(text, 100, break_long_words=False, break_on_hyphens=False)


def main() -> None:
    """Writes the document."""
    DOCUMENT.parent.mkdir(exist_ok=True)
    DOCUMENT.write_text(document(), "utf-8")


if __name__ == "__main__":
    main()
