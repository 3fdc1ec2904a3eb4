"""Two contents compared by `git diff`, which is given two files, or the ids of two blobs."""

import asyncio
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final, cast

from roundsman.archive.command import LARGE_BLOB, Git
from roundsman.archive.interface import ArchiveUnavailableError, TooLargeToCompareError
from roundsman.archive.objects import BLOB
from roundsman.archive.readers import Readers
from roundsman.archive.timeline import Found

MOST_BYTES: Final = LARGE_BLOB - 1
"""Larger contents are not text to git."""
SECONDS: Final = 20.0
AT_ONCE: Final = 4
"""Comparisons at a time; each may hold twice `MOST_BYTES`, in git."""
_SMALL: Final = 1 << 20
"""Up to here contents are read here, and git sees two files: it need not look into any pack."""
_FILES: Final = ("old", "new")
_DIFFER: Final = 1
"""What `git diff` of two files ends with when they do."""


class Comparer:
    """Compares contents."""

    def __init__(self, git: Git, readers: Readers) -> None:
        self._git = git
        self._readers = readers
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
            said = await self._compare(old, new, context)
        start = said.find(b"\n@@ ")
        return said[start + 1 :] if start >= 0 else None

    async def _compare(self, old: Found, new: Found, context: int) -> bytes:
        blobs = (old.blob, new.blob)
        if max(old.version.size, new.version.size) <= _SMALL:
            contents = await asyncio.to_thread(self._read, blobs)
            try:
                return await self._diff_files(contents, context)
            except OSError:  # no room for two files
                pass
        arguments = self._git.arguments(*_arguments(context), *(blob.hex() for blob in blobs), "--")
        return await self._run(arguments, self._git.environment)

    def _read(self, blobs: Sequence[bytes]) -> list[bytes]:
        with self._readers.one() as reader:
            return reader.read(BLOB, blobs)

    async def _diff_files(self, contents: Sequence[bytes], context: int) -> bytes:
        """Have git compare two files, outside of any repository. Raises `OSError`."""
        with TemporaryDirectory(prefix="roundsman-diff-") as name:
            folder = _lay_out(name, contents)
            arguments = [self._git.program, *_arguments(context), "--no-index", "--", *_FILES]
            alone = {"GIT_CEILING_DIRECTORIES": str(folder.parent), "GIT_ATTR_NOSYSTEM": "1"}
            return await self._run(arguments, {**self._git.environment, **alone}, folder)

    async def _run(
        self, arguments: Sequence[str], environment: dict[str, str], folder: Path | None = None
    ) -> bytes:
        process = await asyncio.create_subprocess_exec(
            *arguments,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env=environment,
            cwd=folder,
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
        if process.returncode not in (0, _DIFFER):
            raise self._git.failure("diff", cast("int", process.returncode), err)
        return out


def _arguments(context: int) -> tuple[str, ...]:
    said = ("--no-color", "--no-ext-diff", "--no-textconv", "--diff-algorithm=histogram")
    return ("diff", *said, f"--unified={int(context)}")


def _lay_out(name: str, contents: Sequence[bytes]) -> Path:
    folder = Path(name).resolve()
    for file, content in zip(_FILES, contents, strict=True):
        (folder / file).write_bytes(content)
    return folder
