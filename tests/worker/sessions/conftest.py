"""A runner with a store of its own, and what it brings back."""

from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from roundsman.simulator.device import HOST, SimulatedDevice
from roundsman.wire.device import Credentials, Device, Prompt, Protocol, Ssh
from roundsman.wire.execution import Execution
from roundsman.wire.job import Command, CommandSet, Job, Schedule
from roundsman.secret import Secret
from roundsman.worker.runners.device import SessionRunner, TimeLimits
from roundsman.worker.runners.interface import ResultFile
from roundsman.worker.sessions.host_keys import HostKeyStore
from roundsman.worker.sessions.shell import Patience
from roundsman.worker.settings import HostKeyPolicy

# Short, so that tests which wait for a limit wait little; long against what a busy machine adds.
LIMITS = TimeLimits(
    connect=5, login=2, prompt=2, leave=2, patience=Patience(first=0.05, repeated=0.5)
)


@pytest.fixture
def host_keys(tmp_path: Path) -> HostKeyStore:
    return HostKeyStore(tmp_path / "known_hosts", HostKeyPolicy.TRUST_ON_FIRST_USE)


@pytest.fixture
def runner(host_keys: HostKeyStore) -> Iterator[SessionRunner]:
    runner = SessionRunner(host_keys, limits=LIMITS)
    yield runner
    runner.close()


class Kept:
    """A result file, and what is in it."""

    def __init__(self, folder: Path, max_bytes: int = 1 << 30) -> None:
        self._path = folder / "result"
        self._file = self._path.open("w+b")
        self.file = ResultFile(self._file, max_bytes=max_bytes, scratch_folder=folder)

    @property
    def content(self) -> bytes:
        self._file.flush()
        return self._path.read_bytes()

    def close(self) -> None:
        self._file.close()


@pytest.fixture
def kept(tmp_path: Path) -> Iterator[Kept]:
    kept = Kept(tmp_path)
    yield kept
    kept.close()
