"""How often the rules on networks cry wolf, and which fakers they find; and what they cost.

    python -m tests.benchmarks.networks

Seeds are fixed: the tables come out the same each time. With --figure the curves are drawn too.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import replace
from datetime import date, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from reconcile.judge import networks as core
from reconcile.judge.features import BINS
from reconcile.judge.history import History
from reconcile.judge.networks import ALARMS, SPANS
from tests.benchmarks.harness import say
from tests.simulated_networks import BULK, CONSTANT, COPIED, FAMILIES, UNIFORM, Fake, World, fakers

SINCE, TO = 40, 48
KINDS = (CONSTANT, UNIFORM, COPIED, BULK)
IN_BULK = 0.6
MANY = 8


def main() -> None:
    """Prints the tables; draws the figure where one is asked for."""
    told = _told()
    if not told.speed_only:
        print(*false_alarms(told.worlds), sep="\n", flush=True)
        found = list(detection(told.worlds))
        print(*detected(found), sep="\n", flush=True)
        print(*tenths(found), sep="\n", flush=True)
        if told.figure:
            draw(found, told.figure)
    print(*speed(told.networks, told.days), sep="\n", flush=True)


def alarms(what: History, at: int) -> dict[int, str]:
    """The networks that a day flags, by any span, and the worst that it says of each."""
    found: dict[int, str] = {}
    for days in SPANS.values():
        verdicts = core.judge(what.present(at, days), what.past(at)).verdict
        for n, verdict in enumerate(verdicts):
            if verdict in (*ALARMS, "watch") and found.get(n) not in ALARMS:
                found[n] = str(verdict)
    return found


def false_alarms(worlds: int) -> Iterator[str]:
    """False `suspect` per 300 honest networks and day, of each family of traffic."""
    yield "| 300 honest networks | days | false `suspect` a day | `watch` a day |"
    yield "|---|---:|---:|---:|"
    for family in FAMILIES:
        days, wrong, watched = 0, 0, 0
        for seed in range(worlds):
            world = World(family, np.random.default_rng(1000 + seed))
            what = world.history({})
            for at in range(SINCE, TO):
                flagged = alarms(what, at)
                days += 1
                wrong += sum(v in ALARMS for v in flagged.values())
                watched += sum(v == "watch" for v in flagged.values())
        say(f"{family.name}: {wrong} in {days} days")
        yield f"| {family.name} | {days} | {wrong / days:.3f} | {watched / days:.2f} |"


Found = tuple[str, str, float, float, float, bool]  # family, kind, share, n a day, expected, found


def detection(worlds: int) -> Iterator[Found]:
    """Fakers that begin on one day: found within two days (those of all messages), or seven."""
    for share in (1.0, 0.3, 0.1):
        for family in FAMILIES:
            for seed in range(worlds):
                yield from _one_world(family, seed, share)
        say(f"fakers of {share:.0%} played")


def _one_world(family: Any, seed: int, share: float) -> Iterator[Found]:
    world = World(family, np.random.default_rng(5000 + seed))
    made_up: dict[int, Fake] = {
        at: replace(fake, share=share * IN_BULK) if fake.kind == BULK else fake
        for at, fake in fakers(world.random, world.networks, MANY, KINDS, share, SINCE).items()
    }
    what = world.history(made_up)
    days = 2 if share == 1 else 7
    seen = {
        n for at in range(SINCE, SINCE + days) for n, v in alarms(what, at).items() if v in ALARMS
    }
    before = what.past(SINCE).counts
    for at, fake in made_up.items():
        sent = what.counts["messages"][SINCE : SINCE + 2, at].sum()
        expected = max(
            sent * before[k][:, at].sum() / max(before[n][:, at].sum(), 1)
            for n, k in (("seen", "slow"), ("seen", "failed_soon"))
        )
        n = what.counts["messages"][:SINCE, at].mean()
        yield family.name, fake.kind, share, float(n), float(expected), at in seen


def detected(found: list[Found]) -> Iterator[str]:
    """Which fakers are found: of all messages within two days, of 30 % within seven."""
    yield "\n| faker of all messages | expected ≥ 9 | found | 4.6 to 9 | found | fewer | found |"
    yield "|---|---:|---:|---:|---:|---:|---:|"
    for kind in KINDS:
        own = [f for f in found if f[1] == kind and f[2] == 1]
        yield f"| {kind} | " + " | ".join(
            _part([f for f in own if low <= f[4] < high])
            for low, high in ((9, np.inf), (4.6, 9), (0, 4.6))
        ) + " |"  # fmt: skip
    yield "\n| faker of 30 % | n ≥ 1,000 a day | found | fewer | found |"
    yield "|---|---:|---:|---:|---:|"
    for kind in KINDS:
        own = [f for f in found if f[1] == kind and f[2] == 0.3]
        yield f"| {kind} | " + " | ".join(
            _part([f for f in own if low <= f[3] < high])
            for low, high in ((1000, np.inf), (0, 1000))
        ) + " |"  # fmt: skip


def tenths(found: list[Found]) -> Iterator[str]:
    """The power for fakers of a tenth of the messages, as it is."""
    yield "\n| faker of 10 % within seven days | fakers | found |"
    yield "|---|---:|---:|"
    for low, high in ((0, 300), (300, 1000), (1000, 5000), (5000, 1_000_000)):
        own = [f for f in found if f[2] == 0.1 and low <= f[3] < high]
        yield f"| {low:,} ≤ n < {high:,} a day | {_part(own)} |"


def _part(own: list[Found]) -> str:
    return f"{len(own)} | {sum(f[5] for f in own) / len(own):.0%}" if own else "0 | –"


def draw(found: list[Found], path: Path) -> None:
    """How likely a faker is found, by its messages a day."""
    import matplotlib as mpl

    mpl.use("svg")
    mpl.rcParams["svg.hashsalt"] = "detection"
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, 3, figsize=(11, 3.4), sharey=True, layout="constrained")
    edges = np.geomspace(30, 60_000, 9)
    for ax, share in zip(axes, (1.0, 0.3, 0.1), strict=True):
        for kind, style in zip(KINDS, ("o-", "s--", "^:", "d-."), strict=True):
            points = defaultdict(list)
            for _, own, part, n, _, seen in found:
                if own == kind and part == share:
                    points[int(np.searchsorted(edges, n))].append(seen)
            xs = [b for b in sorted(points) if 0 < b < len(edges) and len(points[b]) >= 5]
            middle = [float(np.sqrt(edges[b - 1] * edges[b])) for b in xs]
            ax.plot(middle, [statistics.mean(points[b]) for b in xs], style, label=kind, ms=4)
        within = "two days" if share == 1 else "seven days"
        ax.set(title=f"{share:.0%} made up, within {within}", xscale="log", ylim=(-0.03, 1.03),
               xlabel="messages a day")  # fmt: skip
        ax.grid(alpha=0.3)
    axes[0].set_ylabel("part of the fakers found")
    axes[0].legend(fontsize=8)
    figure.savefig(path, metadata={"Date": None})


def speed(networks: int, days: int) -> Iterator[str]:
    """History of so many networks and days, in a store: read, and every day of it tested."""
    from reconcile import engine
    from reconcile.calibrating import replay
    from reconcile.settings import Settings
    from reconcile.store import Store

    with tempfile.TemporaryDirectory() as scratch:
        store = Store.open(Path(scratch, "store"), create=True)
        world = World(
            FAMILIES[0], np.random.default_rng(1), networks=networks, days=days, countries=200
        )
        _publish(store, world, world.history({}))
        con = engine.connect("2GB", None, Path(scratch, "spill"))
        replay(store, con, Settings(store=store.root), 1, 0.1)  # imports what is imported late
        begun = time.perf_counter()
        played = replay(store, con, Settings(store=store.root), days, 0.1)
        took = time.perf_counter() - begun
    yield (
        f"\n{days} days × {networks:,} networks read, and every day tested (`calibrate`): "
        f"{took:.1f} s; {int(played.flagged.sum())} flags"
    )


def _publish(store: Any, world: World, what: History) -> None:
    """A store's `networks`, as nights would have left it."""
    from reconcile.tables import NETWORKS

    many = world.networks
    for at in range(world.days):
        day = date(2026, 1, 1) + timedelta(days=at)
        given = {name: pa.array(values[at]) for name, values in what.counts.items()}
        times = pa.FixedSizeListArray.from_arrays(what.histogram[at].ravel(), BINS)
        given |= {
            "date": pa.array([day] * many), "span": pa.array(["1d"] * many),
            "country": pa.array([f"C{g}" for g in world.group]),
            "currency": pa.array(["EUR"] * many),
            "network_code": pa.array([f"N{n}" for n in range(many)]),
            "network_verdict": pa.array(["normal"] * many),
            "latency_histogram": times.cast(pa.list_(pa.int64())),
            "is_narrow": pa.array(what.narrow[at]),
            **{f"latency_p{p}_ms": pa.array(times[at].astype(np.int64))
               for p, times in zip((10, 25, 50, 75), what.quantiles, strict=True)},
        }  # fmt: skip
        columns = {f.name: _filled(given.get(f.name), f.type, many) for f in NETWORKS.schema}
        path = store.path(NETWORKS, day)
        path.parent.mkdir(parents=True)
        pq.write_table(pa.table(columns), path)


def _filled(values: Any, kind: Any, many: int) -> Any:
    """A column's values; where there are none, something that its type allows."""
    if values is not None:
        return values.cast(kind)
    if pa.types.is_list(kind):
        return pa.array([[]] * many, kind)
    if pa.types.is_decimal(kind):
        return pa.array([Decimal(0)] * many, kind)
    return pa.array([0] * many, kind) if pa.types.is_integer(kind) else pa.nulls(many, kind)


def _told() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--worlds", type=int, default=12, help="of each family")
    parser.add_argument("--figure", type=Path, help="where to draw the curves (SVG)")
    parser.add_argument("--networks", type=int, default=3000, help="for the speed")
    parser.add_argument("--days", type=int, default=56, help="for the speed")
    parser.add_argument("--speed-only", action="store_true")
    return parser.parse_args()


if __name__ == "__main__":
    main()
