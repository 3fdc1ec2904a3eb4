from collections.abc import AsyncIterator, Iterator, MutableMapping
from pathlib import Path
from typing import Any

import pytest
import structlog

from roundsman.archive.git import GitArchive
from roundsman.clock import SystemClock
from roundsman.testing.archive_conformance import Spool
from tests.archive.stock_git import StockGit


@pytest.fixture(autouse=True)
def logged() -> Iterator[list[MutableMapping[str, Any]]]:
    """Logs stay in memory: a full disk is no place for them."""
    with structlog.testing.capture_logs() as events:
        yield events


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "archive.git"


@pytest.fixture
def stock(folder: Path) -> StockGit:
    return StockGit(folder)


@pytest.fixture
def spool(tmp_path: Path) -> Spool:
    place = tmp_path / "spool"
    place.mkdir()
    return Spool(place)


@pytest.fixture
async def archive(folder: Path) -> AsyncIterator[GitArchive]:
    archive = GitArchive(folder, SystemClock())
    await archive.open()
    yield archive
    await archive.close()
