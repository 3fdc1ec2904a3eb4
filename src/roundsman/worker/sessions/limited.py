"""Sends nothing to a device once the lease may be another's, whatever library does the sending."""

import socket
from typing import Any, Final

from roundsman.worker.deadline import LeaseDeadline


class LimitedSocket(socket.socket):
    """A socket that looks at a deadline before it connects and before it sends anything.

    Here, since nothing lies between this and the system: not a transport's buffer, nor a library's
    own answers. The error ends the connection, as any other in its place would.
    """

    deadline: LeaseDeadline

    @classmethod
    def of(cls, address: tuple[Any, ...], deadline: LeaseDeadline) -> "LimitedSocket":
        """A new one, for an address as `getaddrinfo` has it."""
        family, kind, protocol, *_ = address
        made = cls(family, kind, protocol)
        made.deadline = deadline
        return made

    def connect(self, address: Any, /) -> None:
        """See `socket.socket`. Raises `LeaseExpiredError`, as all these do."""
        self.deadline.check()
        super().connect(address)

    def send(self, data: Any, flags: int = 0, /) -> int:
        """See `socket.socket`."""
        self.deadline.check()
        return super().send(data, flags)

    def sendall(self, data: Any, flags: int = 0, /) -> None:
        """See `socket.socket`."""
        self.deadline.check()
        super().sendall(data, flags)

    def sendmsg(self, buffers: Any, *rest: Any) -> int:
        """See `socket.socket`. So asyncio sends several pieces, from Python 3.12 on."""
        self.deadline.check()
        return super().sendmsg(buffers, *rest)


class LimitedSession:
    """A session in a shared connection to a jump host: its socket is not the device's own.

    It gives the session above a channel that looks at the deadline; all else it passes on.
    """

    def __init__(self, above: Any, deadline: LeaseDeadline) -> None:
        """Stand between a channel and `above`."""
        self.above: Final = above
        self._deadline = deadline

    def connection_made(self, channel: Any) -> None:
        """The channel is open."""
        self.above.connection_made(_LimitedChannel(channel, self._deadline))

    def __getattr__(self, name: str) -> Any:
        return getattr(self.above, name)


class _LimitedChannel:
    def __init__(self, channel: Any, deadline: LeaseDeadline) -> None:
        self._channel = channel
        self._deadline = deadline

    def write(self, data: bytes) -> None:
        """Send it, or drop the connection: whoever writes into a channel expects no error."""
        if self._deadline.is_over:
            self._channel.abort()
        else:
            self._channel.write(data)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._channel, name)
