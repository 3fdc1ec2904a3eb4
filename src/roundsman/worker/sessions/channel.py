"""What a shell needs of a transport."""

from typing import Protocol

WINDOW_COLUMNS = 511
"""Width of the window we claim to have: the widest that old line editors accept. Wide, so that
neither echoes nor output are folded."""


class Channel(Protocol):
    """A stream of bytes to and from a device's terminal."""

    async def read(self) -> bytes:
        """Whatever has come, at least one byte; empty once the device has closed the stream.

        Cancelling a read loses nothing. Reading slowly slows the device down.
        """
        ...

    def write(self, data: bytes) -> None:
        """Send soon; never waits. Sending into a closed stream does nothing."""
        ...
