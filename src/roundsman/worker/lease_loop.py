"""Asks for executions, waits for the time of each, has them run, and keeps how they ended.

Asked for is what can be run soon: what there are free places for, and a few more, so that a place
that becomes free is taken at once. Executions that wait for their time wait for those places.

Whoever brings less home than it runs takes less: results that wait for the controller, beyond those
that are on their way, count as if their sessions still went on.
"""

import asyncio
import random
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any, Final, cast

import msgspec

from roundsman import logs
from roundsman.client import ControllerClient
from roundsman.client.errors import ControllerError, ForbiddenError, UnauthorizedError
from roundsman.client.retry import Backoff
from roundsman.client.worker import Completion
from roundsman.clock import Clock
from roundsman.wire.execution import Execution
from roundsman.wire.run import FailureClass
from roundsman.worker import executions, running
from roundsman.worker.deadline import NO_DEADLINE, LeaseDeadline, LeaseExpiredError
from roundsman.worker.executions import Ticket, UnreadableExecutionError
from roundsman.worker.heartbeat import Heartbeat
from roundsman.worker.leases import HeldLeases
from roundsman.worker.outbox import Outbox, Spool
from roundsman.worker.places import Places
from roundsman.worker.recording import pack
from roundsman.worker.runners.interface import DeviceRunner
from roundsman.worker.running import Ending
from roundsman.worker.settings import WorkerSettings
from roundsman.worker.uploader import UPLOADS
from roundsman.worker.waiting import wait_for_event

log = logs.get(__name__)

LOOK_AHEAD_SECONDS: Final = 5
"""Far enough that executions wait here rather than late there, and no further: what is held here
is lost to other workers, and comes late when this one is stopped."""
IDLE_SECONDS: Final = 1.0
"""Between two questions while there is nothing to do, half of it chance, so that workers spread."""
BUSY_SECONDS: Final = 0.05
"""Between two questions while answers come full."""
FULL_SECONDS: Final = 0.5
"""Between two looks for room while there is none: sessions become slow without an event."""
WAITING_SHARE: Final = 4
"""One execution for so many places may wait while all places are taken."""
FAILURE_CHARACTERS: Final = 4000
"""Longest text of a failure sent."""


