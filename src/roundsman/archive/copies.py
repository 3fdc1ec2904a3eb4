"""Where a result stands beside the place it is looked for, and where it stands no more.

The other templates say where; of a template with `{tag}` one path for each tag of the device. A
device that lost a tag leaves that tag's folder with its next result.
"""

from collections.abc import Sequence
from typing import Final

import msgspec

from roundsman.archive.folders import Folders
from roundsman.archive.interface import Entry, Withdrawal
from roundsman.archive.layouts import Layouts

_NONE: Final[tuple[bytes, ...]] = ()


class Places(msgspec.Struct, frozen=True):
    """Every place of one result."""

    path: bytes
    """Where it is looked for."""
    copies: Sequence[bytes] = _NONE
    """Where else it stands."""
    gone: Sequence[bytes] = _NONE
    """Where it must not stand any more."""

    @property
    def all(self) -> Sequence[bytes]:
        """Where it is to stand."""
        return (self.path, *self.copies)

    def folders(self) -> set[bytes]:
        """The folders of all these places."""
        return {path.rpartition(b"/")[0] for path in (*self.all, *self.gone)}


class Copies:
    """Knows for each device which tags it last had."""

    def __init__(self, layouts: Layouts) -> None:
        self._layouts = layouts
        self._tags: dict[tuple[str, str], tuple[str, ...]] = {}

    def places(self, entry: Entry, folders: Folders) -> Places:
        """Every place of a result; looks into the folders of tags where it must."""
        path = self._layouts.current.path(entry.device, entry.job)
        copies = self._layouts.current.copies(entry.device, entry.job, entry.tags)
        if (
            not self._layouts.current.tagged
            or self._tags.get((entry.device, entry.job)) == entry.tags
        ):
            return Places(path, copies)
        return Places(path, copies, self._stale(entry, folders))

    def of(self, each: Withdrawal) -> Places:
        """Every place of a result that is withdrawn."""
        current = self._layouts.current
        copies = current.copies(each.device, each.job, each.tags)
        return Places(current.path(each.device, each.job), copies)

    def note(self, entry: Entry) -> None:
        """All places of this result are as they should be."""
        if self._layouts.current.tagged:
            self._tags[entry.device, entry.job] = entry.tags

    def forget(self) -> None:
        """Look again: the branch was moved by somebody else."""
        self._tags.clear()

    def _stale(self, entry: Entry, folders: Folders) -> list[bytes]:
        stale = []
        for template in self._layouts.current.tagged:
            position = next(
                index for index, part in enumerate(template.parts) if part.variable == "tag"
            )
            before = template.path(entry.device, entry.job).split("/")[:position]
            folder = "/".join(before).encode()
            folders.load([folder])
            for name, _ in [*folders.get(folder).entries()]:
                tag = template.parts[position].value(name.decode(errors="replace"))
                if tag and tag not in entry.tags:
                    path = template.path(entry.device, entry.job, tag).encode()
                    parent, _, last = path.rpartition(b"/")
                    folders.load([parent])
                    if folders.get(parent).get(last) is not None:
                        stale.append(path)
        return stale
