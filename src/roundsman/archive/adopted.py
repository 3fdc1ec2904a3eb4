"""Paths that results had in a repository of another program, noted beside our own.

A template says whose result stands at a path: `{device}`, `{job}`, and any other word in braces for
what does not matter, such as `{group}/configs/{device}`. Where there is no `{job}`, the job is
named with it.
"""

import re
from pathlib import Path
from typing import Final, Self

import msgspec

from roundsman.archive.files import Files
from roundsman.errors import InvalidError
from roundsman.wire.names import is_valid_name
from roundsman.wire.paths import OVERVIEW, Part

FILE: Final = "adopted.json"

_PART: Final = re.compile(r"([^{}]*)(?:\{([a-z]+)\}([^{}]*))?")
_NO_DEVICES: Final = ("README", "README.md")


class AdoptionError(InvalidError):
    """What was asked for does not fit the repository that is to be adopted."""

    code = "archive.adoption"


class AdoptedPath(msgspec.Struct, frozen=True):
    """Where another program kept results."""

    path: str
    """The template."""
    job: str | None = None
    """Whose results they are, where the template does not say."""

    def check(self) -> Self:
        """Itself. Raises `AdoptionError` where it does not say whose result a path is."""
        words = [part.variable for part in _parts(self.path)]
        if "device" not in words:
            raise AdoptionError(f"{self.path!r}: expected {{device}} in it")
        if ("job" in words) == (self.job is not None):
            raise AdoptionError(
                f"{self.path!r}: expected {{job}} in it, or else the name of a job with it"
            )
        if self.job is not None and not is_valid_name(self.job):
            raise AdoptionError(f"{self.job!r} may not name a job")
        return self

    def pair(self, path: bytes) -> tuple[str, str] | None:
        """Device and job of a path; none for any other path.

        >>> AdoptedPath("{group}/configs/{device}", "config").pair(b"core/configs/edge1")
        ('edge1', 'config')
        """
        parts, texts = _parts(self.path), path.decode(errors="replace").split("/")
        if len(parts) != len(texts):
            return None
        values = {"job": self.job}
        for part, text in zip(parts, texts, strict=True):
            value = part.value(text)
            if value is None and part.variable is not None:
                return None
            if part.variable is None and text != part.before:
                return None
            values[part.variable or ""] = value
        device, job = values["device"], values["job"]
        if device is None or job is None or device in _NO_DEVICES or texts[-1] == OVERVIEW:
            return None
        return (device, job) if is_valid_name(device) and is_valid_name(job) else None


class Adopted(msgspec.Struct, frozen=True):
    """What an archive began with."""

    paths: tuple[AdoptedPath, ...] = ()
    joined: tuple[str, ...] = ()
    """The newest commits of the repositories but the first, which were joined to its history."""


def load_adopted(folder: Path) -> Adopted:
    """What is noted in a folder. Raises `OSError`; what is no note is as none."""
    try:
        noted = msgspec.json.decode((folder / FILE).read_bytes(), type=Adopted)
        for path in noted.paths:
            path.check()
    except (FileNotFoundError, msgspec.MsgspecError, AdoptionError):
        return Adopted()
    return noted


def note_adopted(folder: Path, files: Files, adopted: Adopted) -> None:
    """Note it in a folder, durably. Raises `OSError`."""
    files.make_folder(folder)
    files.replace(folder / FILE, msgspec.json.encode(adopted) + b"\n")


def _parts(template: str) -> list[Part]:
    parts = []
    for text in template.split("/"):
        found = _PART.fullmatch(text)
        if found is None or not text:
            raise AdoptionError(
                f"{template!r}: expected one word in braces at most between two slashes"
            )
        parts.append(Part(found[1], found[2], found[3] or ""))
    return parts
