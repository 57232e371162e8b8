"""Vega-Lite charts as static SVG: in the page's own colours, for a wide and for a narrow screen."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from markupsafe import Markup, escape

from reconcile.judge.features import BINS, edges_ms
from reconcile.present.numbers import MONTHS
from reconcile.present.rates import MEASURES
from reconcile.present.report.causes import Loss
from reconcile.present.report.headline import LOSERS
from reconcile.present.report.latency import Latency

WIDE, NARROW = 1060, 350
TICKS_MS = {100: "0.1 s", 1_000: "1 s", 10_000: "10 s", 60_000: "1 min", 600_000: "10 min",
            3_600_000: "1 h", 28_800_000: "8 h", 259_200_000: "3 d"}  # fmt: skip
LABEL_ROOM, FACET_LABEL = 44, 30
Spec = dict[str, Any]
NEEDLESS = re.compile(
    r' (?:role|aria-[a-z]+|pointer-events|class|xmlns(?::xlink)?|version)="[^"]*"'
)


def losses_chart(losses: Sequence[Loss]) -> Markup:
    """Missing receipts a day, stacked by who lost them; a hole shows as `?`."""
    values = [
        {"day": _short(loss.day), "who": LOSERS[name], "n": n, "order": at}
        for loss in losses if loss.lost
        for at, (name, n) in enumerate(loss.lost.items()) if n
    ]  # fmt: skip
    holes = [{"day": _short(loss.day)} for loss in losses if loss.lost is None]
    there = {value["who"] for value in values}
    names = [name for name in LOSERS.values() if name in there]
    colours = [f"var(--c{n})" for n, name in enumerate(LOSERS.values(), 1) if name in there]
    bars = {
        "data": {"values": values},
        "mark": {"type": "bar", "aria": False, "stroke": "var(--paper)", "strokeWidth": 1},
        "encoding": {
            "y": {"field": "n", "type": "quantitative", "stack": "zero", "title": None,
                  "axis": {"tickCount": 4, "format": ",~d"}},
            "color": {"field": "who", "type": "nominal", "title": None,
                      "scale": {"domain": names, "range": colours}},
            "order": {"field": "order"},
        },
    }  # fmt: skip
    label = "Bars: missing receipts a day, stacked by who lost them. The table below has them."
    return _both([bars, _holes(holes)], [_short(loss.day) for loss in losses], 200, label)


def rates_chart(rates: Sequence[dict[str, Any]]) -> Markup:
    """The rates a day as lines with marks of their own shape; a hole breaks the line."""
    days = list(dict.fromkeys(_short(each["day"]) for each in rates))
    values = [{"day": _short(r["day"]), "measure": r["measure"], "rate": r["rate"]} for r in rates]
    holes = [{"day": d} for d in dict.fromkeys(
        _short(each["day"]) for each in rates if not each["is_published"])]  # fmt: skip
    scale = {"domain": list(MEASURES), "range": ["var(--c1)", "var(--c2)", "var(--c3)"]}
    shapes = {"domain": list(MEASURES), "range": ["circle", "square", "triangle-up"]}
    lines = {
        "data": {"values": values},
        "mark": {"type": "line", "aria": False, "strokeWidth": 1.75,
                 "invalid": "break-paths-filter-domains",
                 "point": {"filled": True, "size": 34, "aria": False}},
        "encoding": {
            "y": {"field": "rate", "type": "quantitative", "title": None,
                  "axis": {"tickCount": 4, "format": ".1~%"}},
            "color": {"field": "measure", "type": "nominal", "title": None, "scale": scale},
            "shape": {"field": "measure", "type": "nominal", "title": None, "scale": shapes},
        },
    }  # fmt: skip
    label = "Lines: rates of missing, unknown and suspect messages a day. The table below has them."
    return _both([lines, _holes(holes)], days, 170, label)


def latency_chart(shapes: Sequence[tuple[str, Latency]]) -> Markup:
    """Shares of deliveries by time (logarithmic), a strip for each network, all on one scale."""
    edges = edges_ms()
    used = [n for _, each in shapes for n in range(BINS) if each.bins[n]]
    first, last = max(min(used, default=0) - 2, 0), min(max(used, default=1) + 2, BINS - 1)
    values = [
        {"who": name, "from": max(edges[n], edges[1] * 0.9), "to": edges[n + 1],
         "share": each.bins[n] / each.delivered}
        for name, each in shapes for n in range(first, last + 1) if each.bins[n]
    ]  # fmt: skip
    domain = [max(edges[first], edges[1] * 0.9), edges[last + 1]]
    ticks = [tick for tick in TICKS_MS if domain[0] <= tick <= domain[1]]
    words = " : ".join(f"datum.value == {tick} ? '{TICKS_MS[tick]}'" for tick in ticks)
    spec = {
        "data": {"values": values},
        "mark": {"type": "rect", "aria": False, "fill": "var(--c1)"},
        "encoding": {
            "x": {"field": "from", "type": "quantitative", "title": None,
                  "scale": {"type": "log", "domain": domain, "nice": False},
                  "axis": {"values": ticks, "labelExpr": f"{words} : ''", "grid": True}},
            "x2": {"field": "to"},
            "y": {"field": "share", "type": "quantitative", "title": None,
                  "axis": {"tickCount": 2, "format": ".0%"}},
            "y2": {"datum": 0},
            "row": {"field": "who", "type": "nominal", "title": None,
                    "sort": [name for name, _ in shapes],
                    "header": {"labelAngle": 0, "labelAnchor": "start", "labelOrient": "top",
                               "labelColor": "var(--ink)", "labelFontSize": 12,
                               "labelFontWeight": 600, "labelPadding": 4}},
        },
        "resolve": {"scale": {"y": "independent"}},
        "spacing": 12,
    }  # fmt: skip
    label = "Histograms of delivery times, on a logarithmic scale. The table below has quantiles."
    return Markup("").join(
        _svg({**spec, "width": width - LABEL_ROOM, "height": 64}, name, label)
        for name, width in (("wide", WIDE), ("narrow", NARROW))
    )


def _both(layers: list[Spec], days: list[str], height: int, label: str) -> Markup:
    """The layers over days, wide and narrow; the narrow one names fewer days."""
    made = []
    for name, width in (("wide", WIDE), ("narrow", NARROW)):
        every = -(-len(days) // (14 if name == "wide" else 5))
        named = [day for n, day in enumerate(days) if (len(days) - 1 - n) % every == 0]
        x = {"field": "day", "type": "ordinal", "title": None, "sort": None,
             "scale": {"domain": days},
             "axis": {"values": named, "labelAngle": 0, "labelOverlap": False}}  # fmt: skip
        spec = {
            "width": width - LABEL_ROOM,
            "height": height,
            "encoding": {"x": x},
            "layer": layers,
        }
        made.append(_svg(spec, name, label))
    return Markup("").join(made)


def _holes(days: list[Spec]) -> Spec:
    return {
        "data": {"values": days},
        "mark": {"type": "text", "text": "?", "aria": False, "color": "var(--soft)"},
        "encoding": {"y": {"value": {"expr": "height - 9"}}},
    }  # fmt: skip


CONFIG: Spec = {
    "background": "transparent",
    "font": "sans-serif",
    "view": {"stroke": None},
    "axis": {"labelColor": "var(--soft)", "labelFontSize": 11, "gridColor": "var(--line)",
             "domain": False, "ticks": False, "labelPadding": 6},
    "axisX": {"grid": False},
    "legend": {"orient": "top", "labelColor": "var(--ink)", "labelFontSize": 12, "symbolSize": 80,
               "labelLimit": 300, "offset": 10, "columnPadding": 46, "rowPadding": 3},
}  # fmt: skip


def _svg(spec: Spec, name: str, label: str) -> Markup:
    """Draws one, as an image with a label; what the library says of each mark is left out."""
    import vl_convert

    legend = {"columns": 5 if name == "wide" else 1}  # fonts differ: room for wider ones
    config = {**CONFIG, "legend": CONFIG["legend"] | legend}
    drawn = vl_convert.vegalite_to_svg({**spec, "config": config, "padding": 2})
    drawn = re.sub(r"<[^>]*>", lambda tag: _plain(tag[0]), drawn)
    drawn = re.sub(r'<path d="M0,0h0v0h0Z"/>|<path d="" display="none"/>', "", drawn)
    start = f'<svg class="chart {name}" role="img" aria-label="{escape(label)}"'
    return Markup(drawn.replace("<svg", start, 1))  # noqa: S704 - the library escapes its texts


def _plain(tag: str) -> str:
    """A tag without what the page does not need, its numbers rounded; texts stay as they are."""
    return re.sub(r"(\d+\.\d{2})\d+", r"\1", NEEDLESS.sub("", tag))


def _short(day: Any) -> str:
    return f"{day.day}\u00a0{MONTHS[day.month - 1]}"
