"""Reconciles Vonage SMS records with captured delivery receipts.

In Python, `reconcile.open("store")` gives the published tables as pandas frames.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import os

    from reconcile.frames import Frames

__version__ = "0.1.0"


def open(  # noqa: A001 - meant to be said as `reconcile.open`
    store: str | os.PathLike[str], *, memory_limit: str | None = None, threads: int | None = None
) -> Frames:
    """Opens a store to read its published tables; it locks nothing and changes nothing.

    Args:
        store: the folder of the tables, or `s3://BUCKET/FOLDER`.
        memory_limit: memory of the engine, such as `2GB`; None: half of the machine's.
        threads: threads of the engine; None: all.

    Raises:
        UsageError: there is no store, or it is of another version.

    Example:
        >>> import reconcile
        >>> store = reconcile.open("store")
        >>> store.summary(start="2026-01-01", end="2026-02-01")
        >>> store.verdicts(where="verdict = 'missing' AND country = 'DE'")
        >>> store.explain("0A000000C1D20001")
    """
    from pathlib import Path

    from reconcile.bucket import is_url
    from reconcile.frames import Frames

    place = store if is_url(store) else Path(store).expanduser()
    return Frames(place, memory_limit=memory_limit, threads=threads)
