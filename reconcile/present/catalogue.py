"""The rules and the contracts as text: for `rules`, `schema`, and the README's tables."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from reconcile.errors import UsageError
from reconcile.present.text import render
from reconcile.tables import BY_NAME, TABLES, Table

if TYPE_CHECKING:
    import pandas as pd


def all_rules() -> list[tuple[str | None, str, str]]:
    """Of each reason: its verdict, its name, when it holds."""
    from reconcile.judge.orphans import KINDS
    from reconcile.judge.rules import (
        CONTEXT,
        CONTRADICTIONS,
        GRID,
        GRID_SENTENCES,
        OUTAGE,
        REFINEMENTS,
    )

    cells = dict.fromkeys(tuple(c.split()) for row in GRID for c in row[1:] if " " in c)
    return [
        ("confirmed", "", "Record and deciding receipt tell the same end."),
        *((r.verdict, r.name, r.sentence) for r in CONTRADICTIONS),
        *((verdict, reason, GRID_SENTENCES[reason]) for verdict, reason in cells),
        *((r.verdict, r.name, r.sentence) for r in (*REFINEMENTS, OUTAGE)),
        *(("(context)", r.name, r.sentence) for r in CONTEXT),
        *(("(orphan)", kind, sentence) for kind, sentence in KINDS.items()),
    ]


def rules_frame() -> pd.DataFrame:
    """One row a reason: verdict, reason, when it holds."""
    import pandas as pd

    return pd.DataFrame(all_rules(), columns=["verdict", "reason", "holds when"])


def rules_text(form: str) -> str:
    """The rules in the order in which they are asked."""
    return render(rules_frame(), form)


def network_rules_text(form: str) -> str:
    """What is concluded of networks as a whole, and by which rules."""
    import pandas as pd

    from reconcile.judge.networks import NETWORK_RULES, NETWORK_VERDICTS
    from reconcile.judge.rules import OUTAGE

    rows = [
        ("masks all", OUTAGE.name, OUTAGE.sentence),
        *((f"tier {rule.tier}", rule.name, rule.sentence) for rule in NETWORK_RULES),
        *(("(verdict)", name, sentence) for name, sentence in NETWORK_VERDICTS.items()),
    ]
    return render(pd.DataFrame(rows, columns=["tier", "rule", "holds when"]), form)


def schema_text(name: str | None, form: str) -> str:
    """The contract of one table, or of all."""
    if name is not None and name not in BY_NAME:
        raise UsageError(f"there is no table {name}: the tables are {', '.join(BY_NAME)}")
    tables = [BY_NAME[name]] if name else list(TABLES)
    if form in ("json", "csv"):
        import pandas as pd

        frames = [_frame(table).assign(table=table.name) for table in tables]
        return render(pd.concat(frames)[["table", *_frame(tables[0]).columns]], form)
    return "\n".join(_heading(table, form) + render(_frame(table), form) for table in tables)


def _heading(table: Table, form: str) -> str:
    later = "" if table.written else " (declared; not written by this version)"
    line = f"{table.name}: one row is {table.row}; key: {', '.join(table.key)}{later}"
    return f"### {line}\n\n" if form == "markdown" else f"{line}\n"


def _frame(table: Table) -> Any:
    import pandas as pd

    rows = [(c.name, str(c.type), "yes" if c.nullable else "no", c.sentence) for c in table.columns]
    return pd.DataFrame(rows, columns=["column", "type", "null", "says"])
