"""What a worker runs on demand: its own word, which no controller can change."""

from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path

import msgspec

from roundsman.wire.process import ProcessLimits
from roundsman.worker.signers import Signer


class OnStop(StrEnum):
    """What becomes of processes when their worker is told to stop."""

    LEAVE = "leave"
    """They go on, and the worker finds them again when it is back."""
    STOP = "stop"
    """They are stopped."""


class CommandPolicy(msgspec.Struct, frozen=True, kw_only=True):
    """One command that may be started, under its name."""

    executable: str
    """A name to be searched for, an absolute path, or a file below `scripts`."""
    scripts: Path | None = None
    """Folder of the scripts it may be given, and where it runs; none: it takes none."""
    arguments: tuple[str, ...] = ()
    """Each argument matches one of these regular expressions as a whole."""
    environment: frozenset[str] = frozenset()
    """Variables that whoever starts it may set."""
    roles: frozenset[str] = frozenset()
    """Who starts it has any of these; none: whoever the controller lets."""
    tags: frozenset[str] = frozenset()
    """Only on workers that serve any of these; none: on every worker."""

    user: str | None = None
    """Whom it runs as; none: as the worker."""
    limits: ProcessLimits = ProcessLimits()
    """Who starts it may ask for lower ones."""
    grace_seconds: float = 3.0
    """From SIGTERM to SIGKILL when it is stopped."""

    @property
    def is_script(self) -> bool:
        """Whether what is executed is itself a file below `scripts`."""
        return "/" in self.executable and not self.executable.startswith("/")


class Policy(msgspec.Struct, frozen=True, kw_only=True):
    """All that may be started. By default nothing."""

    commands: Mapping[str, CommandPolicy] = {}
    """By the name under which it is asked for."""
    signers: tuple[Signer, ...] = ()
    """Scripts run only when one of these has signed them; none: unsigned ones too."""
    on_stop: OnStop = OnStop.LEAVE
    """What becomes of processes when the worker is told to stop."""
