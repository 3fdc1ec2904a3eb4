"""Puts another configuration in force while serving, here and at the controllers beside this one.

Whoever leads keeps the ledger's slots in line with its configuration. A reload that one of them is
asked for is a call to all: each reads its own file anew at its next round.
"""

import asyncio
from collections.abc import Callable
from typing import Final

import msgspec

from roundsman import logs
from roundsman.clock import Clock
from roundsman.config.records import Configuration, ControllerSettings
from roundsman.controller.access import Access
from roundsman.controller.digests import digest_of
from roundsman.controller.membership import Membership
from roundsman.controller.planner import Planner, planned_slots
from roundsman.errors import ConflictError, RoundsmanError, UnavailableError
from roundsman.ledger.interface import (
    Ledger,
    LedgerUnavailableError,
    NotLeadingError,
    RegisteredController,
    SyncSummary,
)
from roundsman.wire.manage import ReloadAnswer

log = logs.get(__name__)

AGAIN_SECONDS: Final = 1.0
"""After the ledger was away."""
LOOK_SECONDS: Final = 0.2
FOLLOW_SECONDS: Final = 60.0
"""A leader that reads a large configuration may take so long."""

_FIXED: Final = ("address", "data", "ledger", "listen", "log")
"""Settings of the controller that are read at its start alone."""


class NothingToReloadError(ConflictError):
    """The controller was not started from a configuration file."""

    code = "configuration.no_file"


class OutOfStepError(ConflictError):
    """The controller that leads has another configuration than this one."""

    code = "configuration.out_of_step"


class NotFollowedError(UnavailableError):
    """The controller that leads has not taken the configuration over yet."""

    code = "configuration.not_followed"


