"""Makes the report archive that the programs read: a day of labelled traffic, a ZIP of one CSV.

The traffic is the generator's, the archive that of the sandbox: every documented column, the bodies
too, newest message first.
"""

from __future__ import annotations

import argparse
import json
import shutil
from pathlib import Path

from reconcile.days import day_window, iso
from reconcile.sandbox.archive import write_archive
from reconcile.sandbox.generate import ACCOUNT, START, generate
from reconcile.sandbox.protocol import Query
from reconcile.sandbox.world import World

SEED = 20260105


def prepare(folder: Path, messages: int) -> dict[str, object]:
    """Writes `folder/report.zip` and the key of the hash; says what is in it."""
    made = generate(folder / "traffic", messages=messages, days=1, seed=SEED)
    (folder / "pii.key").write_text("a key for numbers that do not exist\n", "ascii")
    window, archive = day_window(START), folder / "report.zip"
    query = Query(
        ACCOUNT.api_key, "SMS", "outbound", window.start, window.end,
        include_message=True, show_concatenated=True,
    )  # fmt: skip
    scratch = folder / "scratch"
    scratch.mkdir()
    world = World(made.folder, scratch)
    member = f"report_SMS_{ACCOUNT.api_key}_{made.mature_at:%Y%m%d}.csv"
    records = write_archive(world, query, made.mature_at, archive, member, lambda: False)
    world.close()
    shutil.rmtree(made.folder)
    shutil.rmtree(scratch)
    return {
        "day": str(START),
        "as_of": iso(made.mature_at),
        "account": ACCOUNT.api_key,
        "records": records,
        "bytes": archive.stat().st_size,
    }


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("messages", type=int)
    asked = parser.parse_args()
    print(json.dumps(prepare(asked.folder, asked.messages)))
