"""How long a large month's report takes, how large it is: `python -m tests.benchmarks.report`.

The month is invented straight into the small tables, which are all that the report reads.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tests.invented_month import START, Month, invent

DAYS, NETWORKS = 30, 400
MOST_SECONDS, MOST_BYTES = 15, 3_000_000


def main() -> None:
    """Makes the month, then its report by the command itself; fails where it is too much."""
    with tempfile.TemporaryDirectory() as folder:
        store, file = Path(folder, "store"), Path(folder, "report.html")
        begun = time.perf_counter()
        month = Month(days=2 * DAYS, networks=NETWORKS, holes=(35,), half=(40,))
        invent(store, month)
        print(f"invented in {time.perf_counter() - begun:.1f} s")
        ends = [str(START.fromordinal(START.toordinal() + n)) for n in (DAYS, 2 * DAYS)]
        command = [sys.executable, "-m", "reconcile.cli", "report", "--store", str(store),
                   "--from", ends[0], "--to", ends[1], "-o", str(file)]  # fmt: skip
        begun = time.perf_counter()
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        seconds, size = time.perf_counter() - begun, file.stat().st_size
        print(f"report of {DAYS} days × {month.messages:,} messages × {NETWORKS} networks: "
              f"{seconds:.1f} s, {size:,} bytes")  # fmt: skip
        if seconds > MOST_SECONDS or size > MOST_BYTES:
            raise SystemExit("too slow or too large")


if __name__ == "__main__":
    main()
