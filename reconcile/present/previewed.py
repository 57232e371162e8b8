"""`ingest --dry-run`: what captures hold, file by file."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from reconcile.days import iso
from reconcile.present.text import render

if TYPE_CHECKING:
    from reconcile.receipts.preview import Preview

COLUMNS = ("file", "format", "lines", "receipts", "not receipts", "errors", "blank",
           "taken before", "first", "last", "known ids")  # fmt: skip
REASONS = ("file", "kind", "reason", "lines", "first line")


def previewed(files: list[Preview], form: str) -> str:
    """Lines about each file; CSV, Markdown: a row a file and a row a reason; JSON: objects."""
    if form == "table":
        return "".join(map(_told, files))
    if form == "json":
        return _json(files)
    import pandas as pd

    rows = pd.DataFrame([_row(told) for told in files], columns=list(COLUMNS), dtype=object)
    reasons = pd.DataFrame(
        [(told.path, each.kind, each.reason, each.lines, each.first_line)
         for told in files for each in told.rejected], columns=list(REASONS), dtype=object,
    )  # fmt: skip
    return render(rows, form) + "\n" + render(reasons, form)


def _told(told: Preview) -> str:
    capture = told.capture
    if capture is None:
        return f"{told.path}\n  {told.problem.removeprefix(f'the capture {told.path} ')}\n"
    row = dict(zip(COLUMNS, _row(told), strict=True))
    lines = [
        told.path,
        f"{row['format']}: {capture.lines:,} lines = {capture.receipts:,} receipts + "
        f"{capture.strangers:,} not receipts + {row['errors']:,} errors + {capture.blank:,} blank"
        + (f"; the first {told.taken:,} lines were taken in before" if told.taken else ""),
    ]
    if told.first:
        share = f" ({row['known ids']:.1%})" if told.ids else ""
        lines.append(
            f"from {row['first']} to {row['last']}; the store has records of {told.known_ids:,} of "
            f"{told.ids:,} message ids{share}"
        )
    lines += [
        f"{each.lines:,} × {each.kind}, first in line {each.first_line:,}: {each.reason}"
        for each in told.rejected
    ]
    lines += filter(None, [_waiting(told)])
    return "\n  ".join(lines) + "\n"


def _row(told: Preview) -> tuple[Any, ...]:
    capture = told.capture
    if capture is None:
        return (told.path, told.problem, *[None] * (len(COLUMNS) - 2))
    kind = " in ".join(filter(None, (capture.format or "empty", told.compressed)))
    first, last = (moment and iso(moment) for moment in (told.first, told.last))
    share = told.known_ids / told.ids if told.ids else None
    return (told.path, kind, capture.lines, capture.receipts, capture.strangers,
            capture.rejects - capture.strangers, capture.blank, told.taken, first, last,
            share)  # fmt: skip


def _waiting(told: Preview) -> str:
    capture = told.capture
    if capture is None:
        return ""
    if capture.damage:
        return f"not read to its end: {capture.damage}"
    if capture.waits:
        return f"the last line has no end yet: its {capture.waits:,} bytes would wait for it"
    return ""


def _json(files: list[Preview]) -> str:
    import json

    found = []
    for told in files:
        entry = dict(zip(COLUMNS, _row(told), strict=True)) | {
            "rejects": [vars(each) for each in told.rejected],
            "note": _waiting(told) or told.problem or None,
        }
        found.append({name.replace(" ", "_"): value for name, value in entry.items()})
    return json.dumps(found, indent=1, ensure_ascii=False) + "\n"
