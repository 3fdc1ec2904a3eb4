"""What a worker runs on demand: its own word, which no controller can change."""

import re
from collections.abc import Mapping
from pathlib import Path

import msgspec


class CommandPolicy(msgspec.Struct, frozen=True, kw_only=True):
    """One command that may be started, under its name."""

    executable: str
    """A name to be searched for, an absolute path, or a file below `scripts`."""
    scripts: Path | None = None
    """Folder of the scripts it may be given, and where it runs; none: it takes none."""
    arguments: tuple[re.Pattern[str], ...] = ()
    """Each argument matches one of these as a whole."""
    environment: frozenset[str] = frozenset()
    """Variables that whoever starts it may set."""
    roles: frozenset[str] = frozenset()
    """Who starts it has any of these; none: whoever the controller lets."""
    tags: frozenset[str] = frozenset()
    """Only on workers that serve any of these; none: on every worker."""

    @property
    def is_script(self) -> bool:
        """Whether what is executed is itself a file below `scripts`."""
        return "/" in self.executable and not self.executable.startswith("/")


class Policy(msgspec.Struct, frozen=True, kw_only=True):
    """All that may be started. By default nothing."""

    commands: Mapping[str, CommandPolicy] = {}
    """By the name under which it is asked for."""
    output_limit_bytes: int = 16 << 20
    """How much of each process' output is kept; beyond, it is read and dropped."""
