"""Stores what waits in quarantine because a person says that it is right."""

from roundsman import logs
from roundsman.archive.interface import Archive, Entry
from roundsman.clock import Clock
from roundsman.controller.access import Principal
from roundsman.controller.intake import Turns
from roundsman.controller.planner import Planner
from roundsman.controller.shared_evidence import SharedEvidence
from roundsman.errors import ConflictError, NotFoundError
from roundsman.ledger.interface import Ledger
from roundsman.wire.manage import AcceptAnswer
from roundsman.wire.run import Run

log = logs.get(__name__)


class RunNotFoundError(NotFoundError):
    """No run has this id."""

    code = "run.not_found"

    def __init__(self, run_id: str) -> None:
        """Name what was asked for."""
        super().__init__(f"no run has the id {run_id!r}")


class NotInQuarantineError(ConflictError):
    """The run's result does not wait to be confirmed."""

    code = "run.not_in_quarantine"


class Acceptance:
    """Makes a quarantined result the latest version."""

    def __init__(
        self,
        *,
        planner: Planner,
        ledger: Ledger,
        archive: Archive,
        evidence: SharedEvidence,
        clock: Clock,
        turns: Turns,
    ) -> None:
        """Take turns with what comes in for the same slot."""
        self._planner = planner
        self._ledger = ledger
        self._archive = archive
        self._evidence = evidence
        self._clock = clock
        self._turns = turns

    async def accept(self, run_id: str, *, by: Principal) -> AcceptAnswer:
        """Store the result of a quarantined run as a version with the run's own times.

        Accepting again is harmless. Raises `RunNotFoundError`, `NotInQuarantineError`, and
        `UnavailableError` when archive or ledger cannot keep it now, or it is with a controller
        that cannot be reached.
        """
        run = await self._known(run_id)
        async with self._turns.of(run.device, run.job):
            run = await self._known(run_id)
            if run.accepted_at is not None and run.version is not None:
                return AcceptAnswer(version=run.version, changed=bool(run.changed))
            kept = await self._ledger.result_of(run.device, run.job)
            if kept is None or kept.quarantined is None or kept.quarantined.run_id != run_id:
                raise NotInQuarantineError(
                    f"run {run_id}: its result does not wait to be confirmed",
                    remedy="accept what its slot shows as quarantined; a later result replaces it",
                )
            path = await self._evidence.path(run_id)
            if path is None:
                raise NotInQuarantineError(
                    f"run {run_id}: its result is no longer kept by any controller that is up",
                    remedy="run the job again",
                )
            slot = self._planner.find(run.device, run.job)
            stored = await self._archive.store(
                Entry(
                    device=run.device,
                    job=run.job,
                    content=path,
                    due=run.due,
                    started_at=run.started_at or run.recorded_at,
                    ended_at=run.ended_at or run.recorded_at,
                    worker_id=run.worker_id,
                    run_id=run_id,
                    tags=() if slot is None else slot.device.tags,
                )
            )
            await self._ledger.accept(
                run_id,
                version=stored.version,
                changed=stored.changed,
                by=by.name,
                now=self._clock.now(),
            )
        log.info("run.accepted", run_id=run_id, device=run.device, job=run.job, by=by.name)
        return AcceptAnswer(version=stored.version, changed=stored.changed)

    async def _known(self, run_id: str) -> Run:
        run = await self._ledger.run(run_id)
        if run is None:
            raise RunNotFoundError(run_id)
        return run