class LeaseLoop:
    """See the module."""

    def __init__(
        self,
        *,
        settings: WorkerSettings,
        client: ControllerClient,
        runner: DeviceRunner,
        outbox: Outbox,
        leases: HeldLeases,
        heartbeat: Heartbeat,
        places: Places,
        clock: Clock,
        chance: random.Random,
        on_execution: Callable[[Execution], None] = lambda _: None,
    ) -> None:
        """Run what the controller hands out by `runner`, into `outbox`.

        `on_execution` hears of each as it comes.
        """
        self._on_execution = on_execution
        self._settings = settings
        self._client = client
        self._runner = runner
        self._outbox = outbox
        self._leases = leases
        self._heartbeat = heartbeat
        self._places = places
        self._clock = clock
        self._chance = chance
        self._backoff = Backoff(first=1.0, longest=30.0, chance=chance)
        self._failures = 0
        self._blocked = False
        self._stopped = False
        self._asking: asyncio.Task[None] | None = None
        self._waiting: set[asyncio.Task[bool]] = set()
        self._changed = asyncio.Event()
        outbox.on_change = self._changed.set

    async def run(self) -> None:
        """Lease and run until stopped; returns when what runs has ended."""
        if self._stopped:
            return
        async with asyncio.TaskGroup() as group:
            self._asking = group.create_task(self._ask(group), name="lease loop")

    def stop(self) -> None:
        """Take nothing more; what runs ends in its own time.

        What waits for its time is let go: it is offered again when its lease expires.
        """
        self._stopped = True
        if self._asking is not None:
            self._asking.cancel()
        for task in self._waiting:
            task.cancel()

    async def run_once(self, group: asyncio.TaskGroup) -> float | None:
        """Ask once, if there is room, and begin what came; how long to pause before the next.

        None: until something changes here.
        """
        self._changed.clear()
        room = self._room()
        if room == 0:
            return None
        asked_at = self._clock.monotonic()
        try:
            elements = await self._client.worker.next(
                limit=room, seconds=LOOK_AHEAD_SECONDS, tags=self._settings.tags
            )
        except ControllerError as error:
            return self._pause_after(error)
        self._failures = 0
        for element in elements:
            self._begin(element, asked_at, group)
        if len(elements) >= room:
            return BUSY_SECONDS
        return self._chance.uniform(IDLE_SECONDS / 2, IDLE_SECONDS)

    async def _ask(self, group: asyncio.TaskGroup) -> None:
        while True:
            pause = await self.run_once(group)
            if pause is None:
                await wait_for_event(self._changed, self._clock, FULL_SECONDS)
            else:
                await self._clock.sleep(pause)

    def _room(self) -> int:
        on_disk = self._outbox.room()
        if (on_disk == 0) != self._blocked:
            self._blocked = not self._blocked
            log.warning("outbox.full" if self._blocked else "outbox.has_room_again")
        # What runs has its file in the outbox, and is counted there; what waits has none yet.
        waiting = len(self._waiting)
        more = -(-self._settings.sessions // WAITING_SHARE)
        not_home = max(0, len(self._outbox.entries) - UPLOADS)
        return max(0, min(self._places.free() + more - not_home, on_disk) - waiting)

    def _pause_after(self, error: ControllerError) -> float:
        self._failures += 1
        if isinstance(error, UnauthorizedError | ForbiddenError):
            self._heartbeat.hurry()
        wait = self._backoff.delay(self._failures, at_least=error.retry_after_seconds)
        log.warning("lease.not_asked", reason=str(error), retry_in_seconds=round(wait, 1))
        return wait

    def _begin(self, element: msgspec.Raw, asked_at: float, group: asyncio.TaskGroup) -> None:
        """Give one element of the answer its place, whatever it is."""
        try:
            execution = executions.read(element)
        except UnreadableExecutionError as error:
            if error.ticket is None:
                log.error("execution.unreadable", reason=error.text)
            else:
                refuse = partial(self._refuse, error.ticket, error.text)
                self._hold(error.ticket, refuse, NO_DEADLINE, group)
        else:
            self._on_execution(execution)
            ticket = executions.ticket_of(execution)
            deadline = NO_DEADLINE
            if ticket.lease is not None:
                deadline = LeaseDeadline(self._clock, asked_at + ticket.lease.seconds)
            serve = partial(self._serve, ticket, execution, deadline)
            self._hold(ticket, serve, deadline, group)

    def _hold(
        self,
        ticket: Ticket,
        work: Callable[[], Coroutine[Any, Any, bool]],
        deadline: LeaseDeadline,
        group: asyncio.TaskGroup,
    ) -> None:
        key = ticket.key
        if key is not None and key in self._leases:
            log.warning("execution.repeated", device=ticket.device, job=ticket.job)
            return
        task = group.create_task(work(), name=f"{ticket.job} on {ticket.device}")
        self._waiting.add(task)
        if ticket.lease is not None and key is not None:
            self._leases.hold(
                key, seconds=ticket.lease.seconds, deadline=deadline, on_lost=task.cancel
            )
        task.add_done_callback(partial(self._let_go, ticket))

    def _let_go(self, ticket: Ticket, task: asyncio.Task[bool]) -> None:
        self._waiting.discard(task)
        kept = not task.cancelled() and task.exception() is None and task.result()
        if not kept and (key := ticket.key) is not None:
            self._leases.settle(key)
        self._changed.set()

    async def _serve(self, ticket: Ticket, execution: Execution, deadline: LeaseDeadline) -> bool:
        """Wait for its time, run it, keep how it ended; whether that was kept."""
        await self._wait_until(ticket)
        async with self._places.take() as place:

            def work(spool: Spool) -> Coroutine[Any, Any, Ending]:
                spool.result.on_received = place.received
                return running.run(self._runner, execution, spool.result, self._clock, deadline)

            return await self._carry_out(ticket, execution.job.max_bytes, work)

    async def _refuse(self, ticket: Ticket, reason: str) -> bool:
        """It cannot be run: keep that as its ending; whether that was kept."""

        async def refused(_: Spool) -> Ending:
            return Ending(failure=reason, failure_class=FailureClass.INVALID)

        return await self._carry_out(ticket, 0, refused)

    async def _wait_until(self, ticket: Ticket) -> None:
        ahead = ticket.timestamp - self._clock.now()
        if ahead > LOOK_AHEAD_SECONDS:
            # Nothing further ahead was asked for: this clock is behind the controller's, which
            # is the one that counts.
            log.warning("execution.clock_behind", seconds=round(ahead - LOOK_AHEAD_SECONDS, 1))
        await self._clock.sleep(min(ahead, LOOK_AHEAD_SECONDS))

    async def _carry_out(
        self,
        ticket: Ticket,
        max_bytes: int,
        work: Callable[[Spool], Coroutine[Any, Any, Ending]],
    ) -> bool:
        """Have a run write its data, and keep it with its record; whether it was kept.

        When the disk does not take it, the run is given up: its lease expires and it is offered
        again, which a failure would not be.
        """
        if (task := asyncio.current_task()) is not None:
            self._waiting.discard(cast("asyncio.Task[bool]", task))
        started = self._clock.now()
        try:
            spool = self._outbox.begin(max_bytes, started)
            try:
                ending = await work(spool)
                if (trouble := spool.trouble) is not None:
                    log.warning(
                        "run.given_up",
                        device=ticket.device,
                        job=ticket.job,
                        reason=str(trouble),
                    )
                    return False
                await self._keep(ticket, spool, started, ending)
            finally:
                self._outbox.discard(spool)
        except LeaseExpiredError as error:
            log.warning("lease.expired", device=ticket.device, job=ticket.job, reason=error.text)
            return False
        except OSError as error:
            log.error("run.not_kept", device=ticket.device, job=ticket.job, reason=str(error))
            return False
        return True

    async def _keep(self, ticket: Ticket, spool: Spool, started: float, ending: Ending) -> None:
        ended = self._clock.now()
        completion = Completion(
            device=ticket.device,
            job=ticket.job,
            job_timestamp=ticket.timestamp,
            start_timestamp=int(started),
            end_timestamp=int(ended),
            epoch=ticket.lease.epoch if ticket.lease is not None else None,
            failure=ending.failure[:FAILURE_CHARACTERS] if ending.failure is not None else None,
            failure_class=ending.failure_class,
            detected_secrets=ending.detected_secrets,
            recording=_packed(ticket, ending.recording),
        )
        await self._outbox.finish(spool, completion, keep_data=ending.keep_data)
        # From here on it is the uploader that learns whether the lease still holds.
        if (key := ticket.key) is not None:
            self._leases.outlive_run(key)
        log.info(
            "run.ended",
            device=ticket.device,
            job=ticket.job,
            due=ticket.timestamp,
            seconds=round(ended - started, 3),
            bytes=spool.result.size if ending.keep_data else 0,
            failure_class=ending.failure_class,
            failure=completion.failure,
        )
        for found in ending.detected_secrets:
            log.warning(
                "run.detected_secrets",
                device=ticket.device,
                job=ticket.job,
                due=ticket.timestamp,
                detector=found.detector,
                line=found.line,
                count=found.count,
            )


def _packed(ticket: Ticket, recording: str | None) -> str | None:
    packed = pack(recording) if recording is not None else None
    if packed is not None or recording is None:
        return packed
    log.warning(
        "run.recording_too_large",
        device=ticket.device,
        job=ticket.job,
        due=ticket.timestamp,
        characters=len(recording),
        kept_instead="the transcript",
    )
    return None
