"""Has the archive agree with the ledger on what was kept of each run.

A result is written before its run is ended, and whoever sent it may send it to another controller
meanwhile. So a version may stand whose run was ended by the commit of another controller, or was
refused since its lease was lost, or was never ended: its controller was killed. Each version that
comes here is looked for in the ledger, some seconds later, and withdrawn where it is not what was
kept of its run.

Only what the ledger says is acted upon. A run that it does not know may have been forgotten, by a
failover or with the ledger: that stays as it is, unless another run ended its due time.
"""

from collections.abc import Iterable
from contextlib import suppress
from itertools import islice
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Final

from roundsman import logs
from roundsman.archive.interface import (
    Archive,
    Brought,
    Entry,
    VersionNotFoundError,
    Withdrawal,
)
from roundsman.clock import Clock
from roundsman.controller.intake import Turns
from roundsman.controller.planner import Planner
from roundsman.errors import UnavailableError
from roundsman.ledger.interface import Ledger, ResultKey, RunEnd, RunQuery
from roundsman.wire.run import Outcome, Run

log = logs.get(__name__)

EVERY_SECONDS: Final = 10.0
_AT_ONCE: Final = 1000
"""Versions looked for in the ledger together."""
_AGAIN: Final = 100
"""Versions whose runs have not ended that are looked for once more in one round."""
_SECONDS: Final = 3600.0
"""How long a version is asked about whose run does not end."""
_AFTER_SECONDS: Final = 120.0
"""How long one that was refused is asked about after it was withdrawn."""
_RUNS: Final = 50
"""Runs of a device and job looked through, newest first."""
_NO_OUTCOME: Final = (Outcome.RETRIED, Outcome.STALE)


