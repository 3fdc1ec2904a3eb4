"""Puts another configuration in force while serving."""

import asyncio
from collections.abc import Callable
from typing import Final

import msgspec

from roundsman import logs
from roundsman.clock import Clock
from roundsman.config.records import Configuration, ControllerSettings
from roundsman.controller.access import Access
from roundsman.controller.planner import Planner, planned_slots
from roundsman.errors import ConflictError, RoundsmanError
from roundsman.ledger.interface import Ledger, SyncSummary
from roundsman.wire.manage import ReloadAnswer

log = logs.get(__name__)

_FIXED: Final = ("data", "listen", "log")
"""Settings of the controller that are read at its start alone."""


class NothingToReloadError(ConflictError):
    """The controller was not started from a configuration file."""

    code = "configuration.no_file"


class Reloading:
    """Reads the configuration anew and brings planner, ledger and access in line with it."""

    def __init__(
        self,
        *,
        planner: Planner,
        ledger: Ledger,
        access: Access,
        clock: Clock,
        load: Callable[[], Configuration] | None,
    ) -> None:
        """`load` reads the file and raises what is wrong with it; it runs in a thread."""
        self._planner = planner
        self._ledger = ledger
        self._access = access
        self._clock = clock
        self._load = load
        self._one_at_a_time = asyncio.Lock()

    async def sync(self) -> SyncSummary:
        """Bring the ledger's slots in line with the configuration in force."""
        now = self._clock.now()
        planned = await asyncio.to_thread(planned_slots, self._planner.configuration, now)
        summary = await self._ledger.sync_slots(planned, now)
        log.info("configuration.in_force", slots=len(planned), **msgspec.structs.asdict(summary))
        return summary

    async def reload(self) -> ReloadAnswer:
        """Put in force what the file says now; calls go on being answered meanwhile.

        Whatever is raised, the configuration of before stays in force: `ConfigurationError` with
        every problem, `LedgerUnavailableError`, `NothingToReloadError`.
        """
        if self._load is None:
            raise NothingToReloadError("this controller was not started from a configuration file")
        async with self._one_at_a_time:
            before = self._planner.configuration
            try:
                after = await asyncio.to_thread(self._load)
                # The planner first: a slot that the ledger offers must be known to it.
                self._planner.replace(after)
                summary = await self.sync()
            except RoundsmanError as error:
                self._planner.replace(before)
                log.error("configuration.refused", problems=str(error).splitlines())
                raise
            needs_restart = self._settings_left(before.controller, after.controller)
            if needs_restart:
                log.warning("configuration.needs_restart", settings=needs_restart)
            return ReloadAnswer(
                devices=len(after.devices),
                jobs=len(after.jobs),
                slots=len(after.slots),
                added=summary.added,
                changed=summary.changed,
                removed=summary.removed,
                needs_restart=needs_restart,
            )

    def _settings_left(
        self, before: ControllerSettings, after: ControllerSettings
    ) -> tuple[str, ...]:
        """Take the tokens over, and name what only a restart takes over."""
        left = [name for name in _FIXED if getattr(before, name) != getattr(after, name)]
        if not self._access.set_tokens(after.tokens):
            left.append("tokens")
        return tuple(f"controller.{name}" for name in left)
