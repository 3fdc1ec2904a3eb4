"""What can be wrong with a device."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Faults:
    """The faults of one device, whatever it plays; by default it has none."""

    refuses_password: bool = False
    """No password is right."""
    silent: bool = False
    """Accepts TCP connections and never says a word."""
    latency: float = 0.0
    """Seconds before each answer."""
    piece_bytes: int | None = None
    """Output comes in pieces of so many bytes."""
    piece_seconds: float = 0.0
    """Seconds between two pieces."""
    closes_after_bytes: int | None = None
    """Drops the connection after so many bytes of a command's output."""
    stalls_after_bytes: int | None = None
    """Stops writing, for good, after so many bytes of a command's output."""
    resets_after_bytes: int | None = None
    """Drops the connection after so many bytes of a session: greeting, echoes and prompts too."""
    doubles_prompt: bool = False
    """Each prompt is written twice, on two lines; questions are not."""
    echoes_while_busy: bool = False
    """What is typed while output runs is echoed into it at once, and once more when it is read: as
    terminals of Unix do."""
    without_echo: bool = False
    """Nothing that is typed is shown, line ends aside."""


NO_FAULTS = Faults()
