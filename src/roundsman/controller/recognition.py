"""Knows workers that enrolled at another controller, and forgets those that were removed there."""

import asyncio
import math
from typing import Final

from roundsman import logs
from roundsman.clock import Clock
from roundsman.controller.access import Access, Principal, UnauthenticatedError
from roundsman.controller.membership import Membership
from roundsman.ledger.interface import Ledger, LedgerUnavailableError

log = logs.get(__name__)

EVERY_SECONDS: Final = 10.0
AT_MOST_EVERY_SECONDS: Final = 1.0
"""So often tokens are read anew for what nobody knows: anybody may send that."""


class Recognition:
    """See the module. A controller that is alone knows all there are."""

    def __init__(
        self, *, ledger: Ledger, access: Access, membership: Membership, clock: Clock
    ) -> None:
        """Nothing is read yet."""
        self._ledger = ledger
        self._access = access
        self._membership = membership
        self._clock = clock
        self._one = asyncio.Lock()
        self._read_at = -math.inf

    async def authenticate(self, authorization: str | None) -> Principal:
        """Who shows this header. Raises `UnauthenticatedError`, `LedgerUnavailableError`.

        Nobody is refused before the ledger was asked: a worker that is told that it is not known
        enrols anew.
        """
        try:
            return self._access.authenticate(authorization)
        except UnauthenticatedError:
            if authorization is None or not self._membership.shared:
                raise
        await self._read_anew()
        return self._access.authenticate(authorization)

    async def run(self) -> None:
        """Read all tokens every few seconds while there are others, until cancelled."""
        while True:
            await self._clock.sleep(EVERY_SECONDS)
            if self._membership.shared:
                try:
                    await self._read_anew()
                except LedgerUnavailableError as error:
                    log.warning("access.not_read_anew", reason=error.text)

    async def _read_anew(self) -> None:
        """Return when the tokens were read after this was asked for."""
        asked = self._clock.monotonic()
        async with self._one:
            if self._read_at >= asked:
                return
            await self._clock.sleep(self._read_at + AT_MOST_EVERY_SECONDS - asked)
            now = self._clock.monotonic()
            await self._access.refresh_workers(self._ledger)
            self._read_at = now
