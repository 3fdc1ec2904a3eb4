"""What was planned, and what became of it: so that anybody can see whether all is accounted for."""

from enum import StrEnum

import msgspec

from roundsman.wire.run import Cause, Outcome


class OpenState(StrEnum):
    """Where a due time stands that has no outcome yet."""

    WAITING = "waiting"
    """It lies ahead."""
    DUE = "due"
    """It has come, and nobody holds it."""
    LEASED = "leased"
    """A worker holds it."""
    RETRYING = "retrying"
    """An attempt failed, and another follows."""
    PAUSED = "paused"
    """It has come while its device or its job is paused."""
    HELD = "held"
    """It has come while its device's breaker is open."""


class OutcomeCount(msgspec.Struct, frozen=True, kw_only=True):
    """How many due times ended alike."""

    outcome: Outcome
    """`succeeded`, `failed`, `coalesced` or `missed`."""
    cause: Cause | None
    """For coalesced and missed: why they were not run by themselves."""
    count: int
    """How many."""


class OpenCount(msgspec.Struct, frozen=True, kw_only=True):
    """How many due times have no outcome yet."""

    state: OpenState
    """Where they stand."""
    count: int
    """How many."""


class Balance(msgspec.Struct, frozen=True, kw_only=True):
    """Planned due times beside what became of them."""

    planned: int
    """How many there are by the schedules, as they were then."""
    outcomes: tuple[OutcomeCount, ...]
    """How many have an outcome, by outcome and cause."""
    open: tuple[OpenCount, ...]
    """How many have none yet."""
    difference: int
    """`planned` without the two others. Anything but 0 is a fault in Roundsman, or somebody changed
    the ledger by hand."""
    retried: int
    """Attempts that failed and that another followed; they are no outcomes."""
    stale: int
    """Results that came too late and were refused; they are no outcomes."""
    on_demand: int
    """Runs beside the schedule that a person asked for."""


class SlotAudit(msgspec.Struct, frozen=True, kw_only=True):
    """The balance of one device and job."""

    device: str
    """Name of the device."""
    job: str
    """Name of the job."""
    tags: tuple[str, ...]
    """Tags of the device, the last that it had."""
    balance: Balance
    """Its due times."""
    waits_for: Cause | None
    """Why what is due now, if anything is, is not being run: `no_worker`, `busy`, `paused`,
    `breaker_open`."""


class DaySum(msgspec.Struct, frozen=True, kw_only=True):
    """Runs of one day that are kept no longer, and that ended alike."""

    day: int
    """The first second of the day in UTC, Unix seconds. A span counts on that of its first time."""
    job: str
    """Name of the job."""
    outcome: Outcome
    """How they ended."""
    cause: Cause | None
    """For coalesced and missed: why they were not run by themselves."""
    on_demand: bool
    """Whether a person had asked for them."""
    count: int
    """How many due times; of `retried` and `stale`, rows."""


class SlotTotals(msgspec.Struct, frozen=True, kw_only=True):
    """The balance of all slots together."""

    since: int
    """From when on due times are counted, Unix seconds."""
    until: int
    """Before when."""
    slots: int
    """How many slots had a plan in that time."""
    differing: int
    """How many of them have a difference."""
    balance: Balance
    """Their sums."""
