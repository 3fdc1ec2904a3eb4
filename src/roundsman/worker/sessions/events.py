"""What happens in a session, for whoever looks on: a tape, a person at a terminal."""

from collections.abc import Callable
from enum import Enum, auto
from typing import NamedTuple, TypeAlias

from roundsman.worker.sessions.transcript import Span


class Purpose(Enum):
    """Why something is sent."""

    COMMAND = auto()
    """To have it carried out; farewells too."""
    PROBE = auto()
    """An empty line, to see whether a line is the prompt."""
    PAGE = auto()
    """For the next page."""
    ANSWER = auto()
    """To a question of the device."""


class Connected(NamedTuple):
    """The connection stands; over SSH the login is done, over Telnet it comes now."""

    where: str
    """Host and port."""
    host_key: str | None
    """Kind and fingerprint of the host key; none over Telnet."""


class Came(NamedTuple):
    """The device sent this, undrawn."""

    data: bytes


class Sent(NamedTuple):
    """We send this now. May hold a password."""

    data: bytes
    purpose: Purpose


class Learned(NamedTuple):
    """The prompt is known: after login, and again in the privileged mode."""

    prompt: bytes


class Began(NamedTuple):
    """A command begins."""

    command: str
    is_setup: bool
    """Whether the platform wants it, before the job's own."""


class Ended(NamedTuple):
    """The output of a command has come, and was read to its end."""

    command: str
    output: Span
    """Where in the transcript."""


Event: TypeAlias = Connected | Came | Sent | Learned | Began | Ended
Hear: TypeAlias = Callable[[Event], None]


def nobody(_: Event) -> None:
    """Looks on for nobody."""
