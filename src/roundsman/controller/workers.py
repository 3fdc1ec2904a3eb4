"""Workers: who they are, that they live, and that what they hold stays theirs."""

import asyncio
import uuid
from contextlib import suppress
from typing import Final

import msgspec

from roundsman import logs
from roundsman.clock import Clock
from roundsman.controller.access import Access, ForbiddenError, Principal, new_token
from roundsman.controller.attendance import Attendance
from roundsman.controller.fleet import Fleet
from roundsman.controller.paging import page_of
from roundsman.controller.planner import Planner
from roundsman.errors import InvalidError, NotFoundError
from roundsman.ledger.interface import Ledger, LedgerUnavailableError
from roundsman.wire.page import Page
from roundsman.wire.worker import (
    EnrolAnswer,
    EnrolRequest,
    HeartbeatAnswer,
    HeartbeatRequest,
    Worker,
)

log = logs.get(__name__)

# What a worker says of itself is kept for good: a text is bounded, and so is their number.
TEXT_CHARACTERS: Final = 200
TAGS: Final = 100


class WorkerNotFoundError(NotFoundError):
    """No worker has this id."""

    code = "worker.not_found"

    def __init__(self, worker_id: str) -> None:
        """Name the id that was asked for."""
        super().__init__(f"no worker has the id {worker_id!r}")


class Workers:
    """Enrols workers, renews what they hold, and lets them go."""

    def __init__(
        self,
        *,
        planner: Planner,
        ledger: Ledger,
        access: Access,
        fleet: Fleet,
        attendance: Attendance,
        clock: Clock,
    ) -> None:
        """Serve the workers in `ledger`, whose tokens `access` knows."""
        self._ledger = ledger
        self._access = access
        self._fleet = fleet
        self._attendance = attendance
        self._clock = clock
        self._planner = planner
        self._forgetting: set[asyncio.Task[None]] = set()
        if fleet.exchange is not None:
            fleet.exchange.on["removed"] = self._removed_elsewhere

    async def enrol(
        self, request: EnrolRequest, *, by: Principal, address: str | None
    ) -> EnrolAnswer:
        """Give a new worker its id and its token, narrowed for good as the caller's token is.

        Raises `ForbiddenError` for the own token of an enrolled worker: a worker made with it
        would outlive its removal. Raises `InvalidError`.
        """
        if by.worker_id is not None:
            raise ForbiddenError(
                f"{by.name}: the own token of an enrolled worker enrols no other",
                remedy="use a configured token of role worker or administrator",
            )
        _check(request)
        now = self._clock.now()
        worker = Worker(
            worker_id=str(uuid.uuid4()),
            name=request.name,
            tags=tuple(sorted(set(request.tags))),
            version=request.version,
            enrolled_at=now,
            seen_at=now,
            address=address,
            allowed_tags=tuple(sorted(by.tags or ())),
        )
        token = new_token()
        await self._access.enrol(self._ledger, worker, token.hash)
        log.info("worker.enrolled", worker_id=worker.worker_id, name=worker.name, by=by.name)
        return EnrolAnswer(worker_id=worker.worker_id, token=token.token)

    async def heartbeat(
        self, worker_id: str, request: HeartbeatRequest, *, by: Principal, address: str | None
    ) -> HeartbeatAnswer:
        """Note that a worker lives, and renew what it holds.

        Raises `ForbiddenError` for anyone but that worker itself, `WorkerNotFoundError`.
        """
        if by.worker_id != worker_id:
            raise ForbiddenError(
                f"{by.name}: may not send the heartbeat of worker {worker_id}",
                remedy="a worker sends its own, with the token that it was given at enrolment",
            )
        now = self._clock.now()
        if not await self._ledger.touch_worker(worker_id, now=now, address=address):
            raise WorkerNotFoundError(worker_id)
        self._attendance.alive(worker_id)
        seconds = self._planner.configuration.controller.leases.seconds
        until = now + seconds
        held = await self._ledger.renew(request.leases, worker_id=worker_id, now=now, until=until)
        lost = tuple(key for key, kept in zip(request.leases, held, strict=True) if not kept)
        if lost:
            log.warning("worker.leases_lost", worker_id=worker_id, count=len(lost))
        return HeartbeatAnswer(expires_at=until, seconds=seconds, lost=lost)

    async def all(self) -> list[Worker]:
        """Every worker, by name."""
        connected = await self._fleet.connected()
        return sorted(
            (
                msgspec.structs.replace(worker, connected=worker.worker_id in connected)
                for worker in await self._ledger.workers()
            ),
            key=_place,
        )

    async def page(self, *, after: str | None, limit: int) -> Page[Worker]:
        """Workers by name, page by page."""
        return page_of(await self.all(), place=_place, after=after, limit=limit)

    async def get(self, worker_id: str) -> Worker:
        """One worker. Raises `WorkerNotFoundError`."""
        worker = await self._ledger.worker(worker_id)
        if worker is None:
            raise WorkerNotFoundError(worker_id)
        connected = await self._fleet.connected([worker_id])
        return msgspec.structs.replace(
            worker, connected=bool(connected), bounds=connected.get(worker_id, ())
        )

    async def remove(self, worker_id: str, *, by: Principal) -> None:
        """Forget a worker: its token opens nothing from now on, its leases run out.

        Raises `WorkerNotFoundError`.
        """
        if not await self._ledger.remove_worker(worker_id):
            raise WorkerNotFoundError(worker_id)
        await self._access.refresh_workers(self._ledger)
        self._fleet.disconnect(worker_id)
        if self._fleet.exchange is not None:
            await self._fleet.exchange.crossing.ring_all(f"removed {worker_id}")
        log.info("worker.removed", worker_id=worker_id, by=by.name)

    def _removed_elsewhere(self, worker_id: str) -> None:
        task = asyncio.create_task(self._forget(worker_id))
        self._forgetting.add(task)
        task.add_done_callback(self._forgetting.discard)

    async def _forget(self, worker_id: str) -> None:
        """Another controller was told to remove it."""
        with suppress(LedgerUnavailableError):  # tokens are read anew every so often
            await self._access.refresh_workers(self._ledger)
        self._fleet.disconnect(worker_id)


def _place(worker: Worker) -> tuple[str, str]:
    return worker.name, worker.worker_id


def _check(request: EnrolRequest) -> None:
    if len(request.tags) > TAGS:
        raise InvalidError(f"tags: expected at most {TAGS} of them, got {len(request.tags)}")
    _check_text("name", request.name, least=1)
    _check_text("version", request.version, least=0)
    for tag in request.tags:
        _check_text("tags", tag, least=1)


def _check_text(field: str, text: str, *, least: int) -> None:
    if not least <= len(text) <= TEXT_CHARACTERS or not text.isprintable():
        raise InvalidError(
            f"{field}: expected {least} to {TEXT_CHARACTERS} printable characters, "
            f"got {text[:TEXT_CHARACTERS]!r}"
        )
