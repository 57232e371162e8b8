"""Generated traffic as the job takes it in: served over HTTP, fetched and ingested into a store."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from reconcile.days import DAY, iso
from reconcile.sandbox.generate import START, Generated, generate
from reconcile.sandbox.server import Sandbox


def taken_in(folder: Path, *, messages: int, days: int, seed: int) -> Generated:
    """Makes traffic with every fault in it; the commands `fetch` and `ingest` fill `folder/store`.

    Nothing is judged yet. Numbers are kept as they are: they are invented.
    """
    made = generate(folder / "world", messages=messages, days=days, seed=seed)
    take_in(made, folder / "store", days=days)
    return made


def take_in(
    made: Generated, store: Path | str, *, days: int, env: Mapping[str, str] | None = None
) -> None:
    """Fills a store with traffic that was made, which covers so many days."""
    plain = {k: v for k, v in os.environ.items() if not k.startswith(("RECONCILE", "VONAGE"))}
    common = ["--store", str(store), "--pii", "keep", "--as-of", iso(made.mature_at)]
    with Sandbox(made.folder, now=made.mature_at, pending_seconds=0.2) as sandbox:
        key = {"VONAGE_API_KEY": sandbox.api_key, "VONAGE_API_SECRET": sandbox.api_secret}
        for command in (
            ["fetch", "--base-url", sandbox.base_url, "--via", "async", "--poll-first", "100ms",
             "--from", str(START), "--to", str(START + days * DAY)],
            ["ingest", str(made.folder / "dlr")],
        ):  # fmt: skip
            subprocess.run(
                [sys.executable, "-m", "reconcile.cli", *command, *common],
                env=plain | key | dict(env or {}), cwd=made.folder.parent,
                stdout=subprocess.DEVNULL, check=True,
            )  # fmt: skip
