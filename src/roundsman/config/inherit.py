"""Generics: what entries have in common, merged beneath what they say themselves.

An entry names a generic, or else builds on the one called `default` when there is one. A generic
builds on another only when it names it. Of what two layers say, the nearer wins: mappings are
merged key by key, all the way down; anything else, lists included, is replaced as a whole; an
empty value (null) takes the key away.

Two things follow from what the keys mean. Of keys that exclude each other (the kinds of schedule;
standard job, commands and files) the nearer layer's choice replaces the farther one's. And a
device's `jobs` as a list replaces what was inherited, as every list does, while a mapping adds to
it.
"""

from collections.abc import Callable, Mapping
from typing import Any, Final, NamedTuple

from roundsman.documents.problems import Finding, Path, did_you_mean, one_of

Plain = dict[str, Any]
Merge = Callable[[Plain, Plain], Plain]

# Each group's alternatives, led by the key that chooses it.
_KINDS: Final = (("cron", "timezone"), ("duration",), ("iso_8601",), ("fixed",))
_CONTENTS: Final = (("standard",), ("command",), ("commands",), ("file",), ("files",))


class Layer(NamedTuple):
    """One mapping as it stands in the file, and where."""

    path: Path
    says: Plain


Layers = tuple[Layer, ...]
"""Nearest first."""


class Expanded(NamedTuple):
    """An entry with its generics merged in, and the layers it was made of."""

    says: Plain
    layers: Layers


def merge(below: Mapping[str, Any], above: Mapping[str, Any], *, keep_null: bool = False) -> Plain:
    """What two layers say together.

    With `keep_null`, an empty value stays as the word to take the key away from a layer below.
    """
    merged = dict(below)
    for key, value in above.items():
        if isinstance(value, dict):
            inherited = merged.get(key)
            merged[key] = merge(
                inherited if isinstance(inherited, dict) else {}, value, keep_null=keep_null
            )
        elif value is not None or keep_null:
            merged[key] = value
        else:
            merged.pop(key, None)
    return merged


def merge_job(below: Plain, above: Plain, *, keep_null: bool = False) -> Plain:
    """Two layers of a job."""
    beneath = _without_other_choices(below, above, _CONTENTS)
    schedule, schedule_above = beneath.get("schedule"), above.get("schedule")
    if schedule and schedule_above:
        beneath["schedule"] = _without_other_choices(schedule, schedule_above, _KINDS)
    if files := above.get("file"):  # a file without options is a file, not the end of one
        above = above | {"file": {name: options or {} for name, options in files.items()}}
    return merge(beneath, above, keep_null=keep_null)


def merge_device(below: Plain, above: Plain) -> Plain:
    """Two layers of a device."""
    jobs = above.get("jobs")
    merged = merge(below, {key: value for key, value in above.items() if key != "jobs"})
    if isinstance(jobs, list):
        merged["jobs"] = {name: {} for name in jobs}
    elif jobs is not None:
        inherited = merged.get("jobs", {})
        merged["jobs"] = inherited | {
            name: merge_job(inherited.get(name, {}), says or {}, keep_null=True)
            for name, says in jobs.items()
        }
    elif "jobs" in above:
        merged.pop("jobs", None)
    return merged


def _without_other_choices(below: Plain, above: Plain, group: tuple[tuple[str, ...], ...]) -> Plain:
    """The lower layer without the alternatives that the upper one turned down."""
    chosen = [alternative for alternative in group if above.get(alternative[0]) is not None]
    if not chosen:
        return dict(below)
    dropped = {key for alternative in group if alternative not in chosen for key in alternative}
    return {key: value for key, value in below.items() if key not in dropped}


def origin(layers: Layers, path: Path) -> Path:
    """Where in the file the value at `path` of an expanded entry was given.

    The nearest layer itself where none gives it: something is missing there.
    """
    for layer in layers:
        if _has(layer.says, path):
            return (*layer.path, *path)
    return layers[0].path


def _has(value: Any, path: Path) -> bool:
    for part in path:
        try:
            value = value[part]
        except (LookupError, TypeError):
            return False
    return True


class Generics:
    """The generics of devices, or those of jobs."""

    def __init__(self, section: str, entries: Mapping[str, Plain], merge: Merge) -> None:
        """Take the generics of a section of the file, and how two layers are merged."""
        self._section = section
        self._entries = entries
        self._merge = merge
        self._expanded: dict[str, Expanded] = {}
        self._open: list[str] = []  # generics being expanded, each named by the one before
        self.findings: list[Finding] = []
        """What was wrong with their names, with paths from the top of the document."""
        for name in entries:
            self._generic(name)

    def expand(self, path: Path, says: Plain) -> Expanded:
        """An entry with the generic that it names, or else the default one."""
        default = "default" if "default" in self._entries else None
        return self._expand(path, says, says.get("generic", default))

    def _expand(self, path: Path, says: Plain, name: str | None) -> Expanded:
        below = self._named(path, name) if name is not None else Expanded({}, ())
        merged = self._merge(below.says, says)
        merged.pop("generic", None)
        return Expanded(merged, (Layer(path, says), *below.layers))

    def _named(self, path: Path, name: str) -> Expanded:
        if name not in self._entries:
            self.findings.append(
                Finding(
                    "config.unknown_generic",
                    (*path, "generic"),
                    f'no "{name}" in {self._section}, {one_of(self._entries)}',
                    did_you_mean(name, self._entries),
                )
            )
        elif name in self._open:
            way = " > ".join((*self._open[self._open.index(name) :], name))
            self.findings.append(
                Finding("config.generic_cycle", (*path, "generic"), f"it builds on itself: {way}")
            )
        else:
            return self._generic(name)
        return Expanded({}, ())

    def _generic(self, name: str) -> Expanded:
        if name not in self._expanded:
            self._open.append(name)
            says = self._entries[name]
            self._expanded[name] = self._expand((self._section, name), says, says.get("generic"))
            self._open.pop()
        return self._expanded[name]
