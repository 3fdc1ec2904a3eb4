"""The content of a blob, in pieces, through `git cat-file`, which streams a large one too."""

import asyncio
from collections.abc import AsyncIterator
from typing import Final, cast

from roundsman.archive.command import Git
from roundsman.archive.interface import ArchiveUnavailableError

_ATTEMPTS: Final = 3
_PIECE: Final = 1 << 16


async def blob_pieces(git: Git, blob: bytes) -> AsyncIterator[bytes]:
    """Yield a blob's content. Raises `ArchiveUnavailableError` when git cannot read it whole."""
    for attempt in range(_ATTEMPTS):
        begun = False
        try:
            async for piece in _read(git, blob):
                begun = True
                yield piece
        except ArchiveUnavailableError:
            # The pack that git found it in may have been replaced before git opened it.
            if begun or attempt == _ATTEMPTS - 1:
                raise
        else:
            return


async def _read(git: Git, blob: bytes) -> AsyncIterator[bytes]:
    process = await asyncio.create_subprocess_exec(
        *git.arguments("cat-file", "blob", blob.hex()),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
        env=git.environment,
    )
    try:
        stdout = cast("asyncio.StreamReader", process.stdout)
        while piece := await stdout.read(_PIECE):
            yield piece
        if status := await process.wait():
            raise git.failure("cat-file", status, b"")
    finally:
        if process.returncode is None:
            process.kill()
            await process.communicate()  # to its end, so that nothing of it stays open
