"""Moving all results to where the paths say, in one commit.

Files keep their content, so `git log --follow` goes on through it. What is not a result stays where
it is. Paths by tag are not known here: they come with the next result of each device.
"""

from collections.abc import Iterable, Mapping
from typing import TypeAlias

from roundsman.archive.command import Git
from roundsman.archive.commits import moving_commit
from roundsman.archive.layouts import Layouts
from roundsman.archive.objects import COMMIT, TREE, object_id, whole
from roundsman.archive.packs import Pack
from roundsman.archive.trees import TREE_MODE, encode_tree

Leaf: TypeAlias = tuple[bytes, bytes]
"""Mode and id."""
_Folder: TypeAlias = "dict[bytes, _Folder | Leaf]"


def moved(git: Git, tip: bytes, layouts: Layouts, pack: Pack, *, now: float) -> bytes:
    """Add the commit that moves what stands elsewhere; the new tip, or `tip` if nothing does.

    Raises `ArchiveUnavailableError` when git cannot read the branch.
    """
    old = dict(files_of(git, tip))
    new = _moved(old, layouts)
    if new == old:
        return tip
    root = write_tree(pack, new.items())
    content = moving_commit(root, tip, layouts.current.texts, now)
    moved = object_id(COMMIT, content)
    pack.add(moved, whole(COMMIT, content))
    return moved


def write_tree(pack: Pack, files: Iterable[tuple[bytes, Leaf]]) -> bytes:
    """Add the trees of these files, by path; the root's id."""
    root: _Folder = {}
    for path, leaf in files:
        *folders, name = path.split(b"/")
        folder = root
        for part in folders:
            # A file that stands where a folder is needed makes way.
            below = folder.setdefault(part, {})
            if not isinstance(below, dict):
                below = folder[part] = {}
            folder = below
        folder[name] = leaf
    return _write(pack, root)


def _write(pack: Pack, folder: _Folder) -> bytes:
    raw = encode_tree(
        (name, *(below if isinstance(below, tuple) else (TREE_MODE, _write(pack, below))))
        for name, below in folder.items()
    )
    tree_id = object_id(TREE, raw)
    pack.add(tree_id, whole(TREE, raw))
    return tree_id


def _moved(old: Mapping[bytes, Leaf], layouts: Layouts) -> dict[bytes, Leaf]:
    """The files by path, with results where they belong."""
    results: dict[bytes, Leaf] = {}
    others: dict[bytes, Leaf] = {}
    for path, (mode, blob) in old.items():
        pair = layouts.pair(path) if mode.startswith(b"100") else None
        if pair is not None:
            for place in (layouts.current.path(*pair), *layouts.current.copies(*pair, ())):
                if path == layouts.current.path(*pair) or place not in results:
                    results[place] = (mode, blob)
        elif layouts.owner(path) is None or layouts.current.owner(path) is not None:
            others[path] = (mode, blob)
    return {**others, **results}


def files_of(git: Git, commit: bytes) -> Iterable[tuple[bytes, Leaf]]:
    """Every file of a commit by its path. Raises `ArchiveUnavailableError`."""
    for record in git.records("ls-tree", "-r", "-z", "--full-tree", commit.hex()):
        said, _, path = record.partition(b"\t")
        mode, _, object_hex = said.split(b" ")
        yield path, (mode, bytes.fromhex(object_hex.decode()))
