"""Schedules as configured, ready to be asked."""

import hashlib
from collections.abc import Mapping
from typing import Any, NamedTuple

import msgspec

from roundsman.schedules.build import build
from roundsman.schedules.interface import Schedule, ScheduleError
from roundsman.wire import job as wire


class Planned(NamedTuple):
    """A schedule as configured, ready to be asked, and its fingerprint."""

    configured: wire.Schedule
    times: Schedule
    plan: str


class Schedules:
    """Builds each schedule once, however many jobs have it."""

    def __init__(self) -> None:
        self._known: dict[wire.Schedule, Planned | str] = {}

    def plan(self, says: Mapping[str, Any]) -> Planned:
        """A schedule as a file gives it. Raises `ValueError` with what is wrong."""
        configured = wire.Schedule(**says)
        if configured not in self._known:
            self._known[configured] = self._built(configured)
        known = self._known[configured]
        if isinstance(known, str):
            raise ValueError(known)
        return known

    @staticmethod
    def _built(configured: wire.Schedule) -> Planned | str:
        try:
            times = build(configured)
        except ScheduleError as error:
            return error.text
        canonical = msgspec.json.encode(configured)
        return Planned(configured, times, hashlib.sha256(canonical).hexdigest()[:16])
