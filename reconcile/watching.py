"""A run as those see it who watch from outside: pings, the webhook, the textfile.

What cannot be told is a warning, never another end of the run. Nothing is sent of a run that was
killed (SIGKILL, the power): the ping of the next start says that one before did not end.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from reconcile import __version__, metrics, notify
from reconcile.errors import DONE, ReconcileError, trouble
from reconcile.metrics import Ended
from reconcile.run import Run
from reconcile.settings import PING_URL, WEBHOOK_URL, Settings, secret_url
from reconcile.store import Store

# Of what a webhook gets; a key that changes its meaning or goes makes it another.
SCHEMA = "reconcile.run/1"


@dataclass
class Watch:
    """What a run has to tell; `run` is there once it came to its end by itself."""

    settings: Settings
    warn: Callable[[str], None]
    run: Run | None = None
    _ping: str | None = None
    _webhook: str | None = None
    _begun: float = field(default_factory=time.monotonic)

    def begin(self) -> None:
        """Pings the start."""
        if self._ping:
            notify.ping(self._ping, "start", _begins(self.settings), self.warn)

    def end(self, exit_code: int, problem: str) -> None:
        """Writes the textfile, pings success or failure, and calls the webhook."""
        if self.settings.metrics_file:
            self._write_metrics(self.settings.metrics_file, exit_code)
        told = payload(self.run, exit_code, problem)
        if self._ping:
            event = "fail" if exit_code else "success"
            notify.ping(self._ping, event, _as_text(told), self.warn)
        if self._webhook:
            notify.post(self._webhook, told, self.warn)

    def _write_metrics(self, path: Path, exit_code: int) -> None:
        run = self.run
        ended = Ended(
            at=round(time.time(), 3),
            seconds=round(time.monotonic() - self._begun, 3),
            exit_code=exit_code,
            holes=len(run.holes) if run else 0,
            exceeded=len(run.exceeded) if run else 0,
            billed=run.ledger.billed if run else None,
            found=run.found if run else {},
        )
        try:
            metrics.write(path, ended)
        except OSError as error:
            self.warn(f"metrics_file {path} cannot be written: {trouble(error)}")


@contextmanager
def watched(
    settings: Settings, code_of: Callable[[BaseException], int], warn: Callable[[str], None]
) -> Iterator[Watch]:
    """Tells of a run's start and of its end, however it ends.

    Args:
        settings: as loaded.
        code_of: the exit code that an exception will make.
        warn: gets a line for each that could not be told.

    Raises:
        SettingsError: a URL of those who watch is none.
    """
    watch = Watch(settings, warn, None, secret_url(PING_URL), secret_url(WEBHOOK_URL))
    try:
        watch.begin()
        yield watch
    except BaseException as error:
        watch.end(code_of(error), _problem(error))
        raise
    watch.end(watch.run.exit_code if watch.run else DONE, "")


def payload(run: Run | None, exit_code: int, problem: str = "") -> dict[str, Any]:
    """What a webhook gets; docs/webhook.schema.json has its keys.

    Args:
        run: the run; None: it did not come to its end.
        exit_code: as the shell sees it.
        problem: why it did not.
    """
    manifest, found = (run.manifest, run.found) if run else ({}, {})
    return {
        "schema": SCHEMA,
        "package_version": __version__,
        "command": manifest.get("command", "run"),
        "run_id": manifest.get("run_id"),
        "as_of": manifest.get("as_of"),
        "exit_code": exit_code,
        "problem": problem or None,
        "days": found.get("days", []),
        "counts": found.get("counts"),
        "rates": found.get("rates"),
        "digest": found.get("digest"),
        "billed": manifest.get("billed", {}).get("run"),
        "incomplete": run.holes if run else [],
        "exceeded": run.exceeded if run else [],
        "worst_networks": found.get("worst_networks", []),
        "suspect_networks": found.get("suspect_networks", []),
    }


def _as_text(told: dict[str, Any]) -> str:
    """What a health check shows: the same in lines, without the networks' numbers."""
    counts = told["counts"] or {}
    lines = [
        f"exit {told['exit_code']}" + (f": {told['problem']}" if told["problem"] else ""),
        *(f"{name}: {told[name]}" for name in ("as_of", "run_id", "billed") if told[name]),
        f"days: {', '.join(told['days']) or 'none judged'}",
        *(f"{name}: {count}" for name, count in counts.items()),
        f"suspect_networks: {len(told['suspect_networks'])}",
        *(f"incomplete: {hole['day']}: {hole['reason']}" for hole in told["incomplete"]),
        *(f"exceeded: {sentence}" for sentence in told["exceeded"]),
        *([f"digest: {told['digest']}"] if told["digest"] else []),
    ]
    return "\n".join(lines) + "\n"


def _begins(settings: Settings) -> str:
    """What the ping of a start says: whether the run before came to its end."""
    stopped = None
    with suppress(ReconcileError):
        stopped = Store(settings.store).unfinished()
    if not stopped:
        return "begins\n"
    return f"begins; a run before has not ended: as of {stopped.get('as_of')}\n"


def _problem(error: BaseException) -> str:
    """Why a run ended, in words for others: only our own errors are known to hold no secret."""
    if isinstance(error, ReconcileError):
        return " ".join(str(error).split())
    return "stopped" if isinstance(error, SystemExit | KeyboardInterrupt) else type(error).__name__
