"""Waiting for many descriptors through a single one of the event loop's.

The loop's own way takes some forty calls of Python for each descriptor that comes and goes, and a
process that is started has three: in a keeper that was a tenth of its work.
"""

import asyncio
import select
from collections.abc import Callable
from typing import Final

_AT_ONCE: Final = 64  # then others have their turn


class Readers:
    """Descriptors that are waited for, each with what is called while there is something to read.

    A call may come once more than there is something to read.
    """

    def __init__(self) -> None:
        """Within the event loop that runs."""
        self._epoll = select.epoll()
        self._callbacks: dict[int, Callable[[], object]] = {}
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(self._epoll.fileno(), self._ready)

    def add(self, descriptor: int, callback: Callable[[], object]) -> None:
        """Call back whenever it can be read, until it is removed."""
        self._epoll.register(descriptor, select.EPOLLIN)
        self._callbacks[descriptor] = callback

    def remove(self, descriptor: int) -> None:
        """Wait no more; called before it is closed."""
        del self._callbacks[descriptor]
        self._epoll.unregister(descriptor)

    def close(self) -> None:
        """Wait for nothing any more."""
        self._callbacks.clear()
        self._loop.remove_reader(self._epoll.fileno())
        self._epoll.close()

    def _ready(self) -> None:
        for descriptor, _ in self._epoll.poll(0, _AT_ONCE):
            if (callback := self._callbacks.get(descriptor)) is not None:  # else just removed
                callback()
