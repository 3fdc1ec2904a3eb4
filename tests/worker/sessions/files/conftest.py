import socket
from pathlib import Path

import pytest

from roundsman.simulator.device import HOST
from tests.worker.sessions.files.bench import FileBench
from tests.worker.sessions.files.certificates import Certificate, make


@pytest.fixture
def site(tmp_path: Path) -> FileBench:
    return FileBench(tmp_path)


@pytest.fixture
def certificate(tmp_path: Path) -> Certificate:
    return make(tmp_path)


@pytest.fixture
def unused_port() -> int:
    """A TCP port on which nothing listens."""
    with socket.socket() as taken:
        taken.bind((HOST, 0))
        port: int = taken.getsockname()[1]
        return port
