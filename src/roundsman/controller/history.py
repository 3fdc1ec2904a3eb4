"""Slots, runs and processes: what is next, and what became of it."""

from pathlib import Path

from roundsman.clock import Clock
from roundsman.controller.acceptance import RunNotFoundError
from roundsman.controller.fleet import Fleet
from roundsman.controller.intake import SlotNotFoundError
from roundsman.controller.planner import Planner
from roundsman.controller.shared_evidence import SharedEvidence
from roundsman.errors import NotFoundError
from roundsman.ledger.interface import Ledger, ProcessQuery, RunQuery, SlotQuery
from roundsman.wire.page import Page
from roundsman.wire.process import Process, ProcessState
from roundsman.wire.run import Outcome, Run, Slot, SlotState


class TranscriptNotFoundError(NotFoundError):
    """This run left nothing behind, or it is no longer kept."""

    code = "transcript.not_found"


class RecordingNotFoundError(NotFoundError):
    """There is no recording of this run's session."""

    code = "recording.not_found"


class History:
    """Reads the ledger, and what failed runs left behind."""

    def __init__(
        self,
        *,
        planner: Planner,
        ledger: Ledger,
        evidence: SharedEvidence,
        fleet: Fleet,
        clock: Clock,
    ) -> None:
        """Nothing is read yet."""
        self._planner = planner
        self._fleet = fleet
        self._ledger = ledger
        self._evidence = evidence
        self._clock = clock

    async def slots(
        self,
        *,
        device: str | None,
        job: str | None,
        tag: str | None,
        state: SlotState | None,
        worker_id: str | None,
        after: str | None,
        limit: int,
    ) -> Page[Slot]:
        """Slots by device and job."""
        query = SlotQuery(
            device=device,
            job=job,
            tag=tag,
            state=state,
            worker_id=worker_id,
            after=after,
            limit=limit,
        )
        now = self._clock.now()
        page = await self._ledger.slots(query, now)
        items = tuple(self._planner.with_windows(slot, now) for slot in page.items)
        return Page(items=items, next=page.next)

    async def slot(self, device: str, job: str) -> Slot:
        """One slot. Raises `SlotNotFoundError`."""
        query = SlotQuery(device=device, job=job, limit=1)
        now = self._clock.now()
        found = (await self._ledger.slots(query, now)).items
        if not found:
            raise SlotNotFoundError(f"no device {device!r} has a job {job!r}")
        return self._planner.with_windows(found[0], now)

    async def runs(
        self,
        *,
        device: str | None,
        job: str | None,
        outcome: Outcome | None,
        worker_id: str | None,
        since: float | None,
        until: float | None,
        after: str | None,
        limit: int,
    ) -> Page[Run]:
        """Runs, newest first."""
        query = RunQuery(
            device=device,
            job=job,
            outcome=outcome,
            worker_id=worker_id,
            since=since,
            until=until,
            after=after,
            limit=limit,
        )
        return await self._ledger.runs(query)

    async def run(self, run_id: str) -> Run:
        """One run. Raises `RunNotFoundError`."""
        run = await self._ledger.run(run_id)
        if run is None:
            raise RunNotFoundError(run_id)
        return run

    async def transcript(self, run_id: str) -> Path:
        """The file with what a failed run left behind.

        Raises `RunNotFoundError`, `TranscriptNotFoundError`, `EvidenceElsewhereError`.
        """
        run = await self.run(run_id)
        if not run.evidence:
            raise TranscriptNotFoundError(
                f"run {run_id} left nothing behind: it went well, or ended before a word was said"
            )
        path = await self._evidence.path(run.run_id)
        if path is None:
            raise TranscriptNotFoundError(
                f"what run {run_id} left behind is no longer kept by any controller that is up",
                remedy="set controller.evidence to keep more",
            )
        return path

    async def recording(self, run_id: str) -> Path:
        """The file with the recording of a failed run's session, compressed by gzip.

        Raises `RunNotFoundError`, `RecordingNotFoundError`, `EvidenceElsewhereError`.
        """
        run = await self.run(run_id)
        path = await self._evidence.path(run.run_id, recording=True) if run.evidence else None
        if path is None:
            raise RecordingNotFoundError(
                f"there is no recording of run {run_id}: it did not fail, ended before a word was "
                "said, or the recording is no longer kept"
            )
        return path

    async def processes(
        self,
        *,
        worker_id: str | None,
        state: ProcessState | None,
        batch_id: str | None,
        after: str | None,
        limit: int,
    ) -> Page[Process]:
        """Processes, newest first."""
        query = ProcessQuery(
            worker_id=worker_id, state=state, batch_id=batch_id, after=after, limit=limit
        )
        page = await self._ledger.processes(query)
        return Page(items=tuple(await self._fleet.as_known(page.items)), next=page.next)
