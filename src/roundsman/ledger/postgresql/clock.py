"""The database's clock, which all controllers on one database go by."""

from roundsman.clock import Clock


class DatabaseClock:
    """Tells the database's time, kept on by this machine's between two looks at it.

    It is never ahead of the database by more than this machine's drift between two looks: what was
    read is taken for the time at which the answer came. So no controller sees a lease run out
    before it has, whatever the wall clock of its machine says.
    """

    def __init__(self, local: Clock) -> None:
        """Go by this machine's clock until the database's is read."""
        self._local = local
        self._ahead: float | None = None
        """Database's time less this machine's monotonic time."""

    def now(self) -> float:
        """The database's clock, in Unix seconds, UTC."""
        if self._ahead is None:
            return self._local.now()
        return self._local.monotonic() + self._ahead

    def monotonic(self) -> float:
        """This machine's."""
        return self._local.monotonic()

    async def sleep(self, seconds: float) -> None:
        """Wait for that long; zero or less only yields."""
        await self._local.sleep(seconds)

    def set(self, instant: float) -> None:
        """The database has just said that it is this instant."""
        self._ahead = instant - self._local.monotonic()
