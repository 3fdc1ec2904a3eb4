import asyncio
import subprocess
import sys
from pathlib import Path

from roundsman import logs
from roundsman.archive.git import GitArchive
from roundsman.archive.interface import Entry
from roundsman.clock import SystemClock
from roundsman.testing.archive_conformance import DUE

SIZE = 64 << 20
AT_ONCE = 3
ALLOWED_KIB = 32 << 10


def test_results_of_64_mb_at_once_are_stored_and_read_in_constant_memory(tmp_path: Path) -> None:
    """Fault 18: four results of 200 MB at once took 3.6 GB, never given back."""
    grown = subprocess.run(
        [sys.executable, __file__, tmp_path], capture_output=True, text=True, check=True
    )
    assert int(grown.stdout) < ALLOWED_KIB


def _peak_kib() -> int:
    # Not getrusage: what that says begins with the size of the process that started this one.
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0])


async def _measure(folder: Path) -> None:
    """In a process of its own: how much its peak grew, in KiB."""
    archive = GitArchive(folder / "archive.git", SystemClock())
    await archive.open()
    files = [folder / f"result-{number}" for number in range(AT_ONCE)]
    for number, file in enumerate(files):
        with file.open("wb") as content:
            content.write(f"device {number}\n".encode())
            content.truncate(SIZE)
    before = _peak_kib()
    await asyncio.gather(
        *(
            archive.store(
                Entry(
                    device=file.name,
                    job="image",
                    content=file,
                    due=DUE,
                    started_at=DUE,
                    ended_at=DUE,
                    run_id=file.name,
                )
            )
            for file in files
        )
    )
    for file in files:
        size = 0
        async for piece in archive.read(file.name, "image"):
            size += len(piece)
        assert size == SIZE
    await archive.close()
    print(_peak_kib() - before)


if __name__ == "__main__":
    logs.configure(level="warning")
    asyncio.run(_measure(Path(sys.argv[1])))
