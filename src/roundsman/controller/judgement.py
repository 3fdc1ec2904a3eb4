"""What becomes of an attempt that failed: whether another one follows, and when.

Pure functions of what the worker said, what is configured, and time.
"""

import math
from typing import Final

from roundsman.config.records import Retries
from roundsman.wire.run import FailureClass

MAY_PASS: Final = frozenset(
    {
        FailureClass.UNREACHABLE,
        FailureClass.REFUSED,
        FailureClass.PROMPT,
        FailureClass.UNVERIFIED,
        FailureClass.FILE,
        FailureClass.TIMED_OUT,
        FailureClass.CLOSED_EARLY,
        FailureClass.INTERNAL,
    }
)
"""What may go better the next time. Whatever is not here would only fail again; a wrong password
would moreover lock the account. So might a failure without a class, as clients report it that know
only the published contract: it is final too."""

LONGEST_DELAY_SECONDS: Final = 3600
JITTER: Final = 0.25
"""Up to this share is added to a delay, so that what failed together is not tried together."""


def retry_at(
    retries: Retries,
    failure_class: FailureClass | None,
    *,
    attempt: int,
    next_due: int | None,
    now: float,
    jitter: float,
) -> int | None:
    """When the attempt after this one is to be made, the first being 1; none: this was the last.

    `next_due` is the slot's next due time (none: its schedule has ended), which an attempt has to
    come before; `jitter` is from 0 to 1.
    """
    if failure_class not in MAY_PASS or attempt > retries.attempts:
        return None
    delay = min(retries.delay * 2 ** (attempt - 1), LONGEST_DELAY_SECONDS)
    at = math.ceil(now + delay * (1 + JITTER * jitter))
    return at if next_due is None or at < next_due else None
