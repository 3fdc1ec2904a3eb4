"""What controllers on one ledger know and ask of each other's workers.

A worker is connected to one controller. Which one stands in a row, with a term: of two connections
of a worker the one with the larger term is the newer, and what is written under an older one is
written no more. What another controller wants of a worker is a row, too, an order, which whoever
has the worker takes, gives to it, and answers. Controllers ring at each other by notifications. A
notification tells nothing that is not in a row, and may be lost.

A ledger of which one controller is the only user has no use for any of this.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Sequence

import msgspec

from roundsman.wire.audit import AuditEntry
from roundsman.wire.control import Bound, StartProcess, StopProcess
from roundsman.wire.process import Process


class Connection(msgspec.Struct, frozen=True, kw_only=True):
    """Which controller has a worker."""

    worker_id: str
    controller_id: str
    term: int
    bounds: tuple[Bound, ...] = ()
    """What the worker's machine gives processes, and what it lacks."""


class Order(msgspec.Struct, frozen=True, kw_only=True):
    """What is to be given to a worker at another controller."""

    order_id: str
    worker_id: str
    message: StartProcess | StopProcess
    not_after: float
    """Given no later than this, Unix seconds."""
    asked_by: str | None
    """The controller that waits for the answer; none: nobody does."""


class OrderAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """What a worker answered to an order."""

    error: str | None = None
    """Why a start was refused; or, of a stop, that the worker has no such process."""
    left: tuple[int, ...] = ()
    """Process ids that a stop left."""


class Crossing(ABC):
    """What controllers tell each other through the ledger. Raises `LedgerUnavailableError`."""

    @abstractmethod
    async def connect(self, worker_id: str) -> int:
        """A worker dials this controller; the term of its connection.

        Nobody has that worker from now on, until `make_ready`.
        """

    @abstractmethod
    async def make_ready(self, worker_id: str, term: int, bounds: Sequence[Bound]) -> bool:
        """This controller has the worker now; false when a newer connection has taken its place."""

    @abstractmethod
    async def disconnect(self, worker_id: str, term: int) -> None:
        """That connection has ended."""

    @abstractmethod
    async def connections(self, worker_ids: Collection[str] | None = None) -> list[Connection]:
        """Which workers are connected, at controllers that live; of these, or of all."""

    @abstractmethod
    async def terms(self) -> dict[str, int]:
        """The workers that are connected here, each with the term."""

    @abstractmethod
    async def start(
        self, process: Process, audit: Sequence[AuditEntry], order: Order
    ) -> Connection | None:
        """Keep a process that was asked for, if its worker is connected; who has it.

        Where that is another controller the order is kept, too, and it is rung at.
        """

    @abstractmethod
    async def order(self, order: Order) -> bool:
        """Keep an order, and ring at whoever has the worker; false when nobody has it now."""

    @abstractmethod
    async def take(self) -> list[Order]:
        """What is to be given to the workers that are connected here.

        Each order once through each connection: the next one gets it, if it was not answered.
        """

    @abstractmethod
    async def answer(self, order_id: str, answer: OrderAnswer) -> None:
        """Keep the worker's answer, and ring at whoever waits for it."""

    @abstractmethod
    async def answers(self) -> dict[str, OrderAnswer]:
        """What was answered to this controller, each once."""

    @abstractmethod
    async def withdraw(self, order_id: str) -> OrderAnswer | None:
        """Take an order back; the answer, if there is one already."""

    @abstractmethod
    async def forget(self) -> None:
        """Forget orders whose time is long over."""

    @abstractmethod
    async def ordered_starts(self, worker_id: str) -> set[str]:
        """The processes of a worker whose start another controller still waits for."""

    # batches

    @abstractmethod
    async def carry(self) -> set[str]:
        """Carry on what this controller carries, and take up what nobody does; all of these."""

    # ringing

    @abstractmethod
    async def ring_all(self, text: str) -> None:
        """Tell all other controllers something."""

    @abstractmethod
    async def listen(self, heard: Callable[[str], None]) -> None:
        """Call `heard` with each text that comes for this controller, until cancelled.

        Whenever something may have been missed, the text is empty.
        """

    @property
    @abstractmethod
    def deaf(self) -> str | None:
        """Why notifications do not come; none: they do, as far as is known."""

    @abstractmethod
    async def leave(self) -> None:
        """This controller has no workers and carries no batch any more."""
