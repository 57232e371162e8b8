"""The figure docs/performance.svg, from what was measured: a line a program."""

from __future__ import annotations

import re
from typing import Any

from tests.benchmarks.contest import PROGRAMS
from tests.benchmarks.performance_page import entered, seconds

Measured = dict[str, Any]
# As the renderer brings it along: the same widths of text on every machine.
FONT = "Liberation Sans, Arial, Helvetica, sans-serif"
COLOURS = ("#0b5cad", "#b3541e", "#3d7a2a", "#7a3b8f", "#8a6d00", "#555555", "#007a7a")
SHAPES = ("circle", "square", "triangle-up", "diamond", "cross", "triangle-down", "triangle-right")


def figure(measured: Measured) -> str:
    """An SVG; what did not end stands in the legend."""
    import vl_convert

    drawn = vl_convert.vegalite_to_svg(_spec(measured))
    return re.sub(r"(\d+\.\d{2})\d+", r"\1", drawn).rstrip() + "\n"


def _spec(measured: Measured) -> Measured:
    sizes = measured["sizes"]
    there = entered(measured)
    names = {each.name: _name(each.name, sizes) for each in there}
    places = [PROGRAMS.index(each) for each in there]
    values = [
        {"messages": size["messages"], "program": names[name], "seconds": took}
        for size in sizes for name, one in size["programs"].items()
        if (took := seconds(one)) is not None
    ]  # fmt: skip
    domain = list(names.values())
    messages = [size["messages"] for size in sizes]
    axis = {"grid": True, "gridColor": "#e2e2e2", "domainColor": "#888", "tickColor": "#888"}
    return {
        "width": 560,
        "height": 340,
        "background": "white",
        "padding": 8,
        "data": {"values": values},
        "mark": {"type": "line", "aria": False, "strokeWidth": 2,
                 "point": {"filled": True, "size": 60, "aria": False}},
        "encoding": {
            "x": {"field": "messages", "type": "quantitative", "title": "messages",
                  "scale": {"type": "log", "domain": [messages[0] * 0.9, messages[-1] * 1.1],
                            "nice": False},
                  "axis": {**axis, "values": messages, "format": ",d"}},
            "y": {"field": "seconds", "type": "quantitative", "title": "seconds",
                  "scale": {"type": "log"}, "axis": {**axis, "format": ",~r", "tickCount": 6}},
            "color": {"field": "program", "type": "nominal", "title": None,
                      "scale": {"domain": domain, "range": [COLOURS[n] for n in places]}},
            "shape": {"field": "program", "type": "nominal", "title": None,
                      "scale": {"domain": domain, "range": [SHAPES[n] for n in places]}},
        },
        "config": {"font": FONT, "view": {"stroke": None}, "axis": {"titleFontWeight": "normal"},
                   "legend": {"labelLimit": 320, "labelFontSize": 12, "symbolSize": 80}},
    }  # fmt: skip


def _name(name: str, sizes: list[Measured]) -> str:
    """A program's name, and with how many messages it did not end."""
    for size in sizes:
        one = size["programs"].get(name, {})
        if "trouble" in one:
            return f"{name} ({size['messages']:,}: {one['trouble']})"
    return name
