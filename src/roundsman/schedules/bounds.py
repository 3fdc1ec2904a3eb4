"""The stretch of time in which schedules know their way: the years 2 to 9999."""

import math
from typing import Final

FIRST: Final = -62_104_060_800
"""0002-01-01T00:00:00Z: one year inside what `datetime` can say, so that no time zone leaves it."""
LAST: Final = 253_402_300_799
"""9999-12-31T23:59:59Z, the last second that can be due."""


def whole_seconds(after: float) -> int | None:
    """The last whole second at or before `after`, not before `FIRST`; none from `LAST` on.

    A whole second is later than `after` exactly if it is later than this one.
    """
    if after < FIRST:
        return FIRST
    if not after < LAST:  # true for "not a number" too, which nothing is later than
        return None
    return math.floor(after)
