"""Starts one process as a worker does, and prints what that finds of signals and privileges."""

import asyncio
import sys
import uuid
from pathlib import Path

from roundsman import logs
from roundsman.clock import SystemClock
from roundsman.wire.control import StartProcess
from roundsman.worker.runners.process import ProcessRunner
from tests.policies import policy


async def main(folder: Path) -> None:
    logs.configure(level="critical", json=False)
    (folder / "scripts").mkdir()
    (folder / "scripts" / "x").write_text("grep -E '^(Sig|NoNew)' /proc/self/status")
    runner = ProcessRunner(
        policy(folder / "scripts", "sh"), folder=folder / "state" / "processes", clock=SystemClock()
    )
    await runner.open()
    process_id = str(uuid.uuid4())
    await runner.start(StartProcess(process_id=process_id, command="sh", path="x"))
    async for chunks in runner.read(process_id, follow=True):
        for chunk in chunks:
            print(chunk.data.decode(), end="")
    await runner.close()
    await runner.detach()


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1])))
