"""Workers at other controllers: what is asked of them, and what others ask of those here.

What is asked is a row, an order; whoever has the worker takes it, gives it to the worker, and
writes the answer. Notifications only say when to look: whoever hears none looks every so often.
"""

import asyncio
import uuid
from collections import defaultdict
from collections.abc import Awaitable, Callable, Collection, Sequence
from contextlib import suppress
from typing import Final

from roundsman import logs
from roundsman.clock import Clock
from roundsman.controller.audit import Audit
from roundsman.controller.fleet_hub import FleetHub
from roundsman.controller.fleet_link import (
    Outcome,
    WorkerLink,
    WorkerNotConnectedError,
    WorkerSilentError,
)
from roundsman.errors import RoundsmanError
from roundsman.ledger.crossing import Connection, Crossing, Order, OrderAnswer
from roundsman.ledger.interface import LedgerUnavailableError
from roundsman.wire.audit import AuditEntry
from roundsman.wire.control import StartProcess, StopProcess
from roundsman.wire.process import Process

log = logs.get(__name__)

LOOK_SECONDS: Final = 2.0
"""So often one looks without being rung at."""
DEAF_SECONDS: Final = 0.5
"""And so often where notifications do not arrive."""
FORGONE_SECONDS: Final = 7 * 86_400.0
"""So long a process that nobody wants any more is stopped when its worker is back."""
_ANSWER_SECONDS: Final = 60.0  # beyond the grace, for a worker that nobody waits for
_RETRY_SECONDS: Final = 0.5


class NobodyHasItError(WorkerNotConnectedError):
    """No controller has this worker; nothing was kept."""


