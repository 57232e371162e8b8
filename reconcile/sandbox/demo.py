"""The demo: the real job, four nights in a row, against three invented days served over HTTP."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from importlib.resources import files
from pathlib import Path

from reconcile import job
from reconcile.days import iso, parse_moment
from reconcile.errors import InputError, UsageError
from reconcile.sandbox.server import Sandbox

NIGHTS = ("2026-10-13T02:30:00Z", "2026-10-14T02:30:00Z", "2026-10-15T02:30:00Z",
          "2026-10-17T02:30:00Z")  # fmt: skip
MARKER = ".reconcile-demo"


def sample_data() -> Path:
    """The invented days: inside the installed package, or beside it in a checkout."""
    package = Path(str(files("reconcile")))
    for folder in (package / "sample_data", package.parent / "sample_data"):
        if (folder / "sandbox.json").exists():
            return folder
    raise InputError("the sample data is not installed: use a checkout or reinstall the package")


def demo(folder: Path, say: Callable[[str], object]) -> None:
    """Serves the sample, runs its nights, shows the table, and says what to open next."""
    from reconcile.present.ended import after_run
    from reconcile.present.progress import progress
    from reconcile.settings import load

    data = sample_data()
    config = _prepare(folder, data)
    with Sandbox(data) as sandbox, progress() as tell:
        for night in NIGHTS:
            moment = parse_moment(night)
            sandbox.now = moment
            settings = load(config, base_url=sandbox.base_url)
            ended = job.run(settings, job.Asked(), moment, tell)
            counts = [sum(day[name] for day in ended.manifest["judged"])
                      for name in ("messages", "confirmed", "pending")]  # fmt: skip
            say("Night of {}: {} messages in open days, {} confirmed, {} pending".format(
                iso(moment), *counts))  # fmt: skip
    say("")
    say(after_run(ended))
    say(_next_steps(folder, config))


def _prepare(folder: Path, data: Path) -> Path:
    """An empty folder with the demo's settings and secrets; an earlier demo's is emptied."""
    if folder.exists() and any(folder.iterdir()) and not (folder / MARKER).exists():
        raise UsageError(f"{folder} is not empty and no earlier demo: name another with --folder")
    shutil.rmtree(folder, ignore_errors=True)
    try:
        folder.mkdir(parents=True)
    except OSError as error:
        raise UsageError(f"{folder} cannot be made ({error.strerror}): see --folder") from None
    account = json.loads((data / "sandbox.json").read_text("utf-8"))["accounts"][0]
    (folder / MARKER).touch()
    (folder / "api.secret").write_text(account["api_secret"], "utf-8")
    (folder / "pii.key").write_text("a key for invented numbers only\n", "utf-8")
    config = folder / "reconcile.toml"
    root = folder.resolve()
    config.write_text(
        f"""\
store = {json.dumps(str(root / "store"))}
dlr = {json.dumps([str(data / "dlr" / "*")])}
pii_key_file = {json.dumps(str(root / "pii.key"))}
capabilities = {json.dumps(str(data / "capabilities.csv"))}
currency = "EUR"
lookback = "5d"             # the demo's first night need not look further back
longest_validity = "72h"    # we never send with a ttl above Vonage's default
poll_first = "200ms"        # the sandbox answers sooner than Vonage

[[accounts]]
api_key = {json.dumps(account["api_key"])}
api_secret_file = {json.dumps(str(root / "api.secret"))}
""",
        "utf-8",
    )
    return config


def _next_steps(folder: Path, config: Path) -> str:
    store = folder / "store"
    return f"""\
What to open now:
  reconcile show --config {config} --by reason
  reconcile status --config {config}
  python -c "import pandas as pd; print(pd.read_parquet('{store}/summary'))"
  {store}/verdicts/day=2026-10-12/verdicts.parquet   every message with its verdict and reasons
  {store}/orphans/                                   receipts that belong to no message
Each verdict is explained in {sample_data()}/expected.csv, and all of them by `reconcile rules`.
"""
