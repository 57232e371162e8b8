"""A whole judging on one machine, on a Spark cluster, and in a bucket: every table is compared.

    python -m tests.engines_agree --messages 2000000 --kill --faults

Traffic with every fault in it, and all that a user may have beside it (a log of what was sent, what
networks' receipts are worth, conversions), is fetched and ingested by the job's own commands, and
judged as it was known in the night after it. Then `reconcile judge` judges it when all of it is
over: on DuckDB in a folder, on a cluster of two workers (`--legs spark`), and on DuckDB in a bucket
that was filled alike (`--legs bucket`). `--kill` loses a worker while it writes, and the machine
that judges in the bucket, where another goes on; `--connect` goes through a Spark Connect server;
`--faults` lets the bucket refuse requests and cut connections.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path

from reconcile.days import DAY, end_of
from reconcile.sandbox.generate import START
from reconcile.store import Store
from tests import judged_in_a_bucket as bucket
from tests import rig_spark
from tests.judged_stores import ALL, Compared, compare, judge
from tests.judged_traffic import flags_of, taken_in
from tests.spark_cluster import judged_on_a_cluster

LEGS = ("spark", "bucket")
FLAGS = ("--pii", "keep", "--memory-limit", "2GB", "--campaign", "(?P<campaign>[a-z]+)")


def main(arguments: Sequence[str] | None = None) -> int:
    """Compares, and prints what was compared; 1 where anything differs, or nothing was killed."""
    told = _told(arguments)
    with tempfile.TemporaryDirectory(prefix="engines-", dir=told.folder) as scratch:
        return _compared(Path(scratch), told)


def _compared(folder: Path, told: argparse.Namespace) -> int:
    made = taken_in(folder, messages=told.messages, days=told.days, seed=told.seed,
                    besides=True)  # fmt: skip
    flags = (*FLAGS, *flags_of(made))
    night = end_of(START + (told.days - 1) * DAY) + timedelta(hours=2)
    ours, theirs = folder / "store", folder / "theirs"
    judge(ours, night, *flags)
    if "spark" in told.legs:
        shutil.copytree(ours, theirs)
    seconds = judge(ours, made.mature_at, *flags)
    print(f"{told.messages} messages of {told.days} days on DuckDB: {seconds:.0f} s", flush=True)
    differ, spared = 0, False
    if "spark" in told.legs:
        seconds, killed = judged_on_a_cluster(
            theirs, made.mature_at, *flags, kill=told.kill, connect=told.connect
        )
        how = "through Connect " if told.connect else ""
        also = ", one of them killed in the middle" if killed else ""
        print(f"on two workers {how}of one core each{also}: {seconds:.0f} s", flush=True)
        differ += _shown(compare(Store.open(ours), Store.open(theirs)))
        spared |= told.kill and not killed
    if "bucket" in told.legs:
        with bucket.judged_in_a_bucket(
            made, folder / "machines", night, *flags, days=told.days, kill=told.kill,
            faults=told.faults,
        ) as there:  # fmt: skip
            also = ", killed in the middle and gone on with by another machine"
            print(f"on DuckDB in a bucket{also if there.killed else ''}: {there.seconds:.0f} s")
            if told.faults:
                print("struck by", ", ".join(f"{n} {fault}" for fault, n in there.struck.items()))
            differ += _shown(compare(Store.open(ours), there.store, ALL))
            spared |= told.kill and not there.killed
    print(f"{differ} rows differ" if differ else "all tables are equal, row for row")
    return 1 if differ or spared else 0


def _shown(found: Sequence[Compared]) -> int:
    """Prints a line a table; how many rows differ."""
    for each in found:
        print(f"  {each.table}: {each.rows} rows in {each.files} files, {each.differ} differ")
    sys.stdout.flush()
    return sum(each.differ for each in found)


def _told(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--messages", type=int, default=200_000)
    parser.add_argument("--days", type=int, default=3)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--legs", nargs="+", choices=LEGS, default=LEGS, help="beside one machine")
    parser.add_argument("--kill", action="store_true", help="lose a worker, and a machine")
    parser.add_argument("--connect", action="store_true", help="go through Spark Connect")
    parser.add_argument("--faults", action="store_true", help="strike the bucket's requests")
    parser.add_argument("--folder", type=Path, help="where to make a scratch folder")
    told = parser.parse_args(arguments)
    lacks = {"spark": rig_spark.lacking(connect=told.connect), "bucket": bucket.lacking()}
    for leg in told.legs:
        if lacks[leg]:
            parser.error(f"{leg} takes {lacks[leg]}, which this machine has not: leave it out of "
                         "--legs, or install it")  # fmt: skip
    return told


if __name__ == "__main__":
    sys.exit(main())
