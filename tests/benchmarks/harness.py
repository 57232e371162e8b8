"""What the benchmarks share: the machine in one line, and programs in processes of their own."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


VERSIONS = ("duckdb", "ibis-framework", "pandas", "pyarrow")


def hardware() -> str:
    """What all this ran on, in a few words."""
    facts = Path("/proc/cpuinfo").read_text("utf-8").splitlines()
    model = next((line.split(":", 1)[1].strip() for line in facts if "model name" in line), "?")
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return f"{model}, {os.cpu_count()} cores, {memory:.0f} GiB"


def versions(*more: str) -> str:
    """What it ran by, in one line."""
    told = [f"{name} {version(name)}" for name in sorted((*VERSIONS, *more))]
    return ", ".join([f"Python {platform.python_version()}", *told])


def machine(memory_limit: str) -> str:
    """Both, and what the engine may take, in one line."""
    return f"{hardware()}; {versions()}; engine's memory limit {memory_limit}"


def python(*call: object) -> str:
    done = subprocess.run(
        [sys.executable, *map(str, call)], stdout=subprocess.PIPE, text=True, env=environment()
    )
    if done.returncode:
        raise SystemExit(f"{call[0]} failed, exit code {done.returncode}")
    return done.stdout.strip()


def environment() -> dict[str, str]:
    """Ours, with the package of this checkout first and no setting of the user's."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith("RECONCILE_")}
    paths = [kept["PYTHONPATH"]] if kept.get("PYTHONPATH") else []
    return kept | {"PYTHONPATH": os.pathsep.join([*paths, str(ROOT)])}


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
