"""The budget: what Vonage bills in this run, counted, and stopped before it is too much."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from reconcile.errors import ApiError, BudgetError


class Budget:
    """Counts the records that Vonage bills in this run; threads may share it.

    Attributes:
        spent: records that came, and those of reports that were made for us.
        lost: the most that answers which never came whole may have cost besides.
    """

    def __init__(self, most: int | None) -> None:
        self.spent = self.lost = 0
        self._most, self._held = most, 0
        self._changed = threading.Condition()

    def hold(self, records: int) -> int:
        """Sets so many aside for a request, and returns them, for `settle`.

        What is set aside for others may be less in the end: they are waited for.

        Raises:
            BudgetError: there are not so many left: the request may not be made.
        """
        with self._changed:
            while self._most is not None:
                gone = self.spent + self.lost
                if gone + max(records, 1) > self._most:
                    raise BudgetError(
                        f"max_billed_records is {self._most} and {gone} are spent: the next "
                        "request could exceed it; raise it to go on"
                    )
                if gone + self._held + max(records, 1) <= self._most:
                    break
                self._changed.wait()
            self._held += records
        return records

    def settle(self, held: int, billed: int, lost: int = 0) -> None:
        """Frees what was set aside, and notes what was billed instead."""
        with self._changed:
            self._held -= held
            self.spent += billed
            self.lost += lost
            self._changed.notify_all()

    @contextmanager
    def asking(self, most: int) -> Iterator[Callable[[int], None]]:
        """Around one request that may bill up to `most` records; told of those that came.

        An answer that is lost on its way was perhaps billed: it counts as lost. One that is a
        refusal was not.
        """
        held, came = self.hold(most), None

        def bill(records: int) -> None:
            nonlocal came
            came = records

        try:
            yield bill
        except ApiError:
            came = 0
            raise
        except Exception as error:
            came = None if may_be_billed(error) else 0
            raise
        finally:
            self.settle(held, came or 0, lost=most if came is None else 0)


def may_be_billed(error: Exception) -> bool:
    """Whether the request of a failure may have reached Vonage."""
    import requests
    from urllib3.exceptions import NameResolutionError, NewConnectionError, SSLError

    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, (requests.ConnectTimeout, requests.exceptions.SSLError, SSLError,
                              NewConnectionError, NameResolutionError)):  # fmt: skip
            return False
        reason = getattr(cause, "reason", None)
        wrapped = cause.args[0] if cause.args and isinstance(cause.args[0], Exception) else None
        cause = reason if isinstance(reason, Exception) else wrapped
    return True
