"""The programs that judge the same day: what each is, and whether they wrote the same tables."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests import rig_spark
from tests.benchmarks.harness import python

HERE = Path(__file__).resolve().parent


@dataclass(frozen=True)
class Program:
    """A script of this folder that judges a day, or does a part of that.

    Attributes:
        name: what it is called in tables and figures.
        script: the file.
        lacks: what it leaves out, in a few words.
        says: the same in a sentence or two, for readers.
        judges: whether it writes all five tables.
        needs: what is installed for it into an environment of its own; none: ours does.
        lacking: says what else it takes that this machine has not; empty if it has all.
        once: whether one run of it has to do, since it takes minutes.
    """

    name: str
    script: str
    lacks: str
    says: str
    judges: bool = True
    needs: tuple[str, ...] = ()
    lacking: Callable[[], str] = str
    once: bool = False


@dataclass(frozen=True)
class Day:
    """A day's traffic on disk: what `traffic.py` made in a folder."""

    folder: Path
    messages: int
    receipts: int
    day: str
    as_of: str
    account: str

    def call(self, script: str, memory_limit: str) -> list[object]:
        """The arguments that have a script judge the day."""
        return [
            HERE / script, self.folder / "store", self.folder / Path(script).stem,
            "--day", self.day, "--as-of", self.as_of, "--account", self.account,
            "--memory-limit", memory_limit,
        ]  # fmt: skip


def make(folder: Path, messages: int, other_days: int = 0) -> Day:
    """A day of so many messages, in a new folder, among so many days before and after it."""
    folder.mkdir()
    told = json.loads(python(HERE / "traffic.py", folder, messages, "--other-days", other_days))
    named = {name: told[name] for name in ("receipts", "day", "as_of", "account")}
    return Day(folder, messages, **named)


def out(folder: Path, script: str) -> Path:
    """Where a script's tables are; ours publishes into the store itself."""
    return folder / ("store" if script == OURS.script else Path(script).stem)


def differences(day: Day, outs: Sequence[tuple[str, Path]]) -> list[str]:
    """A line for each difference between the first program's tables and what others wrote."""
    found = []
    for name, out in outs[1:]:
        told = python(HERE / "equal.py", outs[0][1], out, "--day", day.day)
        found += [f"{outs[0][0]} and {name}: {line}" for line in told.splitlines()]
    return found


NO_JOB = "contracts, checks, staging, ledger, several accounts"
OURS = Program(
    "ours", "ours.py", "nothing",
    "`reconcile.judging.judge_day`: Ibis on DuckDB within `memory_limit`, with staging, contracts, "
    "checked sums, synced publication and the ledger. The networks as a whole, which no other "
    "program here judges, are left out of it.",
)  # fmt: skip
SPARK = Program(
    "ours on Spark", "ours_spark.py", "nothing",
    'the same, with `engine = "spark"`, on a standalone cluster of two workers of this machine, of '
    "one core and 1 GB each, and a driver of 1 GB. Its clock starts when its session is up and has "
    "been asked something: starting Java and connecting are left out, planning and compiling in "
    "Java, some twenty queries a day, are not. All processes of the cluster count as its memory.",
    lacking=rig_spark.lacking,
    once=True,
)  # fmt: skip
SQL = Program(
    "DuckDB SQL", "rival_sql.py", NO_JOB,
    "hand-written for this one day, within the same `memory_limit`. Of the output nothing; but "
    "contracts, checks, staging, a ledger, synced files, more than one account.",
)  # fmt: skip
POLARS = Program(
    "polars", "rival_polars.py", f"{NO_JOB}, a memory limit",
    "lazy frames, run by the streaming engine from scan to sink. It leaves out what DuckDB SQL "
    "leaves out, and takes the memory that it takes.",
)  # fmt: skip
PANDAS = Program(
    "plain pandas", "rival_plain_pandas.py", f"{NO_JOB}, a memory limit",
    "what an analyst would write in an afternoon: columns, merges and group-bys, no row loops, "
    "nothing tuned. It leaves out what polars leaves out.",
)  # fmt: skip
DATACOMPY = Program(
    "datacompy", "rival_datacompy.py", "verdicts, and nearly all else",
    "`PolarsCompare` of records and receipts on `message_id` with `status`, `error_code` and "
    "`price`, and its report, which says how many ids are on one side only, in how many rows each "
    "column is unequal, and shows ten of them. It leaves out the deciding receipt (of several it "
    "pairs whichever sorts first), repeats, every time (as_of, grace, maturity, what may still "
    "come), that `read` is delivered, that a record's error_code is no err-code, handsets, "
    "networks, signatures, all verdicts and reasons, what became of orphans, sums by country and "
    "network, money, and tables to go on with.",
    judges=False,
    needs=("datacompy>=1.1,<2", "pyarrow"),
)  # fmt: skip
FLOOR = Program(
    "the floor", "floor.py", "all but reading and the join",
    "DuckDB reads the columns that judging reads, and counts the bare join on `message_id`. Not a "
    "row is reduced, judged, sorted or written.",
    judges=False,
)  # fmt: skip
PROGRAMS = (OURS, SPARK, SQL, POLARS, PANDAS, DATACOMPY, FLOOR)
