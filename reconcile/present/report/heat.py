"""Country × day, network × day: rates as tables whose cells have a colour beside their number."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from typing import TYPE_CHECKING, Any

from markupsafe import Markup

from reconcile.judge.networks import LEAST_MESSAGES
from reconcile.present.rates import MEASURES, rate, unconfirmed
from reconcile.present.report.gather import Gathered
from reconcile.vocabulary import UNKNOWN

if TYPE_CHECKING:
    import pandas as pd

# Where a step of the colour scale begins, in parts of one; 0 has a step of its own.
STEPS = (0.0, 0.0, 0.01, 0.02, 0.05, 0.10, 0.20)
STEP_WORDS = ("0", "under 1 %", "1 to 2 %", "2 to 5 %", "5 to 10 %", "10 to 20 %", "20 % or more")
FIRST_ROWS, MOST_CELLS = 25, 45_000
SUMS = ("messages", "pending", "not_expected", *MEASURES, "missing_capture_outage")


@dataclass(frozen=True)
class Row:
    """A place and its cells, one a day: (class, text)."""

    name: str
    cells: list[tuple[str, str]]

    @property
    def html(self) -> Markup:
        """The cells at once: tens of thousands of them, and only numbers and signs of our own."""
        cells = (f"<td class={kind}>{text.replace('<', '&lt;')}" for kind, text in self.cells)
        return Markup("".join(cells))  # noqa: S704


@dataclass(frozen=True)
class HeatMap:
    """One measure of one kind of place: the rows in sight, those behind them, and how many more."""

    measure: str
    first: list[Row]
    rest: list[Row]
    left_out: int


def heat_maps(found: Gathered, keys: tuple[str, ...]) -> list[HeatMap]:
    """For each measure a map of the places with these keys, those with most to explain first."""
    by_day = found.summary.groupby([*keys, "date"], sort=True)[list(SUMS)].sum()
    names = _names(found.summary, keys)
    cells: dict[Any, dict[date, Mapping[Any, Any]]] = {}
    weight: dict[Any, tuple[int, int]] = {}
    for at, sums in zip(by_day.index, by_day.to_dict("records"), strict=True):
        place = at[:-1]
        cells.setdefault(place, {})[at[-1]] = sums
        open_, messages = weight.get(place, (0, 0))
        weight[place] = (open_ + unconfirmed(sums), messages + int(sums["messages"]))
    order = sorted(cells, key=lambda place: (-weight[place][0], -weight[place][1], place))
    most = max(MOST_CELLS // (len(MEASURES) * len(found.days)), FIRST_ROWS)
    return [_map(found, measure, order, most, cells, names) for measure in MEASURES]


def _map(
    found: Gathered, measure: str, order: list[Any], most: int,
    cells: Mapping[Any, Mapping[date, Mapping[Any, Any]]], names: Mapping[Any, str],
) -> HeatMap:  # fmt: skip
    rows = [
        Row(names[place], [_cell(measure, cells[place].get(state.day), state.is_published)
                           for state in found.states])
        for place in order[:most]
    ]  # fmt: skip
    return HeatMap(measure, rows[:FIRST_ROWS], rows[FIRST_ROWS:], max(len(order) - most, 0))


def _cell(measure: str, sums: Mapping[Any, Any] | None, is_published: bool) -> tuple[str, str]:
    """A hole is no zero; nor is a day without messages, or one of which nothing can be told."""
    if not is_published:
        return "x", "?"
    told = rate(measure, sums) if sums else None
    if told is None or told.value is None:
        return "n", "·"
    text = _percent(told.value)
    return ("w" if told.n < LEAST_MESSAGES else f"h{step(told.value)}"), text


def _percent(value: float) -> str:
    if not value:
        return "0"
    points = value * 100
    return "<.1" if points < 0.1 else f"{points:.0f}" if points >= 9.95 else f"{points:.1f}"


def step(value: float) -> int:
    """The step of the colour scale, 0 to 6."""
    return bisect_right(STEPS, value) - 1 if value else 0


def _names(summary: pd.DataFrame, keys: tuple[str, ...]) -> dict[Any, str]:
    found: dict[Any, str] = {}
    named = summary.drop_duplicates(list(keys), keep="last")
    for row in named.to_dict("records"):
        found[tuple(row[key] for key in keys)] = place(row, is_network="network_code" in keys)
    return found


def place(row: Mapping[Any, Any], *, is_network: bool = True) -> str:
    """A network as `DE 26201 Name`, a country as `DE Germany`."""
    if not is_network:
        name = row["country_name"]
        return " ".join(filter(None, (row["country"], name if isinstance(name, str) else "")))
    if row["network_code"] == "*":
        return f"{row['country']}, the whole country"
    name = row["network_name"] if isinstance(row["network_name"], str) else ""
    code = row["network_code"] if row["network_code"] != UNKNOWN else "network unknown"
    return " ".join(filter(None, (row["country"], code, name)))
