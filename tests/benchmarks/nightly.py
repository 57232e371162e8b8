"""What a night costs with 60 closed days in the store, and with 400.

    python -m tests.benchmarks.nightly

Nine days of invented traffic is really run, its first day is cloned into the days before (tables,
captures, ledger, manifests), a night is run over both stores, and the night after it is timed: the
command `reconcile run`, each time over a fresh copy, one store after the other.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow.compute as pc
import pyarrow.parquet as pq

from reconcile import engine
from reconcile.days import DAY, basic_iso, iso
from reconcile.judging import VERDICTS_ORDER
from reconcile.receipts.identity import fingerprint, mark_of
from reconcile.receipts.lines import PROBE_BYTES, digest
from reconcile.sandbox.generate import START, Generated, generate
from reconcile.sandbox.server import Sandbox
from reconcile.store import Store, parquet_query, write_json, write_parquet
from reconcile.tables import BY_NAME, DATE, TIME, VERDICTS, Table
from tests.benchmarks.harness import ROOT, machine, say

REAL_DAYS, AT_NIGHT = 9, timedelta(hours=2, minutes=30)
MEMORY = "1GB"
# Every message is tried so long, so that six days are open in the night that is timed.
VALIDITY = timedelta(hours=96)
# So many messages are asked for by id: at ten requests a second more would only be waiting.
BY_ID = 100
LAST = ("--from", str(START + (REAL_DAYS - 30) * DAY), "--to", str(START + REAL_DAYS * DAY))
LOOKS = (("show", "--by", "network", *LAST), ("status",), ("explain",), ("report", *LAST))


@dataclass
class Place:
    """A store beside its captures, which its copies share; `nights` are the runs over copies."""

    folder: Path
    days: int
    name: str = "store"
    nights: list[dict[str, float]] = field(default_factory=list)
    looks: dict[str, list[float]] = field(default_factory=dict)

    @property
    def store(self) -> Path:
        return self.folder / self.name

    @contextmanager
    def copied(self) -> Iterator[Place]:
        """A fresh copy: files are linked, since the job replaces them and never writes into one."""
        copy = Place(self.folder, self.days, "copy")
        shutil.copytree(self.store, copy.store, copy_function=os.link,
                        ignore=shutil.ignore_patterns(".work"))  # fmt: skip
        try:
            yield copy
        finally:
            shutil.rmtree(copy.store)


def main() -> None:
    """Makes both stores, plays the nights, prints."""
    told = _told()
    print(machine(MEMORY), "\n")
    with tempfile.TemporaryDirectory(dir=told.folder, prefix="nightly-") as scratch:
        folder = told.made or Path(scratch)
        made = world(folder, told.messages)
        with Sandbox(made.folder, pending_seconds=0.05) as sandbox:
            places = [Place(folder / f"days-{days}", days) for days in sorted(told.days)]
            if not told.made:
                prepare(places, made, sandbox)
            for number in range(told.runs):
                for place in places if number % 2 else places[::-1]:
                    with place.copied() as copy:
                        place.nights.append(night(copy, made, sandbox, REAL_DAYS))
                        look(place, copy, sandbox)
            print(*table(places), sep="\n")


def world(folder: Path, messages: int) -> Generated:
    """The traffic, made or found; no message is tried longer than the others."""
    there = folder / "world"
    if there.exists():
        return Generated(there, 0, 0, 0, 0, {}, datetime.now(UTC), "")
    made = generate(there, messages=messages * REAL_DAYS, days=REAL_DAYS, seed=5)
    longest = VALIDITY // timedelta(milliseconds=1)
    for path in (there / "world").glob("*/*.parquet"):
        rows = pq.read_table(path, partitioning=None)
        at = rows.schema.get_field_index("validity_period")
        short = pc.min_element_wise(rows.column(at), longest)
        pq.write_table(rows.set_column(at, rows.schema.field(at), short), path, store_schema=False)
    return made


def prepare(places: list[Place], made: Generated, sandbox: Sandbox) -> None:
    """The stores, each after a night over it; the one with most closed days is made first."""
    *others, most = places
    asked = ("--from", START, "--to", START + (REAL_DAYS - 2) * DAY)
    night(most, made, sandbox, REAL_DAYS - 2, *asked)
    say(f"cloning {most.days} closed days")
    clone(most)
    for place in others:
        shutil.copytree(most.folder, place.folder, copy_function=os.link)
        drop(place, START - place.days * DAY)
    for place in places:
        night(place, made, sandbox, REAL_DAYS - 1)


def night(
    place: Place, made: Generated, sandbox: Sandbox, mornings: int, *days: Any
) -> dict[str, float]:
    """One run of the command after so many days; its seconds, whole and by stage."""
    morning = START + mornings * DAY
    moment = datetime.combine(morning, datetime.min.time(), UTC) + AT_NIGHT
    capture(place, made, morning)
    sandbox.now = moment
    seconds = call(
        place, sandbox, "run", "--base-url", sandbox.base_url, "--dlr", place.folder / "dlr" / "*",
        "--as-of", iso(moment), "--poll-first", "50ms", "--refresh-limit", BY_ID,
        "--validity", "96h", *days,
    )  # fmt: skip
    last = Store(place.store).last_manifest() or {}
    judged = last.get("judged", [])
    if len(judged) < 6:
        raise SystemExit(f"{iso(moment)}: only {len(judged)} days were judged: {last}")
    say(f"{place.days} closed days, {morning}: {seconds} {last['seconds']}")
    return seconds | last["seconds"] | {"days judged": len(judged)}


def capture(place: Place, made: Generated, morning: date) -> None:
    """The captures of the days before: those of the next are not there yet."""
    there = place.folder / "dlr"
    there.mkdir(parents=True, exist_ok=True)
    for file in sorted((made.folder / "dlr").iterdir()):
        day = date.fromisoformat(file.name.split("-", 1)[1][:10])
        if day < morning and not (there / file.name).exists():
            (there / file.name).hardlink_to(file)


def look(place: Place, copy: Place, sandbox: Sandbox) -> None:
    """Times the commands that only read."""
    path = Store(copy.store).path(VERDICTS, START + 5 * DAY)
    con = engine.bare("1GB", 2, copy.folder / "spill")
    [name] = con.execute(f"SELECT max(message_id) FROM read_parquet('{path}')").fetchone() or ("",)
    for what, *flags in LOOKS:
        more = {"explain": [name], "report": ["--output", copy.folder / "report.html"]}
        spent = call(copy, sandbox, what, *flags, *more.get(what, []))["by the clock"]
        place.looks.setdefault(what, []).append(spent)


def call(place: Place, sandbox: Sandbox, *words: Any) -> dict[str, float]:
    """A command as cron would run it: seconds by the clock and of the processor."""
    plain = {k: v for k, v in os.environ.items() if not k.startswith(("RECONCILE", "VONAGE"))}
    own = {
        "VONAGE_API_KEY": sandbox.api_key, "VONAGE_API_SECRET": sandbox.api_secret,
        "XDG_CONFIG_HOME": str(place.folder), "PYTHONPATH": str(ROOT),
    }  # fmt: skip
    command = [sys.executable, "-m", "reconcile.cli", *map(str, words), "--store",
               str(place.store)]  # fmt: skip
    if words[0] == "run":
        command += ["--memory-limit", MEMORY]
    before, begun = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    ended = subprocess.run(
        command, env=plain | own, cwd=place.folder, capture_output=True, text=True, check=False
    )
    seconds, after = time.perf_counter() - begun, resource.getrusage(resource.RUSAGE_CHILDREN)
    if ended.returncode != 0:
        raise SystemExit(f"{' '.join(command)}: exit {ended.returncode}: {ended.stderr}")
    spent = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return {"by the clock": seconds, "of the processor": spent}


# --- closed days ------------------------------------------------------------------------------


def clone(place: Place) -> None:
    """Makes the days before the first one, from it: as if they had been run, too."""
    store = Store(place.store)
    ledger = store.ledger()
    con = engine.connect("2GB", 2, place.folder / "spill")
    con.con.execute("SET preserve_insertion_order = true")
    for back in range(1, place.days + 1):
        day = START - back * DAY
        for table in BY_NAME.values():
            if table.partition == "day" and store.path(table, START).exists():
                _clone_partition(store, con, table, day)
        _clone_capture(place, ledger.captures, day)
        _clone_night(store, back)
        for entry in [d for d in ledger.downloads if d["start"][:10] == str(START)]:
            ledger.downloads.append(_moved(entry, back))
        ledger.refreshes += [_moved(entry, back) for entry in ledger.refreshes[:1]]
        ledger.receipt_days[str(day)] = [str(day), str(day + DAY)]
        ledger.judged[str(day)] = _moved(ledger.judged[str(START)], back)
    con.disconnect()
    _settle(ledger.judged, START - place.days * DAY)
    ledger.downloads.sort(key=lambda entry: entry["start"])
    store.save(ledger)


def drop(place: Place, first: date) -> None:
    """Takes away the days before `first`, as if they had never been."""
    store = Store(place.store)
    ledger = store.ledger()
    for path in (*place.store.glob("*/day=*"), *place.store.glob("*/as_of=*"),
                 *place.store.glob("runs/*"), *place.folder.glob("dlr/*")):  # fmt: skip
        found = re.search(r"\d{4}-?\d\d-?\d\d", path.name)
        if found and found[0].replace("-", "") < f"{first:%Y%m%d}":
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    ledger.downloads = [d for d in ledger.downloads if d["start"][:10] >= str(first)]
    ledger.refreshes = [r for r in ledger.refreshes if r["as_of"][:10] >= str(first)]
    ledger.captures = {k: c for k, c in ledger.captures.items() if Path(c["path"]).exists()}
    for source, entry in list(ledger.captures.items()):
        moved = str(place.folder / "dlr" / Path(entry["path"]).name)
        ledger.captures[moved] = ledger.captures.pop(source) | {"path": moved}
    ledger.captures = {k: c for k, c in ledger.captures.items() if Path(k).exists()}
    ledger.receipt_days = {k: v for k, v in ledger.receipt_days.items() if k >= str(first)}
    ledger.judged = {k: v for k, v in ledger.judged.items() if k >= str(first)}
    _settle(ledger.judged, first)
    store.save(ledger)


def _settle(judged: dict[str, dict[str, Any]], first: date) -> None:
    """Whether the days before each were here when it was judged, as they would have been."""
    for day, told in judged.items():
        told["covered"] = date.fromisoformat(day) - 8 * DAY >= first


def _clone_partition(store: Store, con: Any, table: Table, day: date) -> None:
    back = (START - day).days
    moved = {c.name: f"{c.name} - INTERVAL {back} DAY" for c in table.columns if c.type == TIME} | {
        c.name: f"({c.name} - {back})::DATE" for c in table.columns if c.type == DATE
    }
    if "message_id" in table.names:
        moved["message_id"] = f"upper(left(md5(message_id || '{back}'), 16))"
    if "source" in table.names:
        moved["source"] = f"replace(source, '{START}', '{day}')"
    names = ", ".join(f"{moved.get(name, name)} AS {name}" for name in table.names)
    rows = parquet_query(table, [store.path(table, START)])
    order = f"ORDER BY {VERDICTS_ORDER}" if table is VERDICTS else ""
    con.con.execute(f"CREATE OR REPLACE VIEW cloned AS SELECT {names} FROM ({rows}) {order}")
    moment = datetime.combine(day + 9 * DAY, datetime.min.time(), UTC) + AT_NIGHT
    write_parquet(con, "cloned", table, store.path(table, day), moment)


def _clone_capture(place: Place, captures: dict[str, dict[str, Any]], day: date) -> None:
    """One capture a day, with the first day's lines; its times say the other day."""
    path = place.folder / "dlr" / f"hooks-{START}.ndjson"
    data = path.read_bytes().replace(str(START).encode(), str(day).encode())
    clone = path.with_name(f"hooks-{day}.ndjson")
    clone.write_bytes(data)
    entry = json.loads(json.dumps(captures[str(path)]))
    mark = mark_of(entry)
    entry |= {
        "path": str(clone), "print": fingerprint(clone), "days": [str(day)],
        "first": digest(data.split(b"\n", 1)[0].rstrip(b"\r")),
    }  # fmt: skip
    entry["mark"] |= {
        "head": digest(data[: mark.head_bytes]),
        "tail": digest(data[: mark.offset][-PROBE_BYTES:]),
    }
    captures[str(clone)] = entry