class Agreement:
    """See the module. Every controller sees to its own archive; to withdraw twice is harmless."""

    def __init__(
        self, *, planner: Planner, ledger: Ledger, archive: Archive, clock: Clock, turns: Turns
    ) -> None:
        """Nothing is looked at yet."""
        self._planner = planner
        self._ledger = ledger
        self._archive = archive
        self._clock = clock
        self._turns = turns
        self._reached: str | None = None
        self._waiting: dict[Brought, float] = {}
        """Versions whose runs have not ended, and since when; those asked about last come last."""
        self._withdrawn: dict[Brought, float] = {}
        """Those refused that this controller withdrew, and when; they are among `_waiting`."""

    async def run(self) -> None:
        """Look every few seconds, until cancelled."""
        while True:
            await self._clock.sleep(EVERY_SECONDS)
            try:
                await self.run_once()
            except (UnavailableError, OSError) as error:
                log.warning("archive.not_compared", reason=str(error))

    async def run_once(self) -> None:
        """Look at what came since the last time. Raises `UnavailableError`, `OSError`."""
        await self._compare([*islice(self._waiting, _AGAIN)])
        while True:
            page = await self._archive.brought(self._reached, limit=_AT_ONCE)
            await self._compare(page.items)
            self._reached = page.reached
            if len(page.items) < _AT_ONCE:
                return

    async def _compare(self, versions: Iterable[Brought]) -> None:
        versions = [*versions]
        ends = await self._ledger.ends_of([each.run_id for each in versions])
        for each, end in zip(versions, ends, strict=True):
            settled = await self._is_settled(each, end)
            since = self._waiting.pop(each, self._clock.monotonic())
            if settled:
                self._withdrawn.pop(each, None)
                continue
            if self._clock.monotonic() < since + _SECONDS:
                self._waiting[each] = since
            elif self._withdrawn.pop(each, None) is None:
                log.warning(
                    "archive.run_unknown", device=each.device, job=each.job, version=each.version
                )

    async def _is_settled(self, each: Brought, end: RunEnd | None) -> bool:
        """Whether nothing more is to be done about a version; it is withdrawn where it must be."""
        if end is None:
            return not await self._may_end(each)
        if end.outcome is Outcome.STALE:
            return await self._refused(each)
        if end.version in (None, each.version):
            return True
        try:
            other = await self._archive.version(each.device, each.job, end.version)
        except VersionNotFoundError:
            return False  # it is on its way, or lost: then this one has its content
        if other.run_id != each.run_id:
            return True  # the run found it unchanged: this is the only commit that names the run
        await self._archive.withdraw([self._withdrawal(each, kept=end.version)])
        return True

    async def _may_end(self, each: Brought) -> bool:
        """Whether there is more to come of a version whose run the ledger does not know.

        Where its due time had another end, its run is written as stale: then it is known.
        """
        try:
            execution = await self._archive.execution(each.device, each.job, each.version)
        except VersionNotFoundError:
            return False  # given up
        if execution is None:
            return False
        due = execution.due
        key = ResultKey(device=each.device, job=each.job, due=due, digest="", epoch=None)
        [standing] = await self._ledger.standings([key])
        if standing.lease is not None and standing.lease.due == due:
            return True
        query = RunQuery(device=each.device, job=each.job, limit=_RUNS)
        if any(
            run.due <= due <= (run.due if run.last_due is None else run.last_due)
            for run in (await self._ledger.runs(query)).items
            if run.outcome not in _NO_OUTCOME and run.run_id != each.run_id
        ):
            await self._ledger.record_stale(
                Run(
                    run_id=each.run_id,
                    device=each.device,
                    job=each.job,
                    due=due,
                    outcome=Outcome.STALE,
                    recorded_at=self._clock.now(),
                    worker_id=execution.worker_id,
                    ended_at=each.ended_at,
                    failure="the controller that wrote the result did not live to end its run, "
                    "and another run ended the due time",
                    version=each.version,
                )
            )
        return True

    async def _refused(self, each: Brought) -> bool:
        """Withdraw the result of a run that was refused, unless a later run found it unchanged.

        Another controller may end such a run before it hears of that; the result is kept once more
        then, as that run's. Whether no more is to be done.
        """
        async with self._turns.of(each.device, each.job):
            query = RunQuery(
                device=each.device, job=each.job, outcome=Outcome.SUCCEEDED, limit=_RUNS
            )
            runs = (await self._ledger.runs(query)).items
            named = any(run.version == each.version for run in runs)
            withdrawn_at = self._withdrawn.get(each)
            if withdrawn_at is not None:
                if named and runs[0].version == each.version:
                    await self._keep_again(each, runs[0])
                return named or self._clock.monotonic() >= withdrawn_at + _AFTER_SECONDS
            if named:
                return True
            await self._archive.withdraw([self._withdrawal(each)])
            self._withdrawn[each] = self._clock.monotonic()
            return False

    async def _keep_again(self, each: Brought, run: Run) -> None:
        """Store what a run found unchanged, and what was withdrawn meanwhile."""
        slot = self._planner.find(each.device, each.job)
        log.warning("archive.kept_again", device=each.device, job=each.job, run_id=run.run_id)
        with NamedTemporaryFile() as file, suppress(VersionNotFoundError):  # lost with its disk
            async for piece in self._archive.read(each.device, each.job, each.version):
                file.write(piece)
            file.flush()
            await self._archive.store(
                Entry(
                    device=each.device,
                    job=each.job,
                    content=Path(file.name),
                    due=run.due,
                    started_at=run.recorded_at if run.started_at is None else run.started_at,
                    ended_at=run.recorded_at if run.ended_at is None else run.ended_at,
                    worker_id=run.worker_id,
                    run_id=run.run_id,
                    tags=() if slot is None else slot.device.tags,
                )
            )

    def _withdrawal(self, each: Brought, *, kept: str | None = None) -> Withdrawal:
        slot = self._planner.find(each.device, each.job)
        log.warning(
            "archive.withdrawing", device=each.device, job=each.job, run_id=each.run_id, kept=kept
        )
        return Withdrawal(
            device=each.device,
            job=each.job,
            version=each.version,
            kept=kept,
            tags=() if slot is None else slot.device.tags,
        )
