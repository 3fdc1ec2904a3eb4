"""What `GET /worker/next` brought, one element at a time: to be run, to be refused, or noise."""

from typing import Final

import msgspec

from roundsman.errors import InvalidError
from roundsman.wire import codec
from roundsman.wire.execution import Execution, Lease, LeaseKey


class Ticket(msgspec.Struct, frozen=True, kw_only=True):
    """What names an execution towards the controller."""

    device: str
    """Name of the device."""
    job: str
    """Name of the job."""
    timestamp: int
    """When it is due, Unix seconds."""
    lease: Lease | None
    """Absent only in what a foreign controller hands out."""

    @property
    def key(self) -> LeaseKey | None:
        """What names the lease in heartbeats."""
        if self.lease is None:
            return None
        return LeaseKey(device=self.device, job=self.job, epoch=self.lease.epoch)


class UnreadableExecutionError(InvalidError):
    """An element is not an execution."""

    code = "execution.unreadable"

    def __init__(self, reason: str, ticket: Ticket | None) -> None:
        """Why, and which execution it is if that much can be read."""
        super().__init__(f"the execution cannot be read: {reason}")
        self.ticket = ticket


class _Named(msgspec.Struct, frozen=True, kw_only=True):
    name: str


class _NamedExecution(msgspec.Struct, frozen=True, kw_only=True):
    device: _Named
    job: _Named
    timestamp: int
    lease: Lease | None = None


_execution: Final = codec.decoder(Execution)
_named: Final = msgspec.json.Decoder(_NamedExecution)


def read(element: msgspec.Raw) -> Execution:
    """The execution; raises `UnreadableExecutionError`, never anything else."""
    try:
        return _execution.decode(element)
    except (msgspec.DecodeError, ValueError, RecursionError) as error:
        raise UnreadableExecutionError(str(error), _read_ticket(element)) from error


def ticket_of(execution: Execution | _NamedExecution) -> Ticket:
    """What names this execution."""
    return Ticket(
        device=execution.device.name,
        job=execution.job.name,
        timestamp=execution.timestamp,
        lease=execution.lease,
    )


def _read_ticket(element: msgspec.Raw) -> Ticket | None:
    try:
        return ticket_of(_named.decode(element))
    except (msgspec.DecodeError, RecursionError):
        return None
