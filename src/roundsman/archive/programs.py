"""The programs that maintenance runs: of low priority, and ended when they are not waited for."""

import asyncio
import os
import sys
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Final, cast

from roundsman.archive.command import Git

_WINDOW: Final = 50
"""Objects that git compares each one with. It sorts the versions of a path by size, so of one with
many the version before is not among git's usual ten: that costs a third of the size."""


class Programs:
    """Runs them on one repository. Each raises `ArchiveUnavailableError` when it fails."""

    def __init__(self, git: Git, packs: Path) -> None:
        self._git = git
        self._packs = packs

    async def join(self, names: Sequence[str]) -> set[str]:
        """Join packs by copying, in a process of its own; the names of those made."""
        status, printed, complaint = await self._run(
            (*_ours("joining"), str(self._packs)),
            "\n".join(names).encode(),
        )
        if status:
            raise self._git.failure("joining", status, complaint)
        return {printed.decode().strip()}

    async def index(self, repository: Path) -> None:
        """Bring the index for searches up to date, in a process of its own."""
        status, _, complaint = await self._run((*_ours("indexing"), str(repository)), b"")
        if status:
            raise self._git.failure("indexing", status, complaint)

    async def compact(self, names: Sequence[str], tip: str, beyond: Sequence[str]) -> set[str]:
        """Have git write all objects of these packs, as deltas where it can.

        What the commit `tip` needs and those `beyond` do not is in these packs. In a process of its
        own; the names of the packs made.
        """
        status, printed, complaint = await self._run(
            (*_ours("compacting"), str(self._git.folder), tip, *beyond), "\n".join(names).encode()
        )
        if status:
            raise self._git.failure("compacting", status, complaint)
        return {*printed.decode().split()}

    async def prune(self) -> set[str]:
        """Have git write all objects that any branch or tag needs, as deltas where it can."""
        made = await self.git(
            *("pack-objects", "--quiet", "--delta-base-offset", f"--window={_WINDOW}"),
            *("--revs", "--all", "--honor-pack-keep", str(self._packs / "pack")),
        )
        return {f"pack-{checksum}" for checksum in made.decode().split()}

    async def verify(self) -> str | None:
        """Have git look at every byte; what it complains of."""
        arguments = self._beside("fsck", "--strict", "--no-dangling", "--no-progress")
        status, _, complaint = await self._run(arguments, b"", environment=self._git.environment)
        if status < 0:
            raise self._git.failure("fsck", status, complaint)
        return str(self._git.failure("fsck", status, complaint)) if status else None

    async def needed(self) -> AsyncIterator[bytes]:
        """The ids of all objects that any branch or tag needs."""
        process = await asyncio.create_subprocess_exec(
            *self._beside("rev-list", "--objects", "--all"),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
            env=self._git.environment,
        )
        try:
            async for line in cast("asyncio.StreamReader", process.stdout):
                yield bytes.fromhex(line[:40].decode())
            if status := await process.wait():
                raise self._git.failure("rev-list", status, b"")
        finally:
            if process.returncode is None:
                process.kill()
                await process.communicate()  # to its end, so that nothing of it stays open

    async def git(self, *arguments: str, said: str = "") -> bytes:
        """Run a git command; what it prints."""
        status, printed, complaint = await self._run(
            self._beside(*arguments), said.encode(), environment=self._git.environment
        )
        if status:
            raise self._git.failure(arguments[0], status, complaint)
        return printed

    def _beside(self, *arguments: str) -> tuple[str, ...]:
        return (*_ours("beside"), *self._git.arguments(*arguments))

    async def _run(
        self, arguments: Sequence[str], said: bytes, *, environment: dict[str, str] | None = None
    ) -> tuple[int, bytes, bytes]:
        """Run a program; its exit status, and what it prints and complains."""
        process = await asyncio.create_subprocess_exec(
            *arguments,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env=environment,
        )
        try:
            printed, complaint = await process.communicate(said)
        finally:
            if process.returncode is None:
                process.kill()
                await process.communicate()  # to its end, so that nothing of it stays open
        return cast("int", process.returncode), printed, complaint


def _ours(name: str) -> tuple[str, ...]:
    """The command line of a program of ours, which is told who starts it."""
    return sys.executable, "-m", f"roundsman.archive.{name}", str(os.getpid())
