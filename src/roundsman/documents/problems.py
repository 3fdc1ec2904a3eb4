"""What is wrong with a configuration: collected, placed in the file, raised all at once."""

from collections.abc import Iterable, Sequence
from difflib import get_close_matches
from typing import Final, NamedTuple

import msgspec

from roundsman.errors import RoundsmanError

Path = tuple[str | int, ...]
"""Where a value stands in a document: keys and list positions from the top."""

_PLAIN_KEY_FORBIDS: Final = frozenset(' .[]"')
_SHOWN: Final = 20  # names listed before "and N more": all keys of a job, some of 10,000 jobs


class Finding(NamedTuple):
    """A problem, not yet placed: `path` is relative to the entry that was looked at."""

    code: str
    path: Path
    text: str
    suggestion: str | None = None


class Problem(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that is wrong, and where."""

    code: str
    """Stable, such as `config.unknown_key`."""
    file: str
    """The file, as it was named to `load`."""
    line: int | None
    """Line in the file, from 1; none when it is about the file as a whole."""
    path: str
    """Path in the document, such as `devices.edge1.protocol.ssh.port`; may be empty."""
    text: str
    """What is wrong and what was expected. Never a secret."""
    suggestion: str | None = None
    """What to do, when that can be said."""

    def __str__(self) -> str:
        """All of it on one line."""
        place = self.file if self.line is None else f"{self.file}:{self.line}"
        subject = f"{place} {self.path}" if self.path else place
        tail = f"; {self.suggestion}" if self.suggestion else ""
        return f"{self.code}: {subject}: {self.text}{tail}"


class ConfigurationError(RoundsmanError):
    """A configuration that cannot be used; `problems` holds everything found, in file order."""

    code = "config.invalid"

    def __init__(self, problems: Iterable[Problem]) -> None:
        """Keep the problems."""
        self.problems = tuple(problems)
        count = len(self.problems)
        super().__init__(f"{count} problem{'s' if count != 1 else ''} in the configuration")

    def __str__(self) -> str:
        """One problem a line."""
        return "\n".join(map(str, self.problems))


def path_text(path: Path) -> str:
    """A path for people.

    >>> path_text(("devices", "edge1.dallas", "tags", 0))
    'devices."edge1.dallas".tags[0]'
    """
    text = ""
    for part in path:
        if isinstance(part, int):
            text += f"[{part}]"
            continue
        plain = part and part.isprintable() and _PLAIN_KEY_FORBIDS.isdisjoint(part)
        text += ("." if text else "") + (part if plain else f'"{part}"')
    return text


def one_of(names: Iterable[str]) -> str:
    """What was expected, as a list of names; shortened when it is long."""
    known = sorted(names)
    if not known:
        return "there are none"
    more = f" and {len(known) - _SHOWN} more" if len(known) > _SHOWN else ""
    return f"expected one of {', '.join(known[:_SHOWN])}{more}"


def and_more(names: Sequence[str]) -> str:
    """Who a finding is about when it is about many.

    >>> and_more(["edge1"]), and_more(["edge1", "edge2", "edge3"])
    ('edge1', 'edge1 and 2 more')
    """
    more = f" and {len(names) - 1} more" if len(names) > 1 else ""
    return f"{names[0]}{more}"


def did_you_mean(name: str, names: Iterable[str]) -> str | None:
    """The known name that is nearest, as a suggestion, when one is near."""
    near = get_close_matches(name, list(names), n=1)
    return f'did you mean "{near[0]}"?' if near else None
