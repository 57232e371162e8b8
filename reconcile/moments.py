"""A moment as an expression: a literal, or whatever an engine has for one."""

from __future__ import annotations

from datetime import datetime
from typing import TypeAlias

import ibis
import ibis.expr.datatypes as dt

INSTANT = dt.Timestamp(timezone="UTC", scale=6)
Moment: TypeAlias = "datetime | ibis.Value"


def instant(as_of: Moment) -> ibis.Value:
    """A moment as an expression, which it may be already."""
    return ibis.literal(as_of, type=INSTANT) if isinstance(as_of, datetime) else as_of
