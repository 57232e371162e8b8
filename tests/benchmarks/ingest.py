"""Times taking captures in against hand-written programs, one a format, and a rerun.

    python -m tests.benchmarks.ingest --lines 2000000

First both programs of a format must make the same tables; only then is anything timed. This process
imports nothing heavy: a child's peak memory begins with what its parent held when it was started.
"""

from __future__ import annotations

import argparse
import gzip
import json
import shutil
import statistics
import tempfile
from importlib.metadata import version
from pathlib import Path

from tests.benchmarks.harness import machine, python, say

HERE = Path(__file__).resolve().parent
OURS = HERE / "ingest_ours.py"
AS_OF = "2026-02-01T00:00:00+00:00"

# Of each program: the capture's name, the rival and what it is.
PROGRAMS = {
    "ndjson": ("a.ndjson", "ingest_rival_ndjson.py", "orjson + a loop"),
    "access log": ("a.log", "ingest_rival_log.py", "a regex loop"),
    "csv": ("a.csv", "ingest_rival_csv.py", "pandas.read_csv"),
}
RERUN, MEMORY = "rerun", "memory"
FOLDER = (
    "a.ndjson", "b.ndjson", "c.ndjson.gz", "d.ndjson.gz", "e.log", "f.log.gz", "g.csv", "h.csv.gz",
)  # fmt: skip
Took = dict[str, float]


def main() -> None:
    """Prepares, compares, times and prints."""
    told = _told()
    print(f"{machine(told.memory_limit)}; orjson {version('orjson')}", "\n")
    print("| lines | capture | program | median s | CPU s | × ours | peak MB |")
    print("|---:|---|---|---:|---:|---:|---:|", flush=True)
    sums = []
    for name in told.programs:
        with tempfile.TemporaryDirectory(dir=told.folder, prefix="ingest-") as scratch:
            folder = Path(scratch)
            (folder / "pii.key").write_text("a key for numbers that do not exist\n", "ascii")
            bench = Bench(folder, told.runs, told.memory_limit)
            if name == RERUN:
                rows = bench.rerun(told.lines)
            elif name == MEMORY:
                rows = bench.alone(3 * told.lines)
            else:
                rows = bench.program(name, told.lines)
            print(*rows, sep="\n", flush=True)
            sums += bench.sums
    print("", *sums, sep="\n")


