"""Renews the parts of README.md that are made from code: `python -m reconcile.present.readme`."""

from __future__ import annotations

import re
import sys
from pathlib import Path

from reconcile.present.catalogue import network_rules_text, rules_text
from reconcile.present.text import markdown
from reconcile.receipts.formats import FORMATS
from reconcile.tables import TABLES


def renewed(text: str) -> str:
    """The README with its generated parts as the code says them now."""
    parts = {
        "tables": tables_text(), "verdicts": rules_text("markdown"), "formats": formats_text(),
        "networks": network_rules_text("markdown"),
    }  # fmt: skip
    for name, body in parts.items():
        found = re.compile(rf"(<!-- {name}:[^>]*-->\n).*?(<!-- /{name} -->)", re.DOTALL)
        text = found.sub(lambda m, body=body: f"{m[1]}{body}{m[2]}", text)  # type: ignore[misc] # bound at once
    return text


def tables_text() -> str:
    """One line a table."""
    rows = [[f"`{t.name}`", t.row, ", ".join(t.key)] for t in TABLES if t.written]
    return markdown(["table", "one row is", "key"], rows)


def formats_text() -> str:
    """One line a format of captures."""
    return markdown(["format", "what it is"], [[f"`{f.name}`", f.sentence] for f in FORMATS])


def main(path: Path) -> None:
    """Renews a README in its place."""
    path.write_text(renewed(path.read_text("utf-8")), "utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "README.md"))
