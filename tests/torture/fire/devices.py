"""Devices that write down who says what to them, and when: python -m tests.torture.fire.devices.

One port for all of them. Whoever comes says with each line who it is and under which lease, so that
it is seen when somebody speaks who should not any more. The trace is only ever appended to.
"""

import asyncio
import random
import signal
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Final, NamedTuple

HOST: Final = "127.0.0.1"
LOGIN, LAST = "login", "show_running-config"
LINES: Final = (LOGIN, "show_version", LAST)


class Touch(NamedTuple):
    """One line that a device was sent."""

    at: float
    """By the devices' monotonic clock."""
    device: str
    due: int
    epoch: int
    worker: str
    line: str


def touches(trace: Path) -> list[Touch]:
    """All of them, in the order in which they came."""
    found = []
    for row in trace.read_text().splitlines():
        at, device, due, epoch, worker, line = row.split()
        found.append(Touch(float(at), device, int(due), int(epoch), worker, line))
    return found


class Devices:
    """Most answer at once, some slowly, a few hang up."""

    def __init__(self, trace: Path, rng: random.Random, slow_seconds: float) -> None:
        self._trace = trace.open("a", buffering=1)
        self._rng = rng
        self._slow_seconds = slow_seconds

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        slow = self._rng.random() < 0.03
        hangs_up = self._rng.random() < 0.01
        with suppress(OSError):
            while line := await reader.readline():
                self._trace.write(f"{time.monotonic():.6f} {line.decode()}")
                longest = self._slow_seconds if slow else 0.2
                await asyncio.sleep(self._rng.uniform(0, longest))
                if hangs_up:
                    break
                writer.write(b"ok\n")
        writer.close()


async def main() -> None:
    trace, seed, slow_seconds = sys.argv[1:]
    devices = Devices(Path(trace), random.Random(seed), float(slow_seconds))
    server = await asyncio.start_server(devices.serve, HOST, 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    stopped = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stopped.set)
    await stopped.wait()


if __name__ == "__main__":
    asyncio.run(main())
