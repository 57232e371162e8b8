"""Every error the job raises on purpose, and the exit code each one means.

    ReconcileError                   1
    ├── UsageError                   2   flags, settings, or a store of another version
    │   ├── SettingsError            2
    │   └── StoreVersionError        2
    ├── VonageError                  4   Vonage could not be reached, or refused
    │   ├── UnreachableError         4
    │   ├── ApiError                 4   answered with a problem: its title, detail, instance
    │   │   ├── AuthError            4   401 or 403: this account stops at once
    │   │   └── RateLimitError       4   429 until the retries ran out
    │   ├── ReportError              4   an asynchronous report failed, aborted or vanished
    │   └── BudgetError              4   the next request could exceed `max_billed_records`
    ├── ContractError                5   data does not keep its declared contract, or a sum is open
    ├── InputError                   6   a local file is not what it should be
    │   ├── UnreadableError          6   it cannot be read at all
    │   └── DiskError                6
    │       └── BucketError          6   the store's bucket could not be reached, or refused
    ├── ClusterError                 6   Spark is not there, is another one, or was lost
    └── LockedError                 75   another run holds the store's lock

An odd pair of record and receipt is never an error: it is a verdict. An unreadable line is a
reject. A day that could not be made whole is not raised either: the run ends with INCOMPLETE.
Nor is a rule of `--fail-on` that was exceeded: EXCEEDED, which INCOMPLETE outranks.
"""

from __future__ import annotations

from typing import ClassVar

DONE = 0
BUG = 1
INCOMPLETE = 3
EXCEEDED = 10
INTERRUPTED = 130
TERMINATED = 143


class ReconcileError(Exception):
    """The root: one line that says what, where and how to mend it."""

    exit_code: ClassVar[int] = 1


class UsageError(ReconcileError):
    """Flags or settings that cannot be meant."""

    exit_code = 2


class SettingsError(UsageError):
    """`reconcile.toml`, the environment or a flag holds something that is no setting."""


class StoreVersionError(UsageError):
    """The store was written by another version of its layout."""


class VonageError(ReconcileError):
    """Vonage could not be reached, or refused."""

    exit_code = 4


class UnreachableError(VonageError):
    """No whole answer came within the allowed tries."""


class ApiError(VonageError):
    """The Reports API answered with a problem.

    Args:
        status: the HTTP status.
        title, detail, instance: the API's own words (application/problem+json), "" where absent.
        where: method and path of the request.
    """

    mend: ClassVar[str] = ""

    def __init__(
        self, status: int, title: str, detail: str = "", instance: str = "", where: str = ""
    ) -> None:
        self.retry_after: float | None = None
        self.status, self.title, self.detail = status, title, detail
        self.instance, self.where = instance, where
        words = f"{title}: {detail}" if detail else title
        tail = f" [instance {instance}]" if instance else ""
        mend = self.mend or ("run again later" if status >= 500 else "")
        told = f"Vonage answered {status} to {where}: {words}{tail}"
        super().__init__(f"{told}; {mend}" if mend else told)


class AuthError(ApiError):
    """401 or 403: the credentials or the account are refused."""

    mend = "check the API key, its secret, and that the account may use the Reports API"


class RateLimitError(ApiError):
    """429 on every try."""

    mend = "run again later: others use this account's requests as well"


class ReportError(VonageError):
    """An asynchronous report ended in FAILED or ABORTED, vanished, or took too long."""


class BudgetError(VonageError):
    """The next request could bill more records than `max_billed_records` allows."""


class ContractError(ReconcileError):
    """Data broke the contract of its table, or a sum that must close is open."""

    exit_code = 5


class InputError(ReconcileError):
    """A local file is missing, unreadable, or not what its place demands."""

    exit_code = 6


class UnreadableError(InputError):
    """A local file cannot be opened or read: no permission, a broken disk, no regular file."""


class DiskError(InputError):
    """The store's disk refused: full, read-only, or no permission."""


class BucketError(DiskError):
    """The bucket of the store, or of captures, could not be reached, or refused."""


class ClusterError(ReconcileError):
    """The Spark cluster cannot be reached, is of another version, or was lost in the middle."""

    exit_code = 6


class LockedError(ReconcileError):
    """Another run holds the store's lock."""

    exit_code = 75


# What an operating system says → how to mend it.
_MENDS = {
    "No space left": "free some, or take a place that has more",
    "quota exceeded": "free some, or take a place that has more",
    "Permission denied": "give the job's user the right to it",
    "Operation not permitted": "give the job's user the right to it",
    "Read-only file system": "take a place that can be written",
    "No such file": "correct its path",
    "Is a directory": "name a file",
    "Not a directory": "correct its path",
    "Too many open files": "raise the limit (ulimit -n)",
    "Input/output error": "the disk is failing: look at it first",
}


def first_line(error: Exception) -> str:
    """What the engine says is wrong, in one line."""
    return str(error).strip().split("\n")[0]


def trouble(error: Exception) -> str:
    """What a disk or the engine has against it, in one line, and how to mend it where known."""
    told = getattr(error, "strerror", None) or first_line(error)
    mend = next((mend for words, mend in _MENDS.items() if words in told), "")
    return f"{told}: {mend}" if mend else told
