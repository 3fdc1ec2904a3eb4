"""The history of what was salvaged: as it was where it is whole, mended where it is not.

A commit that lacks something keeps its place, its message and its times; what it lacks is as it
was in the commit before, or not there. Commits after it differ in their ids, since an id covers all
that came before.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Final

import msgspec

from roundsman.archive.command import Git, ObjectReader
from roundsman.archive.files import Files
from roundsman.archive.objects import COMMIT, TREE, object_id, whole
from roundsman.archive.packs import Pack, write_pack
from roundsman.archive.trees import TREE_MODE, Tree, encode_tree

_OBJECTS_AT_ONCE: Final = 20_000
_LINK_MODE: Final = b"160000"
_NAMED: Final = re.compile(rb"^(Roundsman-(?:Withdrawn|Kept): )([0-9a-f]{40})$", re.MULTILINE)


class _Commit(msgspec.Struct, frozen=True):
    id: bytes
    raw: bytes
    tree: bytes
    parent: bytes | None
    at: int


def restore_history(git: Git, files: Files, named: Sequence[tuple[str, bytes]]) -> Iterator[str]:
    """Set the branches and tags of a salvaged repository; yield what is lost.

    `named` says what they named, the branch that is written to first. Raises
    `ArchiveUnavailableError`, `OSError`.
    """
    branch = git.run("symbolic-ref", "HEAD").decode().strip()
    there = git.tip_of(branch)
    candidates = [tip for name, tip in named if name == branch]
    tip = next((tip for tip in candidates if _is_whole(git, tip)), None)
    if tip is None or tip != candidates[0]:
        replay = _Replay(git, files)
        try:
            tip = replay.run(candidates)
        finally:
            replay.close()
        yield from replay.lost
    if tip is not None and (there is None or not git.is_ancestor(tip, there)):
        git.run("update-ref", branch, tip.hex())
    for name, other in named:
        if name != branch:
            if _is_whole(git, other):
                git.run("update-ref", name, other.hex())
            else:
                yield f"{name} named {other.hex()}, which is not whole any more"


def _is_whole(git: Git, tip: bytes) -> bool:
    """Whether everything that a commit needs is there."""
    return git.succeeds("rev-list", "--objects", "--quiet", tip.hex())


class _Replay:
    """Mends one line of commits."""

    def __init__(self, git: Git, files: Files) -> None:
        self._git = git
        self._files = files
        self._reader = ObjectReader(git)
        self._pack = Pack()
        self._blobs: set[bytes] = set()
        self._commits: dict[bytes, _Commit] = {}
        self._good: set[bytes] = set()
        self._made: dict[bytes, bytes] = {}
        self.lost: list[str] = []

    def close(self) -> None:
        self._reader.close()

    def run(self, candidates: Sequence[bytes]) -> bytes | None:
        """Mend the line that ends in the first of these that is there, or in the newest commit."""
        self._look()
        line = self._line(next((tip for tip in candidates if tip in self._commits), None))
        if candidates and candidates[0] not in self._commits:
            self.lost.append(
                f"commit {candidates[0].hex()}, the newest, and maybe others before it"
            )
        tip, root = None, None
        now: dict[bytes, bytes] = {}
        for commit in line:
            found = self._mend(commit.tree, root, b"", commit)
            root = found if found is not None else self._add(TREE, b"")
            if root == commit.tree and tip == commit.parent and commit.raw.count(b"\nparent ") <= 1:
                tip = commit.id
            else:
                parents = [] if tip is None else [tip]
                tip = self._add(COMMIT, rewritten(commit.raw, root, parents, now))
                now[commit.id.hex().encode()] = tip.hex().encode()
        self._flush()
        return tip

    def _look(self) -> None:
        """See which objects there are."""
        listed = self._git.lines(
            "cat-file", "--batch-all-objects", "--batch-check=%(objectname) %(objecttype)"
        )
        commits = []
        for line in listed:
            name, _, kind = line.partition(b" ")
            if kind == b"commit":
                commits.append(bytes.fromhex(name.decode()))
            elif kind == b"blob":
                self._blobs.add(bytes.fromhex(name.decode()))
        for found, raw in zip(commits, self._reader.find(COMMIT, commits), strict=True):
            if raw is not None:
                self._commits[found] = _parsed(found, raw)

    def _line(self, tip: bytes | None) -> list[_Commit]:
        """The commits up to `tip`, or the newest, oldest first; across gaps by their time."""
        parents = {commit.parent for commit in self._commits.values()}
        ends = sorted(
            (commit for commit in self._commits.values() if commit.id not in parents),
            key=lambda commit: commit.at,
        )
        line: list[_Commit] = []
        seen: set[bytes] = set()
        current = self._commits[tip] if tip is not None else (ends.pop() if ends else None)
        while current is not None:
            line.append(current)
            seen.add(current.id)
            parent = current.parent
            if parent is None:
                break
            before = self._commits.get(parent)
            if before is None:
                self.lost.append(f"commit {parent.hex()}, the one before {current.id.hex()}")
                older = [end for end in ends if end.id not in seen and end.at <= current.at]
                before = older[-1] if older else None
            current = before
        return line[::-1]

    def _mend(
        self, tree: bytes, before: bytes | None, path: bytes, commit: _Commit
    ) -> bytes | None:
        """A tree without what is lost, for which stands what was there `before`."""
        if tree in self._good:
            return tree
        raw = self._tree(tree)
        if raw is None:
            self._lose(path or b"(everything)", commit)
            return before
        old = dict(Tree(self._tree(before) or b"").entries()) if before is not None else {}
        entries = []
        for name, entry in Tree(raw).entries():
            below = path + b"/" + name if path else name
            was = old.get(name)
            found: bytes | None = entry.id
            if entry.mode == TREE_MODE:
                same_kind = was is not None and was.mode == TREE_MODE
                found = self._mend(entry.id, was.id if was and same_kind else None, below, commit)
            elif entry.mode != _LINK_MODE and entry.id not in self._blobs:
                self._lose(below, commit)
                found = was.id if was is not None and was.mode == entry.mode else None
            if found is not None:
                entries.append((name, entry.mode, found))
        mended = encode_tree(entries)
        if mended != raw:
            tree = self._add(TREE, mended) if entries else b""
        if tree:
            self._good.add(tree)
        return tree or None

    def _tree(self, tree: bytes) -> bytes | None:
        made = self._made.get(tree)
        return made if made is not None else self._reader.find(TREE, [tree])[0]

    def _lose(self, path: bytes, commit: _Commit) -> None:
        line = commit.raw.partition(b"\n\n")[2].partition(b"\n")[0].decode(errors="replace")
        said = f"{path.decode(errors='replace')} as of {commit.id.hex()} ({line})"
        if said not in self.lost:
            self.lost.append(said)

    def _add(self, kind: int, content: bytes) -> bytes:
        made = object_id(kind, content)
        self._pack.add(made, whole(kind, content))
        if kind == TREE:
            self._made[made] = content
        if len(self._pack) >= _OBJECTS_AT_ONCE:
            self._flush()
        return made

    def _flush(self) -> None:
        if len(self._pack):
            write_pack(self._files, self._git.folder / "objects" / "pack", self._pack)
            self._pack = Pack()


def _parsed(found: bytes, raw: bytes) -> _Commit:
    lines = raw.partition(b"\n\n")[0].split(b"\n")
    said = dict(line.split(b" ", 1) for line in reversed(lines) if b" " in line)
    parent = said.get(b"parent")
    return _Commit(
        found,
        raw,
        bytes.fromhex(said[b"tree"].decode()),
        None if parent is None else bytes.fromhex(parent.decode()),
        int(said[b"committer"].split()[-2]),
    )


def rewritten(
    raw: bytes, tree: bytes, parents: Sequence[bytes], now: Mapping[bytes, bytes]
) -> bytes:
    """The commit with another tree and parents; a signature would not be right any more.

    Where it withdraws another, it names the commit that this is `now`, in hexadecimal.
    """
    head, _, message = raw.partition(b"\n\n")
    lines = head.split(b"\n")
    kept = [line for line in lines if line.startswith((b"author ", b"committer ", b"encoding "))]
    first = [b"tree " + tree.hex().encode()]
    first += [b"parent " + parent.hex().encode() for parent in parents]
    told = _NAMED.sub(lambda said: said[1] + now.get(said[2], said[2]), message)
    return b"\n".join([*first, *kept]) + b"\n\n" + told
