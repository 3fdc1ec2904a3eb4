"""The surface under `/api/v1` for people: what there is, what became of it, and the switches."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TypeVar
from urllib.parse import quote

import msgspec

from roundsman.client.retry import CallKind
from roundsman.client.transport import Query, Transport, decode
from roundsman.wire import codec
from roundsman.wire.controller import Controller
from roundsman.wire.difference import WordDifference
from roundsman.wire.manage import (
    AcceptAnswer,
    DeviceDetail,
    DeviceSummary,
    JobDetail,
    JobSummary,
    Overview,
    PauseAnswer,
    ReleaseAnswer,
    ReloadAnswer,
    ResumeAnswer,
    RunNowAnswer,
)
from roundsman.wire.page import Page
from roundsman.wire.pause import Pause, PauseKind
from roundsman.wire.process import Process, ProcessState
from roundsman.wire.run import Outcome, Run, Slot, SlotState
from roundsman.wire.search import SearchPage
from roundsman.wire.version import FleetVersion, Origins, Version
from roundsman.wire.worker import Worker

T = TypeVar("T")

RESULT_BYTES = 64 << 20
"""Largest result read whole; larger ones are for `git clone` of the archive."""

_overview = codec.decoder(Overview)
_controllers = codec.decoder(Page[Controller])
_workers = codec.decoder(Page[Worker])
_worker = codec.decoder(Worker)
_devices = codec.decoder(Page[DeviceSummary])
_device = codec.decoder(DeviceDetail)
_jobs = codec.decoder(Page[JobSummary])
_job = codec.decoder(JobDetail)
_slots = codec.decoder(Page[Slot])
_slot = codec.decoder(Slot)
_runs = codec.decoder(Page[Run])
_run = codec.decoder(Run)
_processes = codec.decoder(Page[Process])
_process = codec.decoder(Process)
_versions = codec.decoder(Page[Version])
_word_diff = codec.decoder(WordDifference)
_origins = codec.decoder(Origins)
_fleet_versions = codec.decoder(Page[FleetVersion])
_search = codec.decoder(SearchPage)
_pauses = codec.decoder(Page[Pause])
_run_now = codec.decoder(RunNowAnswer)
_pause = codec.decoder(PauseAnswer)
_resume = codec.decoder(ResumeAnswer)
_accept = codec.decoder(AcceptAnswer)
_release = codec.decoder(ReleaseAnswer)
_reload = codec.decoder(ReloadAnswer)


class ManageApi:
    """What people and their programs call. A page's `next` is the next call's `after`."""

    def __init__(self, transport: Transport) -> None:
        """Call over this transport."""
        self._transport = transport

    async def overview(self) -> Overview:
        """The controller itself."""
        return await self._get(_overview, "")

    async def controllers(self) -> Page[Controller]:
        """Every controller on the ledger, by when it started."""
        return await self._get(_controllers, "/controllers")

    async def workers(self, *, after: str | None = None, limit: int = 100) -> Page[Worker]:
        """Workers, by name."""
        return await self._get(_workers, "/workers", _query(after=after, limit=limit))

    async def worker(self, worker_id: str) -> Worker:
        """One worker."""
        return await self._get(_worker, f"/workers/{_part(worker_id)}")

    async def remove_worker(self, worker_id: str) -> None:
        """Revoke a worker's token and forget it."""
        await self._transport.call(
            "DELETE", f"/api/v1/workers/{_part(worker_id)}", kind=CallKind.REPEATABLE
        )

    async def devices(
        self,
        *,
        name: str | None = None,
        tag: str | None = None,
        held: bool | None = None,
        after: str | None = None,
        limit: int = 100,
    ) -> Page[DeviceSummary]:
        """Devices, by name; `held`: those that their breaker holds back, or does not."""
        said = None if held is None else str(held).lower()
        query = _query(name=name, tag=tag, held=said, after=after, limit=limit)
        return await self._get(_devices, "/devices", query)

    async def device(self, device: str) -> DeviceDetail:
        """One device, with how each of its jobs stands."""
        return await self._get(_device, f"/devices/{_part(device)}")

    async def jobs(
        self, *, name: str | None = None, after: str | None = None, limit: int = 100
    ) -> Page[JobSummary]:
        """Jobs, by name."""
        return await self._get(_jobs, "/jobs", _query(name=name, after=after, limit=limit))

    async def job(self, job: str) -> JobDetail:
        """One job, with when it is due next."""
        return await self._get(_job, f"/jobs/{_part(job)}")

    async def slots(
        self,
        *,
        device: str | None = None,
        job: str | None = None,
        tag: str | None = None,
        state: SlotState | None = None,
        worker_id: str | None = None,
        after: str | None = None,
        limit: int = 100,
    ) -> Page[Slot]:
        """Slots, by device and job."""
        query = _query(
            device=device,
            job=job,
            tag=tag,
            state=state,
            worker_id=worker_id,
            after=after,
            limit=limit,
        )
        return await self._get(_slots, "/slots", query)

    async def slot(self, device: str, job: str) -> Slot:
        """One slot."""
        return await self._get(_slot, f"/slots/{_part(device)}/{_part(job)}")

    async def runs(
        self,
        *,
        device: str | None = None,
        job: str | None = None,
        outcome: Outcome | None = None,
        worker_id: str | None = None,
        since: float | None = None,
        until: float | None = None,
        after: str | None = None,
        limit: int = 100,
    ) -> Page[Run]:
        """Runs, newest first; `since` and `until` are Unix seconds."""
        query = _query(
            device=device,
            job=job,
            outcome=outcome,
            worker_id=worker_id,
            since=since,
            until=until,
            after=after,
            limit=limit,
        )
        return await self._get(_runs, "/runs", query)

    async def run(self, run_id: str) -> Run:
        """One run."""
        return await self._get(_run, f"/runs/{_part(run_id)}")

    async def processes(
        self,
        *,
        worker_id: str | None = None,
        state: ProcessState | None = None,
        after: str | None = None,
        limit: int = 100,
    ) -> Page[Process]:
        """Processes, newest first."""
        query = _query(worker_id=worker_id, state=state, after=after, limit=limit)
        return await self._get(_processes, "/processes", query)

    async def process(self, process_id: str) -> Process:
        """One process."""
        return await self._get(_process, f"/processes/{_part(process_id)}")

    @asynccontextmanager
    async def output(
        self, process_id: str, *, after: int = 0, follow: bool = False
    ) -> AsyncIterator[AsyncIterator[bytes]]:
        """What a process wrote, both streams in order, as it comes.

        From the chunk after number `after` on; with `follow`, until the process has ended.
        """
        path = f"/api/v1/processes/{_part(process_id)}/output"
        query = _query(after=after, follow=str(follow).lower())
        async with self._transport.stream(path, query=query) as body:
            yield body.iter_any()

    async def latest(self, device: str, job: str) -> bytes:
        """The latest result of a slot, whole; up to `RESULT_BYTES`."""
        return await self._transport.call(
            "GET",
            f"/api/v1/devices/{_part(device)}/jobs/{_part(job)}/latest",
            kind=CallKind.READ,
            answer_bytes=RESULT_BYTES,
        )

    async def versions(
        self, device: str, job: str, *, after: str | None = None, limit: int = 100
    ) -> Page[Version]:
        """The versions of a slot's result, newest first."""
        return await self._get(
            _versions, f"{_result(device, job)}/versions", _query(after=after, limit=limit)
        )

    async def content(self, device: str, job: str, version: str) -> bytes:
        """A version's content, whole; up to `RESULT_BYTES`."""
        return await self._transport.call(
            "GET",
            f"/api/v1{_result(device, job)}/versions/{_part(version)}/content",
            kind=CallKind.READ,
            answer_bytes=RESULT_BYTES,
        )

    async def diff(
        self,
        device: str,
        job: str,
        *,
        old: str | None = None,
        new: str | None = None,
        context: int = 3,
    ) -> bytes:
        """How a version (default: the one before `new`) became another (default: the latest)."""
        return await self._transport.call(
            "GET",
            f"/api/v1{_result(device, job)}/diff",
            kind=CallKind.READ,
            query=_query(**{"from": old, "to": new, "context": context}),
            answer_bytes=RESULT_BYTES,
        )

    async def word_diff(
        self,
        device: str,
        job: str,
        *,
        old: str | None = None,
        new: str | None = None,
        context: int = 3,
    ) -> WordDifference:
        """The same line by line, and within lines."""
        query = _query(**{"from": old, "to": new, "context": context})
        return await self._get(_word_diff, f"{_result(device, job)}/diff/words", query)

    async def origins(
        self,
        device: str,
        job: str,
        *,
        version: str | None = None,
        after: str | None = None,
        limit: int = 1000,
    ) -> Origins:
        """Since which version lines of a version (default: the latest) are there."""
        query = _query(version=version, after=after, limit=limit)
        return await self._get(_origins, f"{_result(device, job)}/blame", query)

    async def fleet_versions(
        self,
        *,
        at: float | None = None,
        device: str | None = None,
        job: str | None = None,
        tag: str | None = None,
        after: str | None = None,
        limit: int = 100,
    ) -> Page[FleetVersion]:
        """The version that each pair had at an instant (default: now), by device and job."""
        query = _query(at=at, device=device, job=job, tag=tag, after=after, limit=limit)
        return await self._get(_fleet_versions, "/archive/versions", query)

    async def search(
        self,
        text: str,
        *,
        regex: bool = False,
        ignore_case: bool = False,
        context: int = 0,
        history: bool = False,
        device: str | None = None,
        job: str | None = None,
        tag: str | None = None,
        after: str | None = None,
        limit: int = 100,
    ) -> SearchPage:
        """Contents in which something is found; all of them where `next` of the page is none."""
        said = {"regex": regex, "ignore_case": ignore_case, "history": history}
        query = _query(
            text=text,
            **{name: str(value).lower() for name, value in said.items()},
            context=context,
            device=device,
            job=job,
            tag=tag,
            after=after,
            limit=limit,
        )
        return await self._get(_search, "/archive/search", query)

    async def run_now(self, device: str, job: str) -> RunNowAnswer:
        """Run a job on a device now. `StaleError` when either is paused."""
        path = f"/devices/{_part(device)}/jobs/{_part(job)}/run"
        # Asked twice, it is due already: nothing more happens.
        return await self._post(_run_now, path)

    async def pauses(self, *, after: str | None = None, limit: int = 100) -> Page[Pause]:
        """Every pause in force."""
        return await self._get(_pauses, "/pauses", _query(after=after, limit=limit))

    async def pause(self, kind: PauseKind, name: str) -> PauseAnswer:
        """Hold a device or a job back."""
        return await self._post(_pause, f"/{kind}s/{_part(name)}/pause")

    async def resume(self, kind: PauseKind, name: str) -> ResumeAnswer:
        """Let a device or a job go on."""
        return await self._post(_resume, f"/{kind}s/{_part(name)}/resume")

    async def release(self, device: str) -> ReleaseAnswer:
        """Close a device's breaker."""
        return await self._post(_release, f"/devices/{_part(device)}/release")

    async def transcript(self, run_id: str) -> bytes:
        """What a failed run left behind, whole; up to `RESULT_BYTES`."""
        return await self._transport.call(
            "GET",
            f"/api/v1/runs/{_part(run_id)}/transcript",
            kind=CallKind.READ,
            answer_bytes=RESULT_BYTES,
        )

    async def recording(self, run_id: str) -> bytes:
        """A failed run's session as a recorded dialogue, compressed by gzip."""
        return await self._transport.call(
            "GET", f"/api/v1/runs/{_part(run_id)}/recording", kind=CallKind.READ
        )

    async def accept(self, run_id: str) -> AcceptAnswer:
        """Store a result that waits in quarantine. `StaleError` when it does not, or no longer."""
        return await self._post(_accept, f"/runs/{_part(run_id)}/accept")

    async def reload(self) -> ReloadAnswer:
        """Have the configuration read anew; `RefusedError` when it is bad."""
        return await self._post(_reload, "/reload")

    async def _get(self, decoder: "msgspec.json.Decoder[T]", path: str, query: Query = ()) -> T:
        answer = await self._transport.call(
            "GET", f"/api/v1{path}", kind=CallKind.READ, query=query
        )
        return decode(decoder, answer)

    async def _post(self, decoder: "msgspec.json.Decoder[T]", path: str) -> T:
        answer = await self._transport.call("POST", f"/api/v1{path}", kind=CallKind.REPEATABLE)
        return decode(decoder, answer)


def _result(device: str, job: str) -> str:
    return f"/devices/{_part(device)}/jobs/{_part(job)}"


def _part(name: str) -> str:
    """A name as one part of a path."""
    return quote(name, safe="")


def _query(**filters: object) -> Query:
    """Those that were given, as a query."""
    return [(name, str(value)) for name, value in filters.items() if value is not None]
