"""The controller as one value: its services, and the common ground they stand on."""

from pathlib import Path

import msgspec

from roundsman import logs
from roundsman.archive.interface import Archive
from roundsman.clock import Clock
from roundsman.config.records import Configuration
from roundsman.controller.access import Access
from roundsman.controller.workers import Workers
from roundsman.errors import UnavailableError
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
        self.configuration = configuration
        self.access = Access(configuration.controller.tokens)
        self.workers = Workers(
            ledger=ledger,
            access=self.access,
            clock=clock,
            leases=configuration.controller.leases,
        )

    async def open(self) -> None:
        """Open ledger and archive, and bring the slots in line with the configuration."""
        await self.ledger.open()
        await self.archive.open()
        await self.access.refresh_workers(self.ledger)

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
