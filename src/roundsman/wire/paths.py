"""Where results stand in the archive: templates of paths.

A template is parts joined by `/`; a part is text, or one variable with text around it:
`by_device/{device}/{job}.txt`. The variables: `{device}`, `{job}`, `{tag}` (one path for each tag
of the device) and `{shard}` (two hexadecimal digits that follow from the device's name, so that no
folder grows with the fleet).

No part of a path reads README.md, whatever the capitals: that is the name of overviews.
"""

import hashlib
import re
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Final, Self
from urllib.parse import unquote

import msgspec

DEFAULT_PATH: Final = "by_device/{device}/{job}"
VARIABLES: Final = ("device", "job", "tag", "shard")
OVERVIEW: Final = "README.md"
"""The name of the overview in each folder, if there is one; never that of a result."""

_PART: Final = re.compile(r"([^{}]*)(?:\{([a-z]+)\}([^{}]*))?")
_TEXT: Final = re.compile(r"[A-Za-z0-9 ._:@+-]*")
_SAFE: Final = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789 ._:@+-")
_PLAIN: Final = re.compile(r"[A-Za-z0-9_:@+-]|[A-Za-z0-9_:@+ -][A-Za-z0-9 ._:@+-]*[A-Za-z0-9_:@+-]")
_LONGEST: Final = 200


class PathTemplateError(ValueError):
    """A text that is no template; the message says why."""


class Part(msgspec.Struct, frozen=True):
    """One part of a template: text, variable or none, text."""

    before: str
    variable: str | None
    after: str

    def value(self, text: str) -> str | None:
        """The variable's value, unescaped, with which it reads like this; none where it cannot."""
        if not (text.startswith(self.before) and text.endswith(self.after)):
            return None
        inner = text[len(self.before) : len(text) - len(self.after)]
        return (unquote(inner) if "%" in inner else inner) or None


class PathTemplate(msgspec.Struct, frozen=True):
    """A path with variables."""

    text: str
    parts: tuple[Part, ...]
    variables: frozenset[str]

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read a template. Raises `PathTemplateError`."""
        parts = tuple(_parse_part(part) for part in text.split("/"))
        used = [part.variable for part in parts if part.variable is not None]
        for name in ("device", "job"):
            if name not in used:
                raise PathTemplateError(
                    f"expected {{device}} and {{job}} in it, since a path is one device's and one "
                    f"job's; {{{name}}} is missing"
                )
        return cls(text, parts, frozenset(used))

    def uses(self, variable: str) -> bool:
        """Whether it has this variable."""
        return variable in self.variables

    def path(self, device: str, job: str, tag: str = "") -> str:
        """The path of a result."""
        values = {"device": escape(device), "job": escape(job), "tag": escape(tag)}
        if self.uses("shard"):
            values["shard"] = shard(device)
        path = self.text.format_map(values)
        if OVERVIEW.lower() in path.lower():
            return "/".join(_kept_free(part, values) for part in self.parts)
        return path

    def match(self, path: str) -> dict[str, str] | None:
        """The values with which it reads like this path; none where it cannot.

        >>> PathTemplate.parse("by_job/{job}/{device}.txt").match("by_job/show/edge1.txt")
        {'job': 'show', 'device': 'edge1'}
        """
        texts = path.split("/")
        if len(texts) != len(self.parts):
            return None
        values: dict[str, str] = {}
        for part, text in zip(self.parts, texts, strict=True):
            if part.variable is None:
                if text != part.before:
                    return None
                continue
            value = part.value(text)
            if value is None or values.setdefault(part.variable, value) != value:
                return None
        return values


def _kept_free(part: Part, values: Mapping[str, str]) -> str:
    """A part with its value, of which a letter is escaped where it would read README.md."""
    if part.variable is None:
        return part.before
    value = values[part.variable]
    text = part.before + value + part.after
    if text.lower() != OVERVIEW.lower():
        return text
    return f"{part.before}%{ord(value[0]):02X}{value[1:]}{part.after}"


def escape(name: str) -> str:
    """A name as part of a path; reversible.

    Letters, digits, blank and `. _ - : @ +` stay; every other byte, and a dot or blank at an end
    where a file system may object, becomes `%` and two hexadecimal digits.

    >>> escape("site/dallas"), escape("..")
    ('site%2Fdallas', '%2E%2E')
    """
    if _PLAIN.fullmatch(name):
        return name
    raw = name.encode()
    ends = (raw[:1] == b".", raw[-1:] in (b".", b" "))
    out = []
    for position, byte in enumerate(raw):
        at_end = (position == 0 and ends[0]) or (position == len(raw) - 1 and ends[1])
        out.append(chr(byte) if byte in _SAFE and not at_end else f"%{byte:02X}")
    return "".join(out)


@lru_cache(1 << 12)
def shard(device: str) -> str:
    """Two hexadecimal digits: the first of the SHA-256 of the device's name.

    >>> shard("edge1")
    'b4'
    """
    return hashlib.sha256(device.encode()).hexdigest()[:2]


def _parse_part(text: str) -> Part:
    found = _PART.fullmatch(text)
    if found is None:
        raise PathTemplateError(
            f"expected one variable at most between two slashes, got {text[:50]!r}"
        )
    before, variable, after = found[1], found[2], found[3] or ""
    if variable is not None and variable not in VARIABLES:
        raise PathTemplateError(
            f"expected the variables {', '.join(VARIABLES)}, got {variable[:50]!r}"
        )
    for fixed in (before, after):
        if not _TEXT.fullmatch(fixed) or len(fixed) > _LONGEST:
            raise PathTemplateError(
                f"expected letters, digits, blank and . _ - : @ + in it, got {text[:50]!r}"
            )
    if not text or text.startswith((".", " ")) or text.endswith((".", " ")):
        raise PathTemplateError(
            f"expected parts without a dot or a blank at either end, and none empty, got {text!r}"
        )
    if variable is None and text.lower() == OVERVIEW.lower():
        raise PathTemplateError(f"expected another name than that of overviews, got {text!r}")
    return Part(before, variable, after)


def find_clash(templates: Sequence[PathTemplate], values: dict[str, set[str]]) -> str | None:
    """Why two of these could mean the same path, or one a folder of the other; none if never.

    `values` are the names in use, by variable, as they are.
    """
    folded = {name: {escape(text).casefold() for text in texts} for name, texts in values.items()}
    folded["shard"] = {f"{number:02x}" for number in range(256)}
    for position, second in enumerate(templates):
        for first in templates[:position]:
            pairs = zip(first.parts, second.parts, strict=False)
            if all(_may_meet(one, other, folded) for one, other in pairs):
                return (
                    f'"{first.text}" and "{second.text}" can lead to the same path, or one into '
                    "the other"
                )
    return None


def _may_meet(one: Part, other: Part, values: dict[str, set[str]]) -> bool:
    """Whether two parts can read alike; capitals aside, as on many file systems."""
    first, second = _readings(one, values), _readings(other, values)
    return not first.isdisjoint(second)


def _readings(part: Part, values: dict[str, set[str]]) -> set[str]:
    before, after = part.before.casefold(), part.after.casefold()
    if part.variable is None:
        return {before}
    if not before and not after:
        return values[part.variable]
    return {before + value + after for value in values[part.variable]}
