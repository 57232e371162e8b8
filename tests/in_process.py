"""The command in this process: starting one of its own takes longer than most of what it does."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Mapping, Sequence
from contextlib import chdir, redirect_stderr, redirect_stdout
from pathlib import Path
from unittest.mock import patch

import pytest

from reconcile import cli


def called(
    arguments: Sequence[str], environment: Mapping[str, str], folder: Path
) -> tuple[int, str, str]:
    """Calls the console script's own function with nothing but this environment, in that folder:
    exit code, stdout, stderr."""
    out, err = io.StringIO(), io.StringIO()
    with (
        patch.dict(os.environ, environment, clear=True), chdir(folder),
        patch.object(sys, "argv", ["reconcile", *arguments]),
        redirect_stdout(out), redirect_stderr(err), pytest.raises(SystemExit) as ended,
    ):  # fmt: skip
        cli.main()
    return int(ended.value.code or 0), out.getvalue(), err.getvalue()
