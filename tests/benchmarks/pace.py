"""How near to the allowed requests per second downloading comes, with 200 ms to each answer.

    python -m tests.benchmarks.pace

A day of pages, then 10,000 messages by id. Vonage allows 10 requests a second and answers 429
beyond: a run should use nearly all of it and see none.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

import requests

from reconcile import job, refreshing
from reconcile.days import day_window, iso
from reconcile.fetching import connected, steps_of
from reconcile.refreshing import Vonage
from reconcile.reports import download
from reconcile.reports.refresh import Wanted
from reconcile.reports.slices import Source
from reconcile.run import opened
from reconcile.sandbox.generate import ACCOUNT, START, Generated, generate
from reconcile.sandbox.protocol import SYNC_PER_SECOND
from reconcile.settings import load

LATENCY = "200ms"


def main() -> None:
    """Prepares, downloads, asks by id, prints."""
    told = _told()
    with tempfile.TemporaryDirectory(prefix="pace-") as scratch, _home(Path(scratch)):
        world = generate(Path(scratch, "world"), messages=told.messages, days=1, seed=1)
        with serving(world) as url:
            settings = load(None, store=Path(scratch, "store"), base_url=url, via="sync",
                            pii="keep")  # fmt: skip
            accounts = settings.credentials()
            print("| what | requests | seconds | of the allowed 10 a second | 429 seen |")
            print("|---|---:|---:|---:|---:|")
            with opened(settings, world.mature_at, lambda *_: None) as this:
                days = job.plan(this, job.Asked(START, START + timedelta(days=1)))
                with connected(this, accounts) as vonage:
                    warm(vonage)
                    steps = steps_of(this, vonage.sources, days)
                    with told_pace(f"{told.messages:,} records by pages", url):
                        tasks = [
                            vonage.submit(
                                download.fetch, vonage.desk, vonage.sources[step.part.source], step
                            )
                            for step in steps
                        ]
                        assert not any(task.result().failure for task in tasks)
                    job.fetch(this, vonage, days)  # takes in what lies on disk
                ids = this.con.con.execute(
                    f"SELECT message_id FROM read_parquet('{settings.store}/records/*/*.parquet') "
                    f"LIMIT {told.ids}"
                ).fetchall()
                wanted = {Source(ACCOUNT.api_key): [Wanted(row[0]) for row in ids]}
                with connected(this, accounts) as vonage:
                    with told_pace(f"{told.ids:,} messages by id", url):
                        [answers] = refreshing.ask(this, vonage, wanted)
                    assert len(answers.asked) == told.ids


@contextmanager
def serving(world: Generated) -> Iterator[str]:
    """The sandbox in a process of its own, or the two would share one Python."""
    command = [sys.executable, "-m", "reconcile.cli", "sandbox", "serve", "--data",
               str(world.folder), "--port", "0", "--now", iso(world.mature_at),
               "--latency", LATENCY]  # fmt: skip
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as served:
        assert served.stdout is not None
        export, told = served.stdout.readline(), served.stdout.readline()
        os.environ |= dict(pair.split("=", 1) for pair in export.split()[1:])
        try:
            yield re.findall(r"http://\S+(?=,)", told)[0]
        finally:
            served.terminate()


def warm(vonage: Vonage) -> None:
    """Lets the sandbox lay out its day before the clock starts."""
    [(source, client)] = vonage.sources.items()
    next(client.records(source.slice(day_window(START))))


@contextmanager
def told_pace(what: str, url: str) -> Iterator[None]:
    """Times what is done, and prints how many requests it was."""
    before, begun = counts(url), time.perf_counter()
    yield
    seconds = time.perf_counter() - begun
    made = counts(url) - before
    refused = sum(n for name, n in made.items() if name.endswith(" 429"))
    share = made.total() / seconds / SYNC_PER_SECOND
    print(f"| {what} | {made.total()} | {seconds:.1f} | {share:.0%} | {refused} |", flush=True)


def counts(url: str) -> Counter[str]:
    """How often the sandbox was asked what."""
    return Counter(requests.get(f"{url}/_sandbox", timeout=10).json()["requests"])


@contextmanager
def _home(folder: Path) -> Iterator[None]:
    """A working folder without anybody's settings."""
    before = Path.cwd()
    for name in [n for n in os.environ if n.startswith(("VONAGE_", "RECONCILE_"))]:
        del os.environ[name]
    os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(before)


def _told() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--messages", type=int, default=500_000)
    parser.add_argument("--ids", type=int, default=10_000)
    return parser.parse_args()


if __name__ == "__main__":
    main()
