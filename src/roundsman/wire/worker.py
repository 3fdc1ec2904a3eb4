"""A worker: an agent in a network segment, with a lasting id."""

import msgspec

from roundsman.secret import Secret
from roundsman.wire.control import Bound
from roundsman.wire.execution import LeaseKey


class Worker(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of one worker."""

    worker_id: str
    """UUID, given by the controller at enrolment, for good."""
    name: str
    """For people; the host name unless set."""
    tags: tuple[str, ...]
    """Tags it asks work for; none means every device."""
    version: str
    """Release it runs."""
    enrolled_at: float
    """Unix seconds."""
    seen_at: float
    """Last heartbeat or control connection, Unix seconds."""
    address: str | None = None
    """Address it was last seen from."""
    connected: bool = False
    """Whether its control channel is open now."""
    allowed_tags: tuple[str, ...] = ()
    """Only devices with any of these are handed to it, as its enrolling credential was narrowed;
    fixed at enrolment. None: every device."""
    bounds: tuple[Bound, ...] = ()
    """What its machine gives processes, and what it lacks; in the details of one that is connected
    only."""


class EnrolRequest(msgspec.Struct, frozen=True, kw_only=True):
    """What a worker says of itself when it first comes."""

    name: str
    """For people; usually the host name."""
    tags: tuple[str, ...] = ()
    """Tags it will ask work for."""
    version: str = ""
    """Release it runs."""


class EnrolAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """What the worker keeps for good."""

    worker_id: str
    """UUID."""
    token: Secret
    """Bearer token for everything this worker does from now on."""


class HeartbeatRequest(msgspec.Struct, frozen=True, kw_only=True):
    """Sent by a worker every few seconds: alive, and still at work on these."""

    leases: tuple[LeaseKey, ...] = ()
    """Every lease it holds."""


class HeartbeatAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """What became of the leases."""

    expires_at: float
    """Until when the leases still held were renewed, Unix seconds, by the controller's clock."""
    seconds: float
    """For how long they hold at least, counted from when this was asked."""
    lost: tuple[LeaseKey, ...] = ()
    """Those no longer held: stop these runs and drop their results."""
