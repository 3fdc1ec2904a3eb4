"""Which call is repeated after which error, and how long to wait before."""

import random
from collections.abc import Mapping
from enum import StrEnum
from typing import Final

from roundsman.client.errors import BusyError, ControllerError, NotConnectedError, UnreachableError


class CallKind(StrEnum):
    """What repeating a call would do."""

    READ = "read"
    """It changes nothing."""
    REPEATABLE = "repeatable"
    """It changes something, and the same again changes nothing more: stop, pause, run now."""
    ONCE = "once"
    """Each repetition is one more: enrol, start."""
    LOOPED = "looped"
    """The caller is a loop with a pace of its own: next, heartbeat, and complete (for which
    `worker.uploader.judge` is the table)."""


RETRIED: Final[Mapping[CallKind, tuple[type[ControllerError], ...]]] = {
    CallKind.READ: (UnreachableError, BusyError),
    CallKind.REPEATABLE: (UnreachableError, BusyError),
    CallKind.ONCE: (NotConnectedError,),
    CallKind.LOOPED: (),
}
"""The table. `CertificateError`, though a kind of `NotConnectedError`, is never retried here: it
needs a person."""

ATTEMPTS: Final = 3
"""How often a call is tried in all. With `CALLS`, over in about a second: a person is waiting."""


class Backoff:
    """Exponential waiting with full jitter, so that many clients do not come back together."""

    def __init__(self, *, first: float, longest: float, chance: random.Random) -> None:
        """Wait up to `first` seconds at first, doubling, never above `longest`."""
        self._first = first
        self._longest = longest
        self._chance = chance

    def delay(self, failures: int, *, at_least: float | None = None) -> float:
        """Seconds to wait after that many failures in a row (1 or more).

        `at_least` is what the other side asked for (`Retry-After`); the jitter comes on top, and
        the wish is heeded up to `longest` only.
        """
        # 2 ** 30 seconds are beyond any `longest`; the cap keeps the power from overflowing.
        ceiling = min(self._longest, self._first * 2.0 ** min(failures - 1, 30))
        wish = min(at_least, self._longest) if at_least is not None else 0.0
        return wish + self._chance.uniform(0.0, ceiling)
