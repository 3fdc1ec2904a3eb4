"""Steps that may take so long, and no longer."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from roundsman.worker.sessions.errors import SessionError


@asynccontextmanager
async def within(seconds: float, late: SessionError) -> AsyncIterator[None]:
    """Do what is inside within that time, or raise `late`."""
    try:
        async with asyncio.timeout(seconds):
            yield
    except TimeoutError:
        raise late from None
