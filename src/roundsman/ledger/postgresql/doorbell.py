"""The one connection through which a controller hears that others rang.

A pooler between that lends out connections by the transaction swallows notifications without a
word. So the controller rings at itself, at the start and now and then, and what does not arrive is
found out. Whoever listens looks at the rows every so often anyway.
"""

import asyncio
import uuid
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Final

import asyncpg

from roundsman import logs
from roundsman.clock import Clock
from roundsman.ledger.interface import LedgerUnavailableError
from roundsman.ledger.postgresql.failures import translate

log = logs.get(__name__)

TEST_SECONDS: Final = 30.0
"""So often it rings at itself."""
ARRIVAL_SECONDS: Final = 3.0
"""After so long a notification counts as swallowed."""
_AGAIN_SECONDS: Final = 1.0
_SELF: Final = "self "

NOT_CONNECTED: Final = "not connected"
SWALLOWED: Final = (
    "notifications do not arrive: what other controllers ask is found by looking, up to half a "
    "second later; a pooler between has to keep sessions (PgBouncer: pool_mode = session)"
)


class Doorbell:
    """Listens on one channel."""

    def __init__(
        self, connect: Callable[..., Awaitable[asyncpg.Connection]], *, clock: Clock
    ) -> None:
        """`connect` makes a connection of its own, outside of the pool."""
        self._connect = connect
        self._clock = clock
        self.deaf: str | None = NOT_CONNECTED
        """Why notifications do not come; none: they do."""

    async def listen(
        self,
        channel: str,
        heard: Callable[[str], None],
        *,
        ring: Callable[[str], Awaitable[None]],
    ) -> None:
        """Call `heard` with each text, until cancelled; `ring` sends one to this very channel.

        After each connect, and when one is lost, the text is empty: look at everything.
        """
        while True:
            try:
                await self._listen_once(channel, heard, ring)
            except Exception as error:
                translated = translate(error)
                if not isinstance(translated, LedgerUnavailableError):
                    raise
                self._is(NOT_CONNECTED)
                log.debug("doorbell.lost", reason=translated.text)
            heard("")
            await self._clock.sleep(_AGAIN_SECONDS)

    async def _listen_once(
        self,
        channel: str,
        heard: Callable[[str], None],
        ring: Callable[[str], Awaitable[None]],
    ) -> None:
        connection = await self._connect(server_settings={"application_name": "roundsman doorbell"})
        ended = asyncio.Event()
        arrived: asyncio.Queue[str] = asyncio.Queue()

        def on_notification(_: object, __: int, ___: str, text: object) -> None:
            if str(text).startswith(_SELF):
                arrived.put_nowait(str(text))
            else:
                heard(str(text))

        def on_end(_: object) -> None:
            ended.set()
            arrived.put_nowait("")

        connection.add_termination_listener(on_end)
        try:
            await connection.add_listener(channel, on_notification)
            heard("")
            while not ended.is_set() and await self._arrives(ring, arrived, ended):
                with suppress(TimeoutError):
                    async with asyncio.timeout(TEST_SECONDS):
                        await ended.wait()
        finally:
            connection.terminate()

    async def _arrives(
        self,
        ring: Callable[[str], Awaitable[None]],
        arrived: asyncio.Queue[str],
        ended: asyncio.Event,
    ) -> bool:
        """Ring at oneself, and find out whether it is heard."""
        text = _SELF + str(uuid.uuid4())
        await ring(text)
        try:
            async with asyncio.timeout(ARRIVAL_SECONDS):
                while not ended.is_set():
                    if await arrived.get() == text:
                        self._is(None)
                        return True
        except TimeoutError:
            self._is(SWALLOWED)
            # Perhaps the connection alone is dead, without a word: another one is made, later.
            await self._clock.sleep(TEST_SECONDS)
        return False

    def _is(self, deaf: str | None) -> None:
        if deaf == self.deaf:
            return
        if deaf is None:
            log.info("doorbell.heard")
        else:
            log.warning("doorbell.deaf", reason=deaf)
        self.deaf = deaf
