"""The textfile for Prometheus's node_exporter: how the last run ended, what it found.

A run that judged nothing leaves what was found before as it stands, beside its own end.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from reconcile import fail_on
from reconcile.tables import SUMMARY
from reconcile.vocabulary import VERDICTS

PREFIX = "reconcile_"
_FAMILY = re.compile(r"^# HELP (\S+) ", re.MULTILINE)
_SENTENCES = {column.name: column.sentence for column in SUMMARY.columns}
WORSE = ("missing", "unknown", "suspect")

Samples = Iterable[tuple[Mapping[str, str], float | int | None]]


@dataclass(frozen=True)
class Ended:
    """How a run ended.

    Attributes:
        at: seconds since 1970, by the clock.
        seconds: how long it took.
        exit_code: as the shell sees it.
        holes, exceeded: how many days are incomplete, and rules of `fail_on` exceeded.
        billed: records that Vonage has billed since the store began; None: nobody knows.
        found: what it published (`outcome.of_days`); empty: it judged nothing.
    """

    at: float
    seconds: float
    exit_code: int
    holes: int
    exceeded: int
    billed: int | None
    found: Mapping[str, Any]


def write(path: Path, ended: Ended) -> None:
    """Replaces the textfile as a whole.

    Raises:
        OSError: it cannot be written.
    """
    before = path.read_text("utf-8", "replace") if path.exists() else ""
    fresh = path.with_name(f".{path.name}.new")
    fresh.write_text("".join(renewed(families(before), ended).values()), "utf-8")
    fresh.chmod(0o644)  # node_exporter is somebody else
    fresh.replace(path)


def renewed(before: Mapping[str, str], ended: Ended) -> dict[str, str]:
    """The families of the textfile by name: the new ones, and those of before that stay."""
    fresh = dict(_of_run(ended))
    if ended.found:
        fresh |= _of_days(ended.found)
    return {name: text for name, text in {**before, **fresh}.items() if text}


def families(text: str) -> dict[str, str]:
    """The families of a textfile that we have written: name → its lines."""
    starts = [(m.start(), m[1]) for m in _FAMILY.finditer(text) if m[1].startswith(PREFIX)]
    ends = [*(start for start, _ in starts), len(text)][1:]
    return {name: text[start:end] for (start, name), end in zip(starts, ends, strict=True)}


def _of_run(ended: Ended) -> Iterable[tuple[str, str]]:
    for name, sentence, value in (
        ("run_end_timestamp_seconds", "When the last run ended.", ended.at),
        ("run_duration_seconds", "How long the last run took.", ended.seconds),
        ("run_exit_code", "Exit code of the last run; 0: done, 3: some days are incomplete.",
         ended.exit_code),
        ("run_incomplete", "Incomplete days, and captures missing, that the last run named.",
         ended.holes),
        ("run_exceeded", "What the last run found to exceed rules of fail_on.", ended.exceeded),
        ("run_judged", "Days that the last run judged.", len(ended.found.get("days", ()))),
    ):  # fmt: skip
        yield _family(name, sentence, [({}, value)])
    if not ended.exit_code:
        yield _family(
            "run_success_timestamp_seconds", "When a run last ended with 0.", [({}, ended.at)]
        )
    if ended.billed is not None:
        yield _family("billed_records_total", "Records that Vonage has billed since the store "
                      "began.", [({}, ended.billed)], "counter")  # fmt: skip


def _of_days(found: Mapping[str, Any]) -> dict[str, str]:
    counts, networks = found["counts"], found["worst_networks"]
    told = "of the days judged last"
    parts = [_family("messages", f"Messages {told}, by verdict.",
                     [({"verdict": name}, counts[name]) for name in VERDICTS])]  # fmt: skip
    for name, measure in (("orphan_receipts", "orphans"), ("uncovered_receipts", "uncovered")):
        parts.append(_family(name, _sentence(measure, told), [({}, counts[measure])]))
    for rate in fail_on.RATES:
        ratio = rate.replace("_rate", "_ratio")
        sentence = _sentence(rate, told)
        parts.append(_family(ratio, sentence, [({}, found["rates"][rate])]))
        own = [(_labels(network), network[rate]) for network in networks]
        parts.append(_family(f"network_{ratio}", f"{sentence} The worst networks only.", own))
    each = [(_labels(network) | {"verdict": name}, network[name])
            for network in networks for name in WORSE]  # fmt: skip
    parts.append(
        _family("network_messages", f"Messages {told} of the worst networks, by verdict.", each)
    )
    suspects = len(found["suspect_networks"])
    parts.append(_family("suspect_networks", f"Networks suspect on one {told}.", [({}, suspects)]))
    return dict(parts)


def _sentence(column: str, told: str) -> str:
    """What the summary says of a column."""
    return f"{_SENTENCES[column].rstrip('.')} ({told})."


def _labels(network: Mapping[str, Any]) -> dict[str, str]:
    return {"country": network["country"], "network": network["network_code"]}


def _family(
    name: str, sentence: str, samples: Samples, kind: str = "gauge"
) -> tuple[str, str]:  # fmt: skip
    """A family's name and lines; without a sample it has none."""
    full = PREFIX + name
    lines = [f"{full}{_braces(labels)} {value}" for labels, value in samples if value is not None]
    if not lines:
        return full, ""
    text = sentence.replace("\\", r"\\").replace("\n", " ")
    return full, "\n".join([f"# HELP {full} {text}", f"# TYPE {full} {kind}", *lines, ""])


def _braces(labels: Mapping[str, str]) -> str:
    if not labels:
        return ""
    pairs = (
        '{}="{}"'.format(k, v.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n"))
        for k, v in labels.items()
    )
    return "{" + ",".join(pairs) + "}"
