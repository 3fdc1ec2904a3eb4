"""Moving all results to where the paths say, in one commit.

Files keep their content, so `git log --follow` goes on through it. What is not a result stays where
it is, but for what attributes say of a result: that goes with it. Paths by tag are not known here:
they come with the next result of each device.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import TypeAlias

from roundsman.archive import attributes
from roundsman.archive.command import Git, ObjectReader
from roundsman.archive.commits import moving_commit
from roundsman.archive.layouts import Layouts
from roundsman.archive.objects import BLOB, COMMIT, TREE, object_id, whole
from roundsman.archive.packs import Pack
from roundsman.archive.trees import FILE_MODE, TREE_MODE, encode_tree

Leaf: TypeAlias = tuple[bytes, bytes]
"""Mode and id."""
_Folder: TypeAlias = "dict[bytes, _Folder | Leaf]"


def moved(
    git: Git, reader: ObjectReader, tip: bytes, layouts: Layouts, pack: Pack, *, now: float
) -> bytes:
    """Add the commit that moves what stands elsewhere; the new tip, or `tip` if nothing does.

    Raises `ArchiveUnavailableError` when git cannot read the branch.
    """
    old = dict(files_of(git, tip))
    new, origins = _moved(old, layouts)
    if new == old:
        return tip
    _move_marks(reader, pack, old, new, origins)
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


def _moved(
    old: Mapping[bytes, Leaf], layouts: Layouts
) -> tuple[dict[bytes, Leaf], Mapping[bytes, bytes]]:
    """The files by path, with results where they belong; of each result also where it stood."""
    results: dict[bytes, Leaf] = {}
    origins: dict[bytes, bytes] = {}
    others: dict[bytes, Leaf] = {}
    for path, (mode, blob) in old.items():
        pair = layouts.pair(path) if mode.startswith(b"100") else None
        if pair is not None:
            for place in (layouts.current.path(*pair), *layouts.current.copies(*pair, ())):
                if path == layouts.current.path(*pair) or place not in results:
                    results[place] = (mode, blob)
                    origins[place] = path
        elif layouts.owner(path) is None or layouts.current.owner(path) is not None:
            others[path] = (mode, blob)
    return {**others, **results}, origins


def _move_marks(
    reader: ObjectReader,
    pack: Pack,
    old: Mapping[bytes, Leaf],
    new: dict[bytes, Leaf],
    origins: Mapping[bytes, bytes],
) -> None:
    """Have the attributes of folders say which results are pointers where these stand now."""
    files = {
        folder: blob
        for path, (mode, blob) in old.items()
        for folder, name in (_split(path),)
        if name == attributes.NAME and mode == FILE_MODE
    }
    blobs = [*set(files.values())]
    contents = dict(zip(blobs, reader.read(BLOB, blobs), strict=True))
    marks = {folder: frozenset(attributes.lines(contents[blob])) for folder, blob in files.items()}

    def is_marked(path: bytes) -> bool:
        folder, name = _split(path)
        return folder in marks and attributes.line(name) in marks[folder]

    wanted: defaultdict[bytes, dict[bytes, bool]] = defaultdict(dict)
    for path in filter(is_marked, old.keys() - new.keys()):
        folder, name = _split(path)
        wanted[folder][name] = False
    for place, origin in origins.items():
        if is_marked(place) != is_marked(origin):
            folder, name = _split(place)
            wanted[folder][name] = is_marked(origin)
    for folder, pointers in wanted.items():
        path = folder + b"/" + attributes.NAME if folder else attributes.NAME
        content = attributes.all_marked(contents.get(files.get(folder, b""), b""), pointers)
        if content:
            blob = object_id(BLOB, content)
            pack.add(blob, whole(BLOB, content))
            new[path] = (FILE_MODE, blob)
        else:
            new.pop(path, None)


def _split(path: bytes) -> tuple[bytes, bytes]:
    """Folder and name."""
    folder, _, name = path.rpartition(b"/")
    return folder, name


def files_of(git: Git, commit: bytes) -> Iterable[tuple[bytes, Leaf]]:
    """Every file of a commit by its path. Raises `ArchiveUnavailableError`."""
    for record in git.records("ls-tree", "-r", "-z", "--full-tree", commit.hex()):
        said, _, path = record.partition(b"\t")
        mode, _, object_hex = said.split(b" ")
        yield path, (mode, bytes.fromhex(object_hex.decode()))
