"""A process' own cgroup: whoever it starts is in it, whatever becomes of parents and sessions."""

import contextlib
from pathlib import Path
from typing import Final

from roundsman.wire.process import ProcessLimits
from roundsman.worker.runners import kernel_files

_PERIOD: Final = 100_000  # microseconds, the kernel's own
CGROUP_PREFIX: Final = "roundsman-"
"""Of the name of a keeper's cgroup, which holds those of its processes; its process id follows."""


class Cgroup:
    """One cgroup, from before the start until nobody is in it."""

    def __init__(self, folder: Path) -> None:
        """Look at `folder`; `create` makes it."""
        self.folder = folder
        self.limited = False
        """Whether it holds whoever is in it to any limit."""
        self._removed = False

    def create(self, limits: ProcessLimits, controllers: frozenset[str]) -> None:
        """Make it, with those limits that controllers in force can hold."""
        self.folder.mkdir()
        if limits.memory_bytes is not None and "memory" in controllers:
            self.limited = True
            self._write("memory.max", str(limits.memory_bytes))
            self._write("memory.oom.group", "1")
            with contextlib.suppress(FileNotFoundError):  # kernels that do not account swap
                self._write("memory.swap.max", "0")
        if limits.processors is not None and "cpu" in controllers:
            self.limited = True
            self._write("cpu.max", f"{round(limits.processors * _PERIOD)} {_PERIOD}")
        if limits.tasks is not None and "pids" in controllers:
            self.limited = True
            self._write("pids.max", str(limits.tasks))

    def members(self) -> tuple[int, ...]:
        """Who is in it and in those below, zombies too."""
        pids: list[int] = []
        with contextlib.suppress(OSError):
            for file in [self.folder / "cgroup.procs", *self.folder.rglob("*/cgroup.procs")]:
                pids += map(int, file.read_text().split())
        return tuple(pids)

    def is_empty(self) -> bool:
        """Whether nobody is alive in it or below, by the kernel's word."""
        try:
            return b"populated 0" in kernel_files.read(f"{self.folder}/cgroup.events")
        except FileNotFoundError:
            return True

    def was_too_large(self) -> bool:
        """Whether the kernel has killed somebody in it for want of memory."""
        with contextlib.suppress(OSError):
            return b"oom_kill 0" not in kernel_files.read(f"{self.folder}/memory.events")
        return False

    def was_too_many(self) -> bool:
        """Whether the kernel has refused somebody in it another process or thread."""
        with contextlib.suppress(OSError):
            return b"max 0" not in kernel_files.read(f"{self.folder}/pids.events")
        return False

    def kill(self) -> None:
        """SIGKILL to everybody in it and below; who forks meanwhile dies too."""
        with contextlib.suppress(FileNotFoundError):
            self._write("cgroup.kill", "1")

    def give_up(self) -> bool:
        """Take it away if nobody is in it, by the kernel's word, nor has made one below."""
        with contextlib.suppress(OSError):
            self.folder.rmdir()
            self._removed = True
        return self._removed

    def remove(self) -> None:
        """Take it away, with those that were made below it; only an empty one goes."""
        if self._removed or self.give_up():
            return
        with contextlib.suppress(OSError):
            for folder in sorted(self.folder.rglob("*/"), reverse=True):
                folder.rmdir()
            self.folder.rmdir()

    def _write(self, name: str, text: str) -> None:
        kernel_files.write(f"{self.folder}/{name}", text)
