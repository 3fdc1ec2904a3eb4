"""The controller as one value: its services, and the common ground they stand on."""

import asyncio
from collections.abc import Callable
from pathlib import Path

import msgspec

from roundsman import logs
from roundsman.archive.interface import Archive
from roundsman.clock import Clock
from roundsman.config.records import Configuration
from roundsman.controller.access import Access
from roundsman.controller.dispatch import Dispatch
from roundsman.controller.evidence import Evidence
from roundsman.controller.intake import Intake
from roundsman.controller.planner import Planner, planned_slots
from roundsman.controller.spool import Spool
from roundsman.controller.workers import Workers
from roundsman.errors import RoundsmanError, UnavailableError
from roundsman.ledger.interface import Ledger

log = logs.get(__name__)


class Readiness(msgspec.Struct, frozen=True, kw_only=True):
    """Whether the controller can keep results now."""

    ready: bool
    """Whether every part is."""
    parts: dict[str, str]
    """`ok` or what is wrong, by part."""


class Controller:
    """Holds one service per use case. Handlers call services; services meet only here.

    Built, opened, served, closed: `open()` before the first call, `close()` after the last.
    """

    def __init__(
        self,
        configuration: Configuration,
        *,
        ledger: Ledger,
        archive: Archive,
        clock: Clock,
        data: Path,
    ) -> None:
        """Put the services together; nothing is touched before `open()`.

        `data` is the folder of spool and evidence.
        """
        self.ledger = ledger
        self.archive = archive
        self.clock = clock
        self.planner = Planner(configuration)
        self.access = Access(configuration.controller.tokens)
        self.workers = Workers(
            ledger=ledger,
            access=self.access,
            clock=clock,
            leases=configuration.controller.leases,
        )
        self.spool = Spool(data / "spool")
        self.evidence = Evidence(data / "evidence")
        self.dispatch = Dispatch(planner=self.planner, ledger=ledger, clock=clock)
        self.intake = Intake(
            planner=self.planner,
            ledger=ledger,
            archive=archive,
            evidence=self.evidence,
            clock=clock,
        )
        self._reloading = asyncio.Lock()

    @property
    def configuration(self) -> Configuration:
        """The configuration in force."""
        return self.planner.configuration

    async def open(self) -> None:
        """Open ledger, archive and spool, and bring the slots in line with the configuration."""
        await self.ledger.open()
        await self.archive.open()
        self.spool.open()
        await self.access.refresh_workers(self.ledger)
        await self._sync()

    async def reload(self, load: Callable[[], Configuration]) -> bool:
        """Put what `load` reads in force; it runs in a thread, and calls go on being answered.

        False when it is not good, or the ledger cannot take it now: then the configuration of
        before stays in force, and the log says why.
        """
        async with self._reloading:
            before = self.configuration
            try:
                after = await asyncio.to_thread(load)
                self.planner.replace(after)
                await self._sync()
            except RoundsmanError as error:
                self.planner.replace(before)
                log.error("configuration.refused", problems=str(error).splitlines())
                return False
            if not self.access.set_tokens(after.controller.tokens) or (
                (before.controller.data, before.controller.listen)
                != (after.controller.data, after.controller.listen)
            ):
                log.warning(
                    "configuration.needs_restart",
                    reason="where data is kept, where it listens and whether it is open",
                )
            return True

    async def _sync(self) -> None:
        now = self.clock.now()
        planned = await asyncio.to_thread(planned_slots, self.configuration, now)
        summary = await self.ledger.sync_slots(planned, now)
        log.info("configuration.in_force", slots=len(planned), **msgspec.structs.asdict(summary))

    async def close(self) -> None:
        """Finish what was begun and let go, in reverse order."""
        await self.archive.close()
        await self.ledger.close()

    async def readiness(self) -> Readiness:
        """Ask each part whether it can serve now."""
        parts: dict[str, str] = {}
        for name, part in (("ledger", self.ledger), ("archive", self.archive)):
            try:
                await part.check()
            except UnavailableError as error:
                parts[name] = str(error)
            else:
                parts[name] = "ok"
        return Readiness(ready=set(parts.values()) == {"ok"}, parts=parts)
