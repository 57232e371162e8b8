"""The job's own night with the day's networks, as it is published."""

from __future__ import annotations

from whole_ours import work_all
from whole_program import run

if __name__ == "__main__":
    run(work_all)
