"""Schedules as configured, ready to be asked."""

from collections.abc import Mapping
from typing import Any, NamedTuple

from roundsman.schedules.interface import Schedule, ScheduleError
from roundsman.schedules.plans import Spreadable, plan_of, spreadable
from roundsman.schedules.splay import share_of
from roundsman.wire import job as wire


class Planned(NamedTuple):
    """A schedule as configured, ready to be asked."""

    configured: wire.Schedule
    spreadable: Spreadable

    def of(self, device: str, job: str) -> tuple[Schedule, str]:
        """The due times of one device with a job, and the same as a text."""
        splay = self.spreadable.splay
        share = share_of(device, job, splay.window) if splay is not None else 0
        return self.spreadable.times(share), plan_of(self.configured, share)


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
            return Planned(configured, spreadable(configured))
        except ScheduleError as error:
            return error.text
