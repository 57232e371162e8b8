"""As `ours.py`, and the day's networks are judged as a whole."""

from __future__ import annotations

from ours import judge_all
from program import run

from reconcile import networking  # noqa: F401 - before the clock starts, like the rest of the job

if __name__ == "__main__":
    run(judge_all)
