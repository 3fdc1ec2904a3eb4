"""What becomes of an attempt that failed: whether another follows, and whether its device is well.

Pure functions of what the worker said, what is configured, and time. Jitter is passed in, from 0
to 1.
"""

import math
from typing import Final, NamedTuple

from roundsman.config.records import BreakerSettings, Retries
from roundsman.wire.breaker import Breaker
from roundsman.wire.run import FailureClass, Outcome, Run

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
        FailureClass.SHRUNK,
    }
)
"""What may go better the next time. Whatever is not here would only fail again; a wrong password
would moreover lock the account. So might a failure without a class, as clients report it that know
only the published contract: it is final too."""

LOGIN: Final = frozenset({FailureClass.AUTHENTICATION, FailureClass.ENABLE})
"""What, repeated, locks an account."""

OF_THE_DEVICE: Final = LOGIN | {
    FailureClass.UNREACHABLE,
    FailureClass.REFUSED,
    FailureClass.HOST_KEY,
}
"""What would have failed whatever the job."""

UNCERTAIN: Final = frozenset(
    {
        FailureClass.PROMPT,
        FailureClass.CLOSED_EARLY,
        FailureClass.TIMED_OUT,
        FailureClass.INTERNAL,
        FailureClass.INVALID,
        FailureClass.OTHER,
    }
)
"""What may be the device's fault, the job's or the worker's. After any other failure the device is
well: it let the worker in, and answered."""

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
    come before.
    """
    if failure_class not in MAY_PASS or attempt > retries.attempts:
        return None
    at = _later(now, retries.delay, attempt - 1, LONGEST_DELAY_SECONDS, jitter)
    return at if next_due is None or at < next_due else None


class Health(NamedTuple):
    """What a run says of its device."""

    answered: bool
    """Whether it is well."""
    failed: bool = False
    """Whether it is not."""
    breaker: Breaker | None = None
    """What its failures have come to; none where there are none."""


def health_after(
    run: Run, before: Breaker | None, settings: BreakerSettings, *, now: float, jitter: float
) -> Health:
    """What a run says of its device, after the failures in a row that are known `before` it.

    While a breaker is open, only the failure of a probe widens it: leases of before it opened, and
    what a person asked for, may end meanwhile.
    """
    failure_class = run.failure_class or FailureClass.OTHER
    if run.outcome is Outcome.SUCCEEDED or not settings.enabled:
        return Health(answered=True)
    if not _is_of_the_device(run):
        answered = failure_class not in UNCERTAIN
        return Health(answered=answered, breaker=None if answered else before)
    failures = (before.failures if before else 0) + 1
    opened_at, probe_at = (before.opened_at, before.probe_at) if before else (None, None)
    probes = before.probes if before else 0
    if probe_at is None:
        if failures >= (settings.login_failures if failure_class in LOGIN else settings.failures):
            opened_at = now
            probe_at = _later(now, settings.seconds, 0, settings.longest_seconds, jitter)
    elif now >= probe_at:
        probes += 1
        probe_at = _later(now, settings.seconds, probes, settings.longest_seconds, jitter)
    return Health(
        answered=False,
        failed=True,
        breaker=Breaker(
            device=run.device,
            failures=failures,
            failure_class=failure_class,
            failure=run.failure or "",
            failed_at=now,
            opened_at=opened_at,
            probe_at=probe_at,
            probes=probes,
        ),
    )


def _is_of_the_device(run: Run) -> bool:
    """Time that ran out before anything was said ran out at the login."""
    silent = run.failure_class is FailureClass.TIMED_OUT and not run.size
    return silent or run.failure_class in OF_THE_DEVICE


def _later(now: float, seconds: int, doublings: int, longest: int, jitter: float) -> int:
    # 2 ** 20 s are twelve days: more doublings change nothing, and must not overflow.
    delay = min(seconds * (1 << min(doublings, 20)), longest)
    return math.ceil(now + delay * (1 + JITTER * jitter))
