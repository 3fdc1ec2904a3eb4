"""Has in this controller's archive what others on the same ledger took in.

They push to the same remote. What is there is fetched every few seconds, and whenever something is
asked for that the ledger names and that is not here yet.
"""

import asyncio
from collections.abc import Iterable
from typing import Final

from roundsman import logs
from roundsman.archive.interface import Archive, VersionNotFoundError
from roundsman.clock import Clock
from roundsman.controller.membership import Membership
from roundsman.errors import UnavailableError
from roundsman.ledger.interface import Ledger, RunQuery
from roundsman.wire.run import Outcome

log = logs.get(__name__)

EVERY_SECONDS: Final = 10.0


class ElsewhereError(UnavailableError):
    """The ledger names a version that another controller took in and that is not here yet."""

    code = "archive.elsewhere"


class CatchingUp:
    """See the module. A controller that is alone has everything, and asks nobody."""

    def __init__(
        self, *, ledger: Ledger, archive: Archive, membership: Membership, clock: Clock
    ) -> None:
        """Nothing is fetched yet."""
        self._ledger = ledger
        self._archive = archive
        self._membership = membership
        self._clock = clock
        self._one = asyncio.Lock()
        self._done = 0

    async def run(self) -> None:
        """Fetch every few seconds while there are others, until cancelled."""
        while True:
            await self._clock.sleep(EVERY_SECONDS)
            if self._membership.shared:
                try:
                    await self._catch_up()
                except UnavailableError as error:
                    log.warning("archive.not_caught_up", reason=error.text)

    async def pair(self, device: str, job: str, versions: Iterable[str | None] = ()) -> None:
        """Return when these versions of a result, and its latest, are here if they are anywhere.

        Raises `ElsewhereError` when the ledger names a later one, and `UnavailableError`.
        """
        if not self._membership.shared:
            return
        query = RunQuery(device=device, job=job, outcome=Outcome.SUCCEEDED, limit=1)
        latest = next((run.version for run in (await self._ledger.runs(query)).items), None)
        wanted = {version for version in (latest, *versions) if version is not None}
        if all([await self._has(device, job, version) for version in wanted]):
            return
        await self._catch_up()
        if latest is not None and not await self._has(device, job, latest):
            raise ElsewhereError(
                f"{job} on {device}: another controller took in version {latest}, and it has not"
                " reached the remote yet",
                remedy="come again; if it stays so, see whether that controller is up and pushes",
            )

    async def everything(self) -> None:
        """Return when all that others have pushed is here. Raises `UnavailableError`."""
        if self._membership.shared:
            await self._catch_up()

    async def _has(self, device: str, job: str, version: str) -> bool:
        try:
            await self._archive.version(device, job, version)
        except VersionNotFoundError:
            return False
        return True

    async def _catch_up(self) -> None:
        """Fetch, or wait for a fetch that began after this was asked."""
        wanted = self._done + (2 if self._one.locked() else 1)
        async with self._one:
            if self._done < wanted:
                await self._archive.catch_up()
                self._done += 1
