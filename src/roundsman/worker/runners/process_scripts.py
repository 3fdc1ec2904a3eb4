"""Copies of scripts folders, out of which scripts run under their own names.

An interpreter opens its script by name, some time after it was started, and further files of the
folder later still. Whoever may write the folder could swap one for another meanwhile. So what was
checked is what runs: a copy that nobody else is led to, and that is never written again. A folder
that has changed is copied anew for the next start; who runs keeps the copy in which he began.
"""

import contextlib
import os
import secrets
import shutil
import stat
from collections.abc import Collection
from pathlib import Path
from typing import Final, NamedTuple

from roundsman.clock import Clock
from roundsman.worker.runners import process_copying
from roundsman.worker.runners.process_copying import ScriptsError
from roundsman.worker.runners.process_tree import member_of

MOST_FILES: Final = 10_000

_SETTLED_SECONDS: Final = 0.1
"""Times of change are as coarse as the kernel's clock ticks: of a file that changed just before it
was looked at, a second change may look like the first."""


class _Look(NamedTuple):
    """What a folder is like: equal when nothing was changed in between."""

    entries: list[tuple[object, ...]]
    changed_at: float


class ScriptsCopy:
    """One copy. It is there for as long as somebody runs in it, and while it is the newest."""

    def __init__(self, folder: Path, look: _Look, *, settled: bool) -> None:
        """Made by `ScriptsCopies`."""
        self.folder = folder
        """Where scripts are found, and run."""
        self._look = look
        self._settled = settled
        self._is_newest = True
        self._holders = 0

    def is_like(self, look: _Look) -> bool:
        """Whether the folder has not changed since."""
        return self._settled and self._look == look and self.folder.is_dir()

    def hold(self) -> None:
        """Somebody runs in it from now on."""
        self._holders += 1

    def let_go(self) -> None:
        """Somebody does no more."""
        self._holders -= 1
        self._remove_if_unused()

    def supersede(self) -> None:
        """There is a newer one."""
        self._is_newest = False
        self._remove_if_unused()

    def _remove_if_unused(self) -> None:
        if not self._holders and not self._is_newest:
            remove(self.folder)


class ScriptsCopies:
    """The copies of one keeper."""

    def __init__(self, parent: Path, clock: Clock) -> None:
        """Have them in a folder of `parent` that is made for the first of them."""
        own = member_of(os.getpid())
        self._parent = parent
        self._folder = parent / f"scripts-{os.getpid()}-{own.start_ticks if own else 0}"
        # A repository's history is no script, nor are copies of a folder that holds them itself.
        self._left_out = frozenset({".git", self._folder.name})
        self._clock = clock
        self._newest: dict[Path, ScriptsCopy] = {}

    def copy_of(self, source: Path) -> ScriptsCopy:
        """A copy of the folder as it is now.

        Raises `ScriptsError`, and `OSError` when it cannot be read or the copy not be written.
        """
        folder = os.open(source, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            now = self._clock.now()
            look = _look_at(source, folder, self._left_out)
            known = self._newest.get(source)
            if known is not None and known.is_like(look):
                return known
            settled = now - look.changed_at > _SETTLED_SECONDS
            copy = ScriptsCopy(self._make(source, folder), look, settled=settled)
        finally:
            os.close(folder)
        self._newest[source] = copy
        if known is not None:
            known.supersede()
        return copy

    def let_pass(self) -> None:
        """Let other users on their way to a copy whose name they know; they can list nothing."""
        for folder in (self._parent, self._folder):
            mode = stat.S_IMODE(folder.stat().st_mode)
            if not mode & stat.S_IXOTH:
                folder.chmod(mode | stat.S_IXOTH)

    def sweep(self) -> None:
        """Remove what keepers have left that were killed."""
        for folder in self._parent.glob("scripts-*-*"):
            _, pid, ticks = folder.name.split("-", 2)
            keeper = member_of(int(pid)) if pid.isdigit() else None
            if keeper is None or str(keeper.start_ticks) != ticks:
                remove(folder)

    def close(self) -> None:
        """Remove all; nobody runs any more."""
        remove(self._folder)

    def _make(self, source: Path, folder: int) -> Path:
        self._folder.mkdir(mode=0o700, exist_ok=True)
        target = self._folder / secrets.token_hex(8)
        try:
            process_copying.copy(source, folder, target, self._left_out)
        except BaseException:
            remove(target)
            raise
        return target


def remove(folder: Path) -> None:
    """Remove a copy, or a folder of copies: they are read-only even for their owner."""
    for path, _, _ in os.walk(folder):  # each is opened only after it was yielded by its parent
        with contextlib.suppress(OSError):
            Path(path).chmod(0o700)
    shutil.rmtree(folder, ignore_errors=True)


def _look_at(source: Path, folder: int, left_out: Collection[str]) -> _Look:
    entries: list[tuple[object, ...]] = []
    newest = 0

    def note(name: str, said: os.stat_result) -> None:
        nonlocal newest
        newest = max(newest, said.st_ctime_ns)
        times = (said.st_mtime_ns, said.st_ctime_ns)
        entries.append((name, said.st_dev, said.st_ino, said.st_mode, said.st_size, *times))
        if len(entries) > MOST_FILES:
            raise ScriptsError(f"{source} holds more than {MOST_FILES} files")

    note("", os.fstat(folder))
    for path, folders, files, descriptor in os.fwalk(".", dir_fd=folder):
        folders[:] = [name for name in folders if name not in left_out]
        for name in (*folders, *files):
            with contextlib.suppress(FileNotFoundError):  # gone since: the copy has it no more
                said = os.stat(name, dir_fd=descriptor, follow_symlinks=False)
                note(f"{path}/{name}", said)
    entries.sort(key=lambda entry: str(entry[0]))
    return _Look(entries, newest / 1e9)
