"""A worker as a process of its own, for tests that kill it: python -m tests.worker.worker_process.

Its runner writes a large result and says so; what it says goes to standard output, line by line.
"""

import asyncio
import sys
from pathlib import Path

from roundsman import logs
from roundsman.secret import Secret
from roundsman.wire.execution import Execution
from roundsman.worker.deadline import NO_DEADLINE, LeaseDeadline
from roundsman.worker.runners.interface import ResultFile
from roundsman.worker.service import WorkerService, run_until_signalled
from roundsman.worker.settings import WorkerSettings

CONTENT = b"interface eth0\n" * 100_000


class SayingRunner:
    """Writes `CONTENT`; on a device called `slow…`, for ever."""

    async def run(
        self, execution: Execution, result: ResultFile, _: LeaseDeadline = NO_DEADLINE
    ) -> None:
        print("begun", execution.device.name, flush=True)
        result.write(CONTENT)
        if execution.device.name.startswith("slow"):
            await asyncio.Event().wait()
        print("captured", execution.device.name, flush=True)


def main() -> None:
    url, state = sys.argv[1:]
    logs.configure(level="debug", json=True, stream=sys.stdout)
    settings = WorkerSettings(
        controller=url, token=Secret("enrol-me"), name="ams-1", state=Path(state)
    )
    asyncio.run(run_until_signalled(WorkerService(settings, SayingRunner())))


if __name__ == "__main__":
    main()