class FleetExchange:
    """Gives what others ask to the workers here, and asks others for theirs."""

    def __init__(
        self, crossing: Crossing, controller_id: str, *, hub: FleetHub, audit: Audit, clock: Clock
    ) -> None:
        """Nothing is heard before `run`."""
        self._audit = audit
        self.crossing = crossing
        self.controller_id = controller_id
        self._hub = hub
        self._clock = clock
        self._waiting: dict[str, asyncio.Future[OrderAnswer]] = {}
        self._taking = asyncio.Lock()
        """Held while answers are taken from the ledger, and on their way to those who wait."""
        self._giving: set[asyncio.Task[None]] = set()
        self._rung: defaultdict[str, asyncio.Event] = defaultdict(asyncio.Event)
        self.on: dict[str, Callable[[str], None]] = {}
        """What else is told by ringing: called with what it is about, by topic."""

    async def run(self) -> None:
        """Listen and look, until cancelled."""
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._listen())
                group.create_task(self._again("orders", self._look_for_orders))
                group.create_task(self._again("answered", self._look_for_answers))
                group.create_task(self._again("moved", self._look_for_moved))
        finally:
            for task in self._giving:
                task.cancel()
            await asyncio.gather(*self._giving, return_exceptions=True)

    async def _listen(self) -> None:
        while True:
            try:
                await self.crossing.listen(self._heard)
            except Exception as error:  # a fault of ours: looking goes on, and so does listening
                log.error("exchange.fault", exc_info=error)
                await self._clock.sleep(LOOK_SECONDS)

    def look(self) -> None:
        """A worker is here: there may be orders for it."""
        self._rung["orders"].set()

    def _heard(self, text: str) -> None:
        topic, _, about = text.partition(" ")
        if not topic:
            for rung in self._rung.values():
                rung.set()
        elif topic in self.on:
            self.on[topic](about)
        else:
            self._rung[topic].set()

    async def _again(self, topic: str, look: Callable[[], Awaitable[None]]) -> None:
        rung = self._rung[topic]
        while True:
            rung.clear()
            try:
                await look()
            except LedgerUnavailableError as error:
                log.debug("exchange.held_up", reason=error.text)
            except Exception as error:  # likewise
                log.error("exchange.fault", exc_info=error)
            seconds = LOOK_SECONDS if self.crossing.deaf is None else DEAF_SECONDS
            with suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    await rung.wait()

    # what is asked of others

    async def start(
        self,
        process: Process,
        audit: Sequence[AuditEntry],
        message: StartProcess,
        *,
        seconds: float,
        outcome: Outcome,
    ) -> str | None:
        """Keep a process and have it started, wherever its worker is; why it was refused.

        The line of `outcome` is kept before this answers.
        Raises `NobodyHasItError` where nothing was kept; `WorkerNotConnectedError` and
        `WorkerSilentError` where it was.
        """
        order = self._order(process.worker_id, message, seconds, order_id=process.process_id)
        answer = self._expect(order)
        try:
            place = await self.crossing.start(process, audit, order)
            if place is None:
                raise NobodyHasItError
            if place.controller_id == self.controller_id:
                link = self.link(place)
                return await link.start(message, seconds=seconds, outcome=outcome)
            refusal = (await self._answer(order, answer, seconds)).error
            await self._audit.write(outcome(refusal))
            return refusal
        finally:
            del self._waiting[order.order_id]

    async def give(self, worker_id: str, message: StartProcess, *, seconds: float) -> str | None:
        """Have a process started whose row stands; why it was refused. Raises likewise."""
        order = self._order(worker_id, message, seconds, order_id=message.process_id)
        return (await self._ask(order, seconds)).error

    async def stop(self, worker_id: str, message: StopProcess, *, seconds: float) -> OrderAnswer:
        """Have a process ended. Raises `WorkerNotConnectedError`, `WorkerSilentError`."""
        return await self._ask(self._order(worker_id, message, seconds), seconds)

    async def forgo(self, worker_id: str, process_id: str) -> None:
        """Nobody wants this process any more: have it stopped, whenever its worker is there."""
        message = StopProcess(process_id=process_id)
        await self.crossing.order(
            Order(
                order_id=str(uuid.uuid4()),
                worker_id=worker_id,
                message=message,
                not_after=self._clock.now() + FORGONE_SECONDS,
                asked_by=None,
            )
        )

    async def connections(self, worker_ids: Collection[str] | None = None) -> dict[str, Connection]:
        """Which workers are connected, wherever; of these, or of all."""
        found = await self.crossing.connections(worker_ids)
        return {each.worker_id: each for each in found}

    def link(self, place: Connection) -> WorkerLink:
        """The way to a worker that is here. Raises `WorkerNotConnectedError`."""
        link = self._hub.settled(place.worker_id)
        if link is None or link.term != place.term:
            raise WorkerNotConnectedError("worker disconnected")
        return link

    def _order(
        self,
        worker_id: str,
        message: StartProcess | StopProcess,
        seconds: float,
        *,
        order_id: str | None = None,
    ) -> Order:
        return Order(
            order_id=order_id or str(uuid.uuid4()),
            worker_id=worker_id,
            message=message,
            not_after=self._clock.now() + seconds,
            asked_by=self.controller_id,
        )

    def _expect(self, order: Order) -> "asyncio.Future[OrderAnswer]":
        answer: asyncio.Future[OrderAnswer] = asyncio.get_running_loop().create_future()
        self._waiting[order.order_id] = answer
        return answer

    async def _ask(self, order: Order, seconds: float) -> OrderAnswer:
        answer = self._expect(order)
        try:
            if not await self.crossing.order(order):
                await self.crossing.withdraw(order.order_id)
                raise WorkerNotConnectedError
            return await self._answer(order, answer, seconds)
        finally:
            del self._waiting[order.order_id]

    async def _answer(
        self, order: Order, answer: "asyncio.Future[OrderAnswer]", seconds: float
    ) -> OrderAnswer:
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                return await asyncio.shield(answer)
        async with self._taking:
            late = await self.crossing.withdraw(order.order_id)
        if answer.done():  # it came with the last look
            return answer.result()
        if late is not None:
            return late
        if not await self.connections([order.worker_id]):
            raise WorkerNotConnectedError("worker disconnected")
        raise WorkerSilentError(seconds)

    async def _look_for_answers(self) -> None:
        if not self._waiting:
            return
        async with self._taking:
            for order_id, answer in (await self.crossing.answers()).items():
                waiting = self._waiting.get(order_id)
                if waiting is not None and not waiting.done():
                    waiting.set_result(answer)

    # what others ask

    async def _look_for_orders(self) -> None:
        for order in await self.crossing.take():
            task = asyncio.create_task(self._give(order))
            self._giving.add(task)
            task.add_done_callback(self._giving.discard)

    async def _give(self, order: Order) -> None:
        """Give it to the worker, and write its answer; the next connection gets what has none."""
        message = order.message
        left = order.not_after - self._clock.now()
        try:
            link = self._hub.settled(order.worker_id)
            if link is None:
                return  # it went, or came anew: its next connection gets the order
            if isinstance(message, StartProcess):
                answer = OrderAnswer(error=await link.start(message, seconds=left))
            else:
                seconds = min(left, (message.grace_seconds or 0.0) + _ANSWER_SECONDS)
                said = await link.stop(message, seconds=seconds)
                answer = OrderAnswer(error=said.error, left=said.left)
        except RoundsmanError as error:
            log.warning("exchange.not_given", process_id=message.process_id, reason=error.text)
            return
        while self._clock.now() < order.not_after:
            try:
                await self.crossing.answer(order.order_id, answer)
                return
            except LedgerUnavailableError:
                await self._clock.sleep(_RETRY_SECONDS)

    async def _look_for_moved(self) -> None:
        """Close what is not the newest connection of its worker; that dials again, if need be."""
        links = self._hub.links()
        terms = await self.crossing.terms()
        for link in links:
            if link.term is not None and terms.get(link.worker_id) != link.term:
                log.warning("control.moved", worker_id=link.worker_id)
                link.close()
        await self.crossing.forget()