class Reloading:
    """Reads the configuration anew and brings planner, ledger and access in line with it."""

    def __init__(
        self,
        *,
        planner: Planner,
        ledger: Ledger,
        membership: Membership,
        access: Access,
        clock: Clock,
        load: Callable[[], Configuration] | None,
    ) -> None:
        """`load` reads the file and raises what is wrong with it; it runs in a thread."""
        self._planner = planner
        self._ledger = ledger
        self._membership = membership
        self._access = access
        self._clock = clock
        self._load = load
        self._one_at_a_time = asyncio.Lock()
        self._changed = asyncio.Event()
        self._synced_in: int | None = None
        """The last term in which this controller brought the ledger in line."""

    async def open(self) -> None:
        """Say which configuration is in force here, and, as the leader, put it into the ledger."""
        self._membership.listen(self._changed.set)
        await self._membership.say(configuration=await self._digest())
        if self._membership.term is not None:
            await self._sync()

    async def run(self) -> None:
        """Follow calls, and take over the slots with the lead; until cancelled."""
        while True:
            await self._changed.wait()
            self._changed.clear()
            try:
                await self.follow()
            except NotLeadingError as error:
                log.info("configuration.not_synced", reason=error.text)
            except LedgerUnavailableError as error:
                log.warning("configuration.not_synced", reason=error.text)
                await self._clock.sleep(AGAIN_SECONDS)
                self._changed.set()

    async def reload(self) -> ReloadAnswer:
        """Put in force what the file says now; calls go on being answered meanwhile.

        Whatever else is raised, the configuration of before stays in force: `ConfigurationError`
        with every problem, `LedgerUnavailableError`, `NothingToReloadError`. `OutOfStepError` and
        `NotFollowedError` say what became of it at the controller that leads.
        """
        if self._load is None:
            raise NothingToReloadError("this controller was not started from a configuration file")
        async with self._one_at_a_time:
            before = self._planner.configuration
            try:
                await self._read(self._load)
                summary = await self._sync_as_leader()
                call = await self._ledger.call_to_reload()
            except RoundsmanError as error:
                self._planner.replace(before)
                log.error("configuration.refused", problems=str(error).splitlines())
                raise
            needs_restart = self._settings_left(before.controller)
            await self._tell(call, summary)
            if summary is None:
                summary = await self._led(call)
            after = self._planner.configuration
            return ReloadAnswer(
                devices=len(after.devices),
                jobs=len(after.jobs),
                slots=len(after.slots),
                added=summary.added,
                changed=summary.changed,
                removed=summary.removed,
                needs_restart=needs_restart,
            )

    async def _read(self, load: Callable[[], Configuration]) -> None:
        # The planner first: a slot that the ledger offers must be known to it.
        self._planner.replace(await asyncio.to_thread(load))

    async def _sync_as_leader(self) -> SyncSummary | None:
        """The same as `_sync`; none when another one leads."""
        if self._membership.term is None:
            return None
        try:
            return await self._sync()
        except NotLeadingError:  # this one was away, and has not heard of it yet
            await self._membership.round()
            return None

    async def _sync(self) -> SyncSummary:
        """Bring the ledger's slots in line with the configuration in force, as the leader."""
        term = self._membership.term
        now = self._clock.now()
        planned = await asyncio.to_thread(planned_slots, self._planner.configuration, now)
        summary = await self._ledger.sync_slots(planned, now, term=term)
        self._synced_in = term
        log.info("configuration.in_force", slots=len(planned), **msgspec.structs.asdict(summary))
        return summary

    async def follow(self) -> None:
        """Do what the last round asks for, if it was not done yet."""
        async with self._one_at_a_time:
            await self._follow()

    async def _follow(self) -> None:
        call, term = self._membership.leadership.calls, self._membership.term
        summary = None
        called = call > self._membership.calls and self._load is not None
        if called and self._load is not None:
            before = self._planner.configuration
            try:
                await self._read(self._load)
            except RoundsmanError as error:
                log.error("configuration.refused", problems=str(error).splitlines())
                await self._membership.say(calls=call, problem=str(error).splitlines()[0])
                return
            self._settings_left(before.controller)
        if term is not None and (called or self._synced_in != term):
            summary = await self._sync()
        if called:
            await self._tell(call, summary)

    async def _tell(self, call: int, summary: SyncSummary | None) -> None:
        await self._membership.say(
            configuration=await self._digest(), calls=call, synced=summary, problem=None
        )

    async def _digest(self) -> str:
        salt = self._membership.leadership.salt
        return await asyncio.to_thread(digest_of, self._planner.configuration, salt)

    async def _led(self, call: int) -> SyncSummary:
        """What became of the slots at the controller that leads, as soon as it followed."""
        deadline = self._clock.monotonic() + FOLLOW_SECONDS
        while self._clock.monotonic() < deadline:
            summary = await self._sync_as_leader()
            if summary is not None:  # the one that led has died
                return summary
            leader = await self._membership.leader()
            if leader is not None and leader.calls >= call:
                return self._judged(leader)
            await self._clock.sleep(LOOK_SECONDS)
        raise NotFollowedError(
            f"expected the controller that leads to read its configuration anew within"
            f" {FOLLOW_SECONDS:.0f} s; this one has done so",
            remedy="see GET /api/v1/controllers",
        )

    def _judged(self, leader: RegisteredController) -> SyncSummary:
        if leader.problem is None and self._membership.agrees(leader):
            return leader.synced or SyncSummary()
        reads = leader.problem or "its file says something else"
        raise OutOfStepError(
            f"this controller has taken its configuration over, but the one that leads,"
            f" {leader.address or leader.controller_id}, has another: {reads}",
            remedy="give all controllers the same configuration, and reload once more",
        )

    def _settings_left(self, before: ControllerSettings) -> tuple[str, ...]:
        """Take the tokens over, and name what only a restart takes over."""
        after = self._planner.configuration.controller
        left = [name for name in _FIXED if getattr(before, name) != getattr(after, name)]
        if not self._access.set_tokens(after.tokens):
            left.append("tokens")
        settings = tuple(f"controller.{name}" for name in left)
        if settings:
            log.warning("configuration.needs_restart", settings=settings)
        return settings
