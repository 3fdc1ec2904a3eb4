"""Two contents compared by `git diff`, which is given nothing but the ids of their blobs."""

import asyncio
from typing import Final

from roundsman.archive.command import LARGE_BLOB, Git
from roundsman.archive.interface import ArchiveUnavailableError, TooLargeToCompareError
from roundsman.archive.timeline import Found

MOST_BYTES: Final = LARGE_BLOB - 1
"""Larger contents are not text to git."""
SECONDS: Final = 20.0
AT_ONCE: Final = 4
"""Comparisons at a time; each may hold twice `MOST_BYTES`."""


class Comparer:
    """Compares contents."""

    def __init__(self, git: Git) -> None:
        self._git = git
        self._at_once = asyncio.Semaphore(AT_ONCE)

    async def unified(self, old: Found, new: Found, context: int) -> bytes | None:
        """The hunks that make one content the other; none when one of them is no text.

        Raises `TooLargeToCompareError`, `ArchiveUnavailableError`.
        """
        for found in (old, new):
            if found.version.size > MOST_BYTES and found.version.lines is not None:
                raise TooLargeToCompareError.of(found.version.size, MOST_BYTES)
        if old.blob == new.blob:
            return b""
        async with self._at_once:
            said = await self._diff(old.blob, new.blob, context)
        start = said.find(b"\n@@ ")
        return said[start + 1 :] if start >= 0 else None

    async def _diff(self, old: bytes, new: bytes, context: int) -> bytes:
        process = await asyncio.create_subprocess_exec(
            *self._git.arguments("diff", "--no-color", "--no-ext-diff", "--no-textconv"),
            *("--diff-algorithm=histogram", f"--unified={int(context)}"),
            *(old.hex(), new.hex(), "--"),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env=self._git.environment,
        )
        try:
            out, err = await asyncio.wait_for(process.communicate(), SECONDS)
        except TimeoutError:
            raise ArchiveUnavailableError(
                f"git diff took more than {SECONDS:g} s to compare two contents"
            ) from None
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
        if process.returncode:
            raise self._git.failure("diff", process.returncode, err)
        return out
