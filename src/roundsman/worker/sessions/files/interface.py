"""What a protocol that fetches files does."""

from collections.abc import Callable
from typing import Protocol, TypeAlias

from roundsman.worker.sessions.errors import ClosedEarlyError

Write: TypeAlias = Callable[[bytes], None]
"""Takes the next bytes of a file. It bounds the size: it raises when there is too much."""


class Files(Protocol):
    """A device's files."""

    async def fetch(self, name: str, write: Write) -> None:
        """Read one file to its proven end, handing its content to `write` in pieces.

        Raises the errors of `sessions.errors`, and whatever `write` raises. Time limits are the
        caller's: a cancelled fetch lets go of the device at once.
        """
        ...


def check_length(name: str, came: int, announced: int | None) -> None:
    """Hold what came against the length that the device announced before, if it did."""
    if announced is not None and came != announced:
        raise ClosedEarlyError(
            f"the file {name!r} is not whole: the device announced {announced} bytes, and {came} "
            "came"
        )
