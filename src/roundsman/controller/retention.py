"""Removes runs, and what was kept beside them, after long enough: the disk shall not fill."""

import asyncio
from typing import Final

from roundsman import logs
from roundsman.clock import Clock
from roundsman.controller.evidence import Evidence
from roundsman.controller.membership import Membership
from roundsman.controller.planner import Planner
from roundsman.ledger.interface import Ledger, LedgerUnavailableError, NotLeadingError

log = logs.get(__name__)

EVERY_SECONDS: Final = 3600
AT_ONCE: Final = 500
"""Runs taken away in one transaction."""
_DAY: Final = 86_400


class Retention:
    """Keeps evidence and history within the bounds that are configured."""

    def __init__(
        self,
        *,
        planner: Planner,
        ledger: Ledger,
        membership: Membership,
        evidence: Evidence,
        clock: Clock,
    ) -> None:
        """Look at the planner's configuration each time anew."""
        self._membership = membership
        self._ledger = ledger
        self._planner = planner
        self._evidence = evidence
        self._clock = clock

    async def run(self) -> None:
        """Look at once, each hour, and when much has come; until cancelled."""
        while True:
            await self.run_once()
            await self.prune_history()
            await self._until_next()

    async def prune_history(self) -> None:
        """Take away the runs that are too old or too many, few at a time: claims go between.

        Done by the controller that leads, for all.
        """
        bounds = self._planner.configuration.controller.history
        before = self._clock.now() - bounds.days * _DAY
        total = 0
        try:
            if self._membership.term is not None:
                beyond = await self._ledger.recorded_beyond(bounds.runs)
                before = before if beyond is None else max(before, beyond)
            while (term := self._membership.term) is not None:
                removed = await self._ledger.prune(before=before, limit=AT_ONCE, term=term)
                total += removed
                if not removed:
                    break
        except NotLeadingError as error:
            log.info("history.not_pruned", reason=error.text)
        except LedgerUnavailableError as error:  # it is tried again
            log.error("history.not_pruned", reason=error.text)
        if total:
            log.info("history.pruned", removed=total)

    async def run_once(self) -> None:
        """Remove what is too old, and the oldest of what is too much."""
        bounds = self._planner.configuration.controller.evidence
        try:
            removed = await self._evidence.prune(
                before=self._clock.now() - bounds.days * _DAY,
                most_bytes=bounds.megabytes * 1_000_000,
            )
        except OSError as error:  # the disk is looked after elsewhere: it is tried again
            log.error("evidence.not_pruned", reason=error.strerror)
        else:
            if removed:
                log.info("evidence.pruned", removed=removed)

    async def _until_next(self) -> None:
        hour = asyncio.ensure_future(self._clock.sleep(EVERY_SECONDS))
        grown = asyncio.ensure_future(self._evidence.grown.wait())
        try:
            await asyncio.wait({hour, grown}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            hour.cancel()
            grown.cancel()
