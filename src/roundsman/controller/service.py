"""The controller as one value: its services, and the common ground they stand on."""

import asyncio
import contextlib
from collections.abc import Callable
from pathlib import Path
from typing import Final

import msgspec

from roundsman.archive.interface import Archive
from roundsman.clock import Clock
from roundsman.config.records import Configuration
from roundsman.controller.acceptance import Acceptance
from roundsman.controller.access import Access
from roundsman.controller.accounts import Accounts
from roundsman.controller.agreement import Agreement
from roundsman.controller.attendance import Attendance
from roundsman.controller.audit import Audit
from roundsman.controller.catching_up import CatchingUp
from roundsman.controller.dispatch import Dispatch
from roundsman.controller.evidence import Evidence
from roundsman.controller.fleet import Fleet
from roundsman.controller.history import History
from roundsman.controller.inspection import Inspection
from roundsman.controller.intake import Intake, Turns
from roundsman.controller.membership import Membership
from roundsman.controller.operations import Operations
from roundsman.controller.peers import Peers
from roundsman.controller.planner import Planner
from roundsman.controller.process_batches import ProcessBatches
from roundsman.controller.recognition import Recognition
from roundsman.controller.reloading import Reloading
from roundsman.controller.results import Results
from roundsman.controller.retention import Retention
from roundsman.controller.shared_evidence import SharedEvidence
from roundsman.controller.spool import Spool
from roundsman.controller.workers import Workers
from roundsman.errors import ConflictError, UnavailableError
from roundsman.ledger.interface import Ledger
from roundsman.wire.controller import ALIVE_SECONDS

_END_OF_CERTIFICATE: Final = "-----END CERTIFICATE-----"


class Readiness(msgspec.Struct, frozen=True, kw_only=True):
    """Whether the controller can keep results now."""

    ready: bool
    """Whether ledger and archive are, and it is not about to stop."""
    parts: dict[str, str]
    """`ok` or what is wrong, by part; `notifications` where controllers share the ledger, `server`
    when it is about to stop."""