def _clone_night(store: Store, back: int) -> None:
    """A manifest and a partition of changes, of a night so many days before the first."""
    [manifest] = [p for p in (store.root / "runs").glob("*.json") if "-0000" not in p.name]
    told = json.loads(manifest.read_text("utf-8"))
    moment = datetime.fromisoformat(told["as_of"].replace("Z", "+00:00")) - back * DAY
    path = manifest.with_name(f"{basic_iso(moment)}-0000{back:08}.json")
    write_json(path, told | {"as_of": iso(moment), "run_id": path.stem[-12:]})
    os.utime(path, (0, 10**6 - back))
    [changes] = [p for p in (store.root / "changes").iterdir() if "T0230" in p.name][:1]
    there = store.root / "changes" / f"as_of={basic_iso(moment)}"
    there.mkdir(exist_ok=True)
    os.link(changes / "changes.parquet", there / "changes.parquet")


def _moved(entry: dict[str, Any], back: int) -> dict[str, Any]:
    """An entry of the ledger with its moments so many days earlier."""
    told = dict(entry)
    for name, value in entry.items():
        if isinstance(value, str) and re.fullmatch(r"\d{4}-\d\d-\d\dT[\d:.]+Z", value):
            moment = datetime.fromisoformat(value.replace("Z", "+00:00"))
            told[name] = iso(moment - back * DAY)
    return told


