"""The Wilson 95 % interval of a share (Wilson 1927): one formula for all that says a rate."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

# The quantile of the normal distribution that leaves 2.5 % on either side.
Z95 = 1.959963984540054


def wilson(share: Any, n: Any, root: Callable[[Any], Any]) -> tuple[Any, Any]:
    """The interval's two ends; rounding may leave them a hair outside of 0 and 1.

    Args:
        share, n: a share of n, n above 0: numbers, arrays or expressions alike.
        root: the square root of what they are.
    """
    spread = Z95 * root(share * (1 - share) / n + Z95**2 / (4 * n**2))
    centre, scale = share + Z95**2 / (2 * n), 1 + Z95**2 / n
    return (centre - spread) / scale, (centre + spread) / scale