class NoRemoteError(ConflictError):
    """Several controllers share a ledger, and their archives have no place to meet."""

    code = "controller.no_remote"


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
        load: Callable[[], Configuration] | None = None,
    ) -> None:
        """Put the services together; nothing is touched before `open()`.

        `data` is the folder of spool and evidence. `load` reads the configuration anew, for
        reloads; it raises what is wrong with it.
        """
        self.ledger = ledger
        self.archive = archive
        self.clock = clock
        self.draining = False
        """Whether it is about to stop, and load balancers are to find that out."""
        self.planner = Planner(configuration)
        self.membership = Membership(ledger=ledger, clock=clock, data=data)
        self.peers = Peers(ledger=ledger, membership=self.membership, clock=clock)
        self.access = Access(configuration.controller.tokens)
        self.audit = Audit(ledger=ledger, clock=clock)
        self.fleet = Fleet(
            ledger=ledger,
            audit=self.audit,
            clock=clock,
            controller_id=self.membership.controller_id,
        )
        self.attendance = Attendance(ledger=ledger, clock=clock)
        self.batches = ProcessBatches(
            ledger=ledger, fleet=self.fleet, audit=self.audit, clock=clock
        )
        self.recognition = Recognition(
            ledger=ledger, access=self.access, membership=self.membership, clock=clock
        )
        if self.fleet.exchange is not None:
            self.fleet.exchange.on["controllers"] = lambda _: self.membership.hurry()
        self.workers = Workers(
            planner=self.planner,
            ledger=ledger,
            access=self.access,
            fleet=self.fleet,
            attendance=self.attendance,
            clock=clock,
        )
        self.spool = Spool(data / "spool")
        self.evidence = Evidence(data / "evidence")
        shared_evidence = SharedEvidence(
            evidence=self.evidence, peers=self.peers, membership=self.membership
        )
        self.dispatch = Dispatch(
            planner=self.planner, ledger=ledger, attendance=self.attendance, clock=clock
        )
        turns = Turns()
        self.intake = Intake(
            planner=self.planner,
            ledger=ledger,
            archive=archive,
            evidence=self.evidence,
            clock=clock,
            turns=turns,
            attendance=self.attendance,
        )
        self.acceptance = Acceptance(
            planner=self.planner,
            ledger=ledger,
            archive=archive,
            evidence=shared_evidence,
            clock=clock,
            turns=turns,
        )
        self.agreement = Agreement(
            planner=self.planner, ledger=ledger, archive=archive, clock=clock, turns=turns
        )
        self.reloading = Reloading(
            planner=self.planner,
            ledger=ledger,
            membership=self.membership,
            access=self.access,
            clock=clock,
            load=load,
        )
        self.inspection = Inspection(
            planner=self.planner, ledger=ledger, workers=self.workers, clock=clock
        )
        self.retention = Retention(
            planner=self.planner,
            ledger=ledger,
            membership=self.membership,
            evidence=self.evidence,
            clock=clock,
        )
        self._loops: list[asyncio.Task[None]] = []
        self._rounds: asyncio.Task[None] | None = None
        self.history = History(
            planner=self.planner,
            ledger=ledger,
            evidence=shared_evidence,
            fleet=self.fleet,
            clock=clock,
        )
        self.catching_up = CatchingUp(
            ledger=ledger, archive=archive, membership=self.membership, clock=clock
        )
        self.results = Results(
            planner=self.planner, archive=archive, catching_up=self.catching_up, clock=clock
        )
        self.accounts = Accounts(
            planner=self.planner, ledger=ledger, attendance=self.attendance, clock=clock
        )
        self.operations = Operations(
            planner=self.planner, ledger=ledger, attendance=self.attendance, clock=clock
        )

    @property
    def configuration(self) -> Configuration:
        """The configuration in force."""
        return self.planner.configuration

    async def open(self, *, address: str | None = None) -> None:
        """Open ledger, archive and spool, and bring the slots in line with the configuration.

        `address` is the URL at which other controllers reach this one.
        """
        await self.ledger.open()
        self.membership.introduce(
            peer_key=self.peers.public_key,
            certificate=await asyncio.to_thread(_certificate, self.configuration),
        )
        await self.membership.open(address)
        if self.membership.others() and not self.configuration.controller.archive.remotes:
            raise NoRemoteError(
                "another controller serves from this ledger, and controller.archive.remotes names"
                " no repository: nobody could read here what it keeps",
                remedy="give all of them the same remote; or, if one was killed a moment ago and"
                f" this takes its place, start again in {ALIVE_SECONDS:.0f} s",
            )
        # From now on: to open the rest may take longer than the lead lasts.
        self._rounds = asyncio.create_task(self.membership.run())
        await self._tell_others()
        await self.archive.open()
        self.spool.open()
        await self.access.refresh_workers(self.ledger)
        await self.attendance.open()
        await self.reloading.open()
        await self.batches.open()
        exchange = self.fleet.exchange
        self._loops = [
            *([asyncio.create_task(exchange.run())] if exchange is not None else []),
            asyncio.create_task(self.reloading.run()),
            asyncio.create_task(self.catching_up.run()),
            asyncio.create_task(self.agreement.run()),
            asyncio.create_task(self.recognition.run()),
            asyncio.create_task(self.retention.run()),
            asyncio.create_task(self.audit.run()),
            asyncio.create_task(self.attendance.run()),
        ]

    async def close(self) -> None:
        """Finish what was begun and let go, in reverse order."""
        await self.batches.close()
        await self.fleet.close()
        await self.peers.close()
        loops = [*self._loops, *([self._rounds] if self._rounds is not None else [])]
        for loop in loops:
            loop.cancel()
        await asyncio.gather(*loops, return_exceptions=True)
        if self._loops:
            await self.audit.run_once()
            await self.attendance.close()
        if await self.membership.close():
            with contextlib.suppress(UnavailableError):  # they find out by themselves, a bit later
                await self._tell_others()
        await self.archive.close()
        await self.ledger.close()

    async def _tell_others(self) -> None:
        """That this controller has come, or gone."""
        if self.fleet.exchange is not None:
            await self.fleet.exchange.crossing.ring_all("controllers changed")

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
        if self.draining:
            parts["server"] = "this controller is stopping"
        ready = set(parts.values()) == {"ok"}
        if self.fleet.exchange is not None:  # without it all goes on, more slowly
            parts["notifications"] = self.fleet.exchange.crossing.deaf or "ok"
        return Readiness(ready=ready, parts=parts)


def _certificate(configuration: Configuration) -> str | None:
    """The certificate that this controller shows, as PEM; without those that follow in the file."""
    tls = configuration.controller.listen.tls
    if tls is None:
        return None
    try:
        text, end, _ = tls.certificate.read_text("ascii").partition(_END_OF_CERTIFICATE)
    except (OSError, UnicodeDecodeError):
        return None  # what is wrong with it is said where it is served
    return text + end