class Bench:
    """The programs in a scratch folder; `sums`: sentences of what became of ours' lines."""

    def __init__(self, folder: Path, runs: int, memory_limit: str) -> None:
        self.folder, self.runs, self.memory_limit = folder, runs, memory_limit
        self.sums: list[str] = []

    def program(self, name: str, lines: int) -> list[str]:
        """Rows of the table for one format: medians of interleaved runs, ours and its rival."""
        file, rival, what = PROGRAMS[name]
        capture = self.folder / file
        self._make([capture], lines)
        scripts = {"ours": OURS, what: HERE / rival}
        took = {who: self._run(script, capture, who) for who, script in scripts.items()}
        self._conserve(name, capture, took["ours"])
        found = python(HERE / "ingest_equal.py", *(self._out(who) for who in scripts))
        if found:
            raise SystemExit(f"{name}: ours and {what} differ, so nothing was timed:\n{found}")
        say(f"{name}: both programs made the same tables")
        taken: dict[str, list[Took]] = {who: [] for who in scripts}
        for run in range(self.runs):
            for who, script in scripts.items():
                shutil.rmtree(self._out(who))
                taken[who].append(self._run(script, capture, who))
                say(f"{name}: run {run + 1}, {who}: {taken[who][-1]}")
        ours = _median(taken["ours"], "seconds")
        return [_row(lines, name, who, all_of, ours) for who, all_of in taken.items()]

    def rerun(self, lines: int) -> list[str]:
        """Rows of the table for a folder that is read, and looked at again; each by a process of
        its own."""
        captures = self.folder / "captures"
        captures.mkdir()
        self._make([captures / name for name in FOLDER], lines)
        taken: dict[str, list[Took]] = {"first run": [], "rerun": []}
        for run in range(self.runs):
            shutil.rmtree(self._out("ours"), ignore_errors=True)
            for which in taken:
                taken[which].append(self._run(OURS, captures, "ours"))
                say(f"folder: run {run + 1}, {which}: {taken[which][-1]}")
        self._conserve("a folder of 8 files", captures, taken["first run"][0])
        if any(took["lines"] for took in taken["rerun"]):
            raise SystemExit("a rerun over an unchanged folder read lines again")
        first, again = (_median(taken[which], "seconds") for which in taken)
        self.sums.append(f"a rerun over an unchanged folder is {first / again:.0f} × as fast.")
        return [_row(lines, "8 files", which, all_of, first) for which, all_of in taken.items()]

    def alone(self, lines: int) -> list[str]:
        """A row for ours only: its memory must not grow with the capture."""
        capture = self.folder / PROGRAMS["ndjson"][0]
        self._make([capture], lines)
        took = self._run(OURS, capture, "ours")
        self._conserve("ndjson", capture, took)
        return [_row(lines, "ndjson", "ours, once", [took], None)]

    def _make(self, files: list[Path], lines: int) -> None:
        for n, file in enumerate(files):
            share = lines // len(files) + (n < lines % len(files))
            say(f"making {file.name}, {share} lines")
            python(HERE / "ingest_traffic.py", file, share, "--seed", n + 1)

    def _run(self, script: Path, captures: Path, who: str) -> Took:
        call = [script, captures.resolve(), self.folder / "pii.key", self._out(who)]
        return json.loads(python(*call, "--as-of", AS_OF, "--memory-limit", self.memory_limit))

    def _out(self, who: str) -> Path:
        return self.folder / f"out {who}"

    def _conserve(self, name: str, captures: Path, took: Took) -> None:
        """Every line in the bytes must be one of ours' receipts, rejects or blank ones."""
        files = sorted(captures.iterdir()) if captures.is_dir() else [captures]
        there = sum(_lines(file) for file in files)
        parts = [took[part] for part in ("receipts", "rejects", "blank")]
        told = " + ".join(f"{part:,}" for part in parts)
        if not there == took["lines"] == sum(parts):
            raise SystemExit(f"{name}: {there:,} lines in, {took['lines']:,} read, {told} told")
        self.sums.append(f"{name}: {there:,} lines = {told} (receipts, rejects, blank).")


def _lines(file: Path) -> int:
    """Line ends, counted in the bytes; a last line without one counts too."""
    count, last = 0, b"\n"
    with gzip.open(file) if file.suffix == ".gz" else file.open("rb") as bytes_of:
        while block := bytes_of.read(1 << 20):
            count += block.count(b"\n")
            last = block[-1:]
    return count + (last != b"\n")


def _median(taken: list[Took], what: str) -> float:
    return statistics.median(took[what] for took in taken)


def _row(lines: int, capture: str, program: str, taken: list[Took], ours: float | None) -> str:
    seconds, cpu = _median(taken, "seconds"), _median(taken, "cpu")
    ratio = "" if ours is None else f"{seconds / ours:.3g}"
    return (
        f"| {lines:,} | {capture} | {program} | {seconds:.2f} | {cpu:.2f} | {ratio} | "
        f"{max(took['peak_mb'] for took in taken):,.0f} |"
    )


def _told() -> argparse.Namespace:
    names = [*PROGRAMS, RERUN, MEMORY]
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--lines", type=int, default=2_000_000)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--programs", nargs="+", choices=names, default=names)
    parser.add_argument("--memory-limit", default="300MB", help="for ours")
    parser.add_argument("--folder", type=Path, help="where to make a scratch folder")
    return parser.parse_args()


if __name__ == "__main__":
    main()
