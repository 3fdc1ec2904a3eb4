"""A controller as a process of its own, as the command line starts it."""

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec


class ControllerProcess:
    """Runs `roundsman controller FILE`; what it logs goes to a file beside."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._process: asyncio.subprocess.Process | None = None
        self.url = ""

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    @property
    def is_running(self) -> bool:
        return self._process is not None and self._process.returncode is None

    async def start(self) -> str:
        """Start it, and return its URL once it serves."""
        log = self._file.with_suffix(".log")
        with log.open("ab") as errors:
            self._process = await asyncio.create_subprocess_exec(
                sys.executable,
                *("-m", "roundsman", "controller", str(self._file)),
                stdout=asyncio.subprocess.PIPE,
                stderr=errors,
            )
        assert self._process.stdout is not None
        line = (await self._process.stdout.readline()).decode()
        assert line.startswith("Serving on "), log.read_text()
        self.url = line.removeprefix("Serving on ").strip()
        return self.url

    async def signal(self, number: signal.Signals) -> int:
        """Send a signal that ends it, and return its exit status."""
        assert self._process is not None
        with contextlib.suppress(ProcessLookupError):
            self._process.send_signal(number)
        # To the end of what it prints: it is reaped before that is seen, and would stay open.
        await self._process.communicate()
        assert self._process.returncode is not None
        return self._process.returncode

    def peak_memory(self) -> int:
        """The most memory that it ever held, in bytes."""
        for line in Path(f"/proc/{self.pid}/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
        raise AssertionError(os.strerror(0))


@contextlib.asynccontextmanager
async def controller_process(
    folder: Path, document: dict[str, object]
) -> AsyncIterator[ControllerProcess]:
    """A controller with this configuration, not yet started; ended when the block ends."""
    file = folder / "roundsman.json"
    file.touch(mode=0o600)  # it holds the password of a device
    file.write_bytes(msgspec.json.encode(document))
    process = ControllerProcess(file)
    try:
        yield process
    finally:
        if process.url:
            await process.signal(signal.SIGKILL)
