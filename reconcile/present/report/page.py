"""All parts of the report → one HTML file, by a template that escapes whatever it is given."""

from __future__ import annotations

import base64
import hashlib
import importlib.util
import os
from datetime import date
from importlib.resources import files
from pathlib import Path
from typing import Any

from reconcile import __version__
from reconcile.errors import DiskError, UsageError, trouble
from reconcile.present import numbers
from reconcile.settings import Settings

NEEDED = ("jinja2", "vl_convert")


def check_installed() -> None:
    """Says at once what a report needs and is not there.

    Raises:
        UsageError: the extra `report` is not installed.
    """
    if any(importlib.util.find_spec(name) is None for name in NEEDED):
        raise UsageError("a report needs more packages: pip install 'dlr-reconcile[report]'")


def check_place(file: Path) -> None:
    """Says at once that a report cannot be written there.

    Raises:
        UsageError: its folder is not there, or it is a folder itself.
    """
    if file.is_dir() or not file.parent.is_dir():
        where = "is a folder" if file.is_dir() else f"cannot be: {file.parent} is no folder"
        raise UsageError(f"the report {file} {where}: name another file")


def write_report(
    settings: Settings, file: Path, start: date | None = None, end: date | None = None
) -> int:
    """Writes the report of these days (none: the last fourteen published), as a whole.

    Returns:
        Its size in bytes.

    Raises:
        UsageError: the extra is not installed, or there is nothing to report on.
        DiskError: the file cannot be written.
    """
    check_installed()
    check_place(file)
    text = report(settings, start, end).encode()
    fresh = file.with_name(f".{file.name}.new")
    try:
        fresh.write_bytes(text)
        os.replace(fresh, file)  # noqa: PTH105 - a rename that replaces, also across its own name
    except OSError as error:
        fresh.unlink(missing_ok=True)
        raise DiskError(f"{file} cannot be written: {trouble(error)}") from None
    return len(text)


def report(settings: Settings, start: date | None = None, end: date | None = None) -> str:
    """The report as HTML; of the same store it is the same text."""
    from reconcile.present.report.gather import gather

    return _page(_parts(gather(settings, start, end)))


def _parts(found: Any) -> dict[str, Any]:
    """What the template shows, by the names that it has there."""
    from reconcile.present.report import causes, charts, coverage, heat, latency, places
    from reconcile.present.report.headline import headline
    from reconcile.present.report.in_short import in_short

    odd = places.odd_networks(found)
    losses, rates = causes.losses(found), causes.rates_by_day(found)
    least, widest = places.least_confirmed(found)
    times = latency.latencies(found)
    shapes = latency.drawn(times, {each.name: each.verdict for each in odd})
    made, context = causes.reasons(found)
    codes, fine, told = causes.error_codes(found)
    missing = sum(sum(loss.lost.values()) for loss in losses if loss.lost)
    return {
        "found": found, "head": headline(found), "short": in_short(found, odd),
        "gaps": coverage.gaps(found), "coverage": coverage.days(found),
        "changes": coverage.changes(found),
        "maps": [("Countries", heat.heat_maps(found, ("country",))),
                 ("Networks", heat.heat_maps(found, ("country", "network_code")))],
        "steps": heat.STEP_WORDS,
        "odd": odd, "cards": places.CARDS, "least": least, "worst": places.WORST,
        "widest": widest, "stakes": places.stakes_by_country(found), "few": places.COUNTRIES,
        "losses": losses, "losers": causes.losers(found), "rates": rates,
        "reasons": made, "context": context,
        "codes": codes, "fine": fine, "told": told, "some_codes": causes.SHOWN_CODES,
        "times": times, "some_times": latency.SHOWN,
        "rates_chart": charts.rates_chart(rates),
        "losses_chart": charts.losses_chart(losses) if missing else None,
        "latency_chart": charts.latency_chart(shapes) if times else None,
        **_how_to_read(),
    }  # fmt: skip


def _how_to_read() -> dict[str, Any]:
    """The sentences of verdicts, as the rules and the tables have them."""
    from reconcile.judge.networks import NETWORK_RULES, NETWORK_VERDICTS
    from reconcile.tables import SUMMARY
    from reconcile.vocabulary import VERDICTS

    sentences = {column.name: column.sentence for column in SUMMARY.columns}
    return {
        "verdicts": [(name.replace("_", " "), sentences[name]) for name in VERDICTS],
        "network_verdicts": [(n.replace("_", " "), s) for n, s in NETWORK_VERDICTS.items()],
        "network_rules": {rule.name: rule.sentence for rule in NETWORK_RULES},
    }


def _page(parts: dict[str, Any]) -> str:
    from jinja2 import Environment, StrictUndefined
    from markupsafe import Markup

    folder = files("reconcile").joinpath("present", "report", "templates")
    texts = {n: folder.joinpath(f"report.{n}").read_text("utf-8") for n in ("css", "js", "html.j2")}
    digest = base64.b64encode(hashlib.sha256(texts["js"].encode()).digest()).decode()
    space = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    space.filters |= {
        name: getattr(numbers, name) for name in ("count", "percent", "day", "seconds")
    }
    space.globals["plural"] = numbers.plural
    # Style and script are files of this package, never what a store holds.
    made = Markup(texts["css"]), Markup(texts["js"])  # noqa: S704
    page = space.from_string(texts["html.j2"])
    return page.render(**parts, css=made[0], js=made[1], digest=digest, version=__version__) + "\n"
