"""What the limits of a claim leave room for: for every driver."""

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple

from roundsman.ledger.fairness import Tags
from roundsman.ledger.interface import ClaimLimits

AT_ONCE = 10
"""A tenth of what may start in a minute may start at once."""


class Bucket(NamedTuple):
    """How many starts a tag has left, as of an instant."""

    tokens: float
    at: float


class Running:
    """The leases that run, counted by what limits are about."""

    def __init__(self) -> None:
        """Nothing runs."""
        self.devices: Counter[str] = Counter()
        self.workers: Counter[str] = Counter()
        self.tags: Counter[str] = Counter()

    def count(self, device: str, tags: Tags, worker_id: str | None, by: int = 1) -> None:
        """One lease more, or less."""
        self._add(self.devices, [device], by)
        self._add(self.workers, [] if worker_id is None else [worker_id], by)
        self._add(self.tags, tags, by)

    @staticmethod
    def _add(counts: Counter[str], names: Iterable[str], by: int) -> None:
        for name in names:
            counts[name] += by
            if not counts[name]:
                del counts[name]


class Gate:
    """What claims that are served together may take, while they take."""

    def __init__(
        self,
        limits: ClaimLimits,
        running: Running,
        buckets: Mapping[str, Bucket],
        *,
        now: float,
    ) -> None:
        """Begin with what runs, and what each limited tag has left."""
        self._limits = limits
        self._running = running
        self._now = now
        self._left: dict[str, float] = {}
        self._tokens: dict[str, float] = {}
        self._started: Counter[str] = Counter()
        for tag, limit in limits.tags.items():
            left = math.inf if limit.sessions is None else limit.sessions - running.tags[tag]
            if limit.starts_per_minute is not None:
                self._tokens[tag] = _tokens(buckets.get(tag), limit.starts_per_minute, now)
                left = min(left, math.floor(self._tokens[tag]))
            self._left[tag] = left

    def room(self, limit: int, worker_id: str | None) -> int:
        """How many of `limit` this claimer may have."""
        most = self._limits.sessions_per_worker
        if most is None or worker_id is None:
            return limit
        return max(0, min(limit, most - self._running.workers[worker_id]))

    def lets(self, tags: Tags) -> bool:
        """Whether there is room for one more with these tags."""
        return not self._left or all(self._left[tag] >= 1 for tag in tags if tag in self._left)

    def take(self, tags: Tags, by: int = 1) -> None:
        """One more with these tags is taken, or given back."""
        for tag in tags if self._left else ():
            if tag in self._left:
                self._left[tag] -= by
                self._started[tag] += by

    def lets_device(self, device: str) -> bool:
        """Whether the device may have one more."""
        most = self._limits.sessions_per_device
        return most is None or self._running.devices[device] < most

    def spent(self) -> Iterator[tuple[str, Bucket]]:
        """The buckets as they are after what was taken."""
        for tag, tokens in self._tokens.items():
            if self._started[tag]:
                yield tag, Bucket(tokens - self._started[tag], self._now)


def _tokens(bucket: Bucket | None, per_minute: int, now: float) -> float:
    most = max(1.0, per_minute / AT_ONCE)
    if bucket is None:
        return most
    return min(most, bucket.tokens + max(0.0, now - bucket.at) * per_minute / 60)
