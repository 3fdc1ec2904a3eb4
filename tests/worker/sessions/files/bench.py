"""File jobs against servers of the tests."""

import contextlib
from pathlib import Path
from typing import Any

import pytest

from roundsman.secret import Secret
from roundsman.simulator.device import HOST
from roundsman.wire.device import Credentials, Device, Protocol
from roundsman.wire.execution import Execution
from roundsman.wire.job import File, FileSet, Job, JobType, Schedule, Transfer
from roundsman.wire.run import FailureClass
from roundsman.worker.runners.device import SessionRunner, TimeLimits
from roundsman.worker.runners.interface import ResultFile, RunFailedError
from roundsman.worker.sessions.host_keys import HostKeyStore
from roundsman.worker.settings import HostKeyPolicy

USER, PASSWORD = "admin", "l3t me:in"


class FileBench:
    """A runner, and one device reached by `protocol`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.limits = TimeLimits(connect=5)
        self.seconds = 20

    async def run(
        self,
        transfer: Transfer,
        *names: str,
        password: str = PASSWORD,
        host: str = HOST,
        max_bytes: int = 1 << 30,
        further: tuple[str, ...] = (),
        **protocol: Any,
    ) -> bytes:
        """What the files hold together."""
        device = Device(
            name="d1",
            host=host,
            protocol=Protocol(**protocol),
            credentials=Credentials(user=USER, password=Secret(password)),
            further_credentials=tuple(
                Credentials(user=USER, password=Secret(text)) for text in further
            ),
        )
        files = FileSet(files=tuple(File(name=name) for name in names), transfer=transfer)
        job = Job(
            name="fetch",
            type=JobType.FILE,
            schedule=Schedule(fixed=0),
            file_set=files,
            command_timeout=self.seconds,
        )
        store = HostKeyStore(self.folder / "known_hosts", HostKeyPolicy.TRUST_ON_FIRST_USE)
        with (
            contextlib.closing(SessionRunner(store, limits=self.limits)) as runner,
            (self.folder / "result").open("w+b") as file,
        ):
            result = ResultFile(file, max_bytes=max_bytes, scratch_folder=self.folder)
            await runner.run(Execution(device=device, job=job, timestamp=0), result)
            file.seek(0)
            return file.read()

    async def fail(self, transfer: Transfer, *names: str, **more: Any) -> tuple[FailureClass, str]:
        """Class and text of the failure that there must be."""
        with pytest.raises(RunFailedError) as caught:
            await self.run(transfer, *names, **more)
        assert PASSWORD not in caught.value.text
        return caught.value.failure_class, caught.value.text
