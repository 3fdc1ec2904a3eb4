"""Plans: the due times of one slot as a text, which a ledger keeps and anybody can read again."""

import hashlib
from functools import lru_cache
from typing import Final, NamedTuple

import msgspec

from roundsman.schedules.build import build, splay_of
from roundsman.schedules.interface import Schedule, ScheduleError
from roundsman.schedules.splay import Splay, Splayed
from roundsman.wire import job


class Plan(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A schedule, and the slot's own share of its splay."""

    schedule: job.Schedule
    """As configured."""
    share: int = 0
    """How many seconds of the splay this slot waits; 0 where there is no splay."""


class _Unknown:
    """The due times of a plan that cannot be read: nothing is known of them."""

    def next_after(self, after: float) -> int | None:
        return None

    def count(self, after: float, until: float) -> int:
        return 0


UNKNOWN: Final[Schedule] = _Unknown()

_decoder: "msgspec.json.Decoder[Plan]" = msgspec.json.Decoder(Plan)


class Spreadable(NamedTuple):
    """A configured schedule, ready to be asked."""

    base: Schedule
    splay: Splay | None

    def times(self, share: int) -> Schedule:
        """The due times of the slot that has this share of the splay."""
        return self.base if self.splay is None else Splayed(self.splay, share)


@lru_cache(maxsize=4096)
def spreadable(schedule: job.Schedule) -> Spreadable:
    """The schedule, built once for all who share it. Raises `ScheduleError`."""
    base = build(schedule)
    return Spreadable(base, splay_of(schedule, base))


def plan_of(schedule: job.Schedule, share: int = 0) -> str:
    """The plan as its text; equal texts are equal times."""
    return msgspec.json.encode(Plan(schedule=schedule, share=share)).decode()


@lru_cache(maxsize=16_384)
def times_of(plan: str) -> Schedule:
    """The due times of a plan; `UNKNOWN` for a text that is none."""
    try:
        read = _decoder.decode(plan)
        return spreadable(read.schedule).times(read.share)
    except (msgspec.MsgspecError, ScheduleError):
        return UNKNOWN


def is_same(kept: str, wanted: str) -> bool:
    """Whether a kept plan is the wanted one; earlier releases kept a fingerprint instead."""
    if kept == wanted:
        return True
    if kept.startswith("{"):
        return False
    schedule = msgspec.json.encode(_decoder.decode(wanted).schedule)
    return hashlib.sha256(schedule).hexdigest()[:16] == kept
