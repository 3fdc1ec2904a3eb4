"""Branches and tags of a repository, where they belong in the one with the thinned history."""

from typing import Final

import msgspec

from roundsman.archive.command import Git

_FORMAT: Final = "%(refname)%00%(objecttype)%00%(objectname)%00%(*objecttype)%00%(*objectname)"
_CARRIED: Final = ("refs/heads/", "refs/tags/")
_SIGNED: Final = b"\n-----BEGIN "


class _Reference(msgspec.Struct):
    name: str
    tag: str | None
    """The object of an annotated tag."""
    new: bytes | None = None
    """The commit that it is to name."""


class References:
    """The branches and tags of a repository, but for the branch that is written to.

    What names a commit of the line is to name the one that has its place now: the same, or the one
    before it that stayed. What names anything else is left out.
    """

    def __init__(self, source: Git, branch: str) -> None:
        """Read them. Raises `ArchiveUnavailableError`."""
        self._source = source
        self._all: list[_Reference] = []
        self._of_commit: dict[bytes, list[_Reference]] = {}
        for line in source.run("for-each-ref", f"--format={_FORMAT}").decode().splitlines():
            name, kind, target, tagged_kind, tagged = line.split("\0")
            if name == branch or not name.startswith(_CARRIED):
                continue
            reference = _Reference(name, target if kind == "tag" else None)
            self._all.append(reference)
            if "commit" in (kind, tagged_kind):
                commit = bytes.fromhex(target if kind == "commit" else tagged)
                self._of_commit.setdefault(commit, []).append(reference)

    def note(self, old: bytes, new: bytes) -> None:
        """A commit of the old line has another one in its place now."""
        for reference in self._of_commit.get(old, ()):
            reference.new = new

    def write(self, git: Git) -> list[str]:
        """Give them to the new repository; the names of those that were left out.

        Raises `ArchiveUnavailableError`.
        """
        left = []
        for reference in self._all:
            target = None if reference.new is None else self._target(git, reference, reference.new)
            if target is None:
                left.append(reference.name)
            else:
                git.run("update-ref", reference.name, target)
        return left

    def _target(self, git: Git, reference: _Reference, commit: bytes) -> str | None:
        """What a reference is to name: a commit, or a tag object on it; none for nested tags."""
        if reference.tag is None:
            return commit.hex()
        raw = self._source.run("cat-file", "tag", reference.tag)
        first, kind, rest = raw.split(b"\n", 2)
        if kind != b"type commit":
            return None
        named = b"object " + commit.hex().encode()
        if named != first:  # a signature would not be right any more
            head, blank, message = rest.partition(b"\n\n")
            rest = head + blank + message.partition(_SIGNED)[0]
            rest = rest if rest.endswith(b"\n") else rest + b"\n"
        said = b"\n".join([named, kind, rest])
        return git.run("hash-object", "-t", "tag", "-w", "--stdin", stdin=said).decode().strip()