# --- what came of it ----------------------------------------------------------------------------


def table(places: list[Place]) -> Iterator[str]:
    """Medians of each store, and how many times as long the largest took as the smallest."""
    names = list(dict.fromkeys(name for place in places for n in place.nights for name in n))
    yield "| seconds | " + " | ".join(f"{p.days} closed days" for p in places) + " | ratio |"
    yield "|---|" + "---:|" * (len(places) + 1)
    for name in names:
        yield _line(f"a night: {name}", [[n.get(name, 0.0) for n in p.nights] for p in places])
    for name in places[0].looks:
        yield _line(f"`{name}`", [p.looks[name] for p in places])
    sizes = [[(p.folder / "store" / "ledger.json").stat().st_size / 1e6] for p in places]
    yield _line("ledger, MB", sizes)


def _line(what: str, columns: Iterable[list[float]]) -> str:
    medians = [statistics.median(column) for column in columns]
    ratio = f"{medians[-1] / medians[0]:.2f}" if medians[0] else ""
    return f"| {what} | " + " | ".join(f"{m:.2f}" for m in medians) + f" | {ratio} |"


def _told() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--messages", type=int, default=10_000, help="a day")
    parser.add_argument("--days", type=int, nargs="+", default=[60, 400], help="closed days")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--folder", type=Path, help="where to make a scratch folder")
    parser.add_argument("--made", type=Path, help="stores that were made before")
    return parser.parse_args()


if __name__ == "__main__":
    main()
