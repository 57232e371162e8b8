"""A command on a terminal of its own, on which somebody may type."""

from __future__ import annotations

import os
import pty
import subprocess
from collections.abc import Iterable, Mapping
from pathlib import Path


def on_terminal(
    command: list[str], env: Mapping[str, str], answers: Iterable[str] = (), cwd: Path | None = None
) -> bytes:
    """All that the terminal got until the command ended with 0; answers are typed ahead."""
    ours, theirs = pty.openpty()
    with subprocess.Popen(
        command, stdin=theirs, stdout=theirs, stderr=theirs, env=env, cwd=cwd
    ) as running:
        os.close(theirs)
        os.write(ours, "".join(f"{answer}\n" for answer in answers).encode())
        seen = b""
        while chunk := _read(ours):
            seen += chunk
        os.close(ours)
    assert running.returncode == 0, seen
    return seen


def _read(terminal: int) -> bytes:
    """What a terminal got; nothing when its program has ended."""
    try:
        return os.read(terminal, 65536)
    except OSError:
        return b""
