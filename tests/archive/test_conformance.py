from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from roundsman.archive.git import GitArchive
from roundsman.archive.interface import Archive
from roundsman.clock import SystemClock
from roundsman.testing.archive_conformance import ArchiveConformance
from roundsman.testing.memory_archive import MemoryArchive
from tests.archive.stock_git import StockGit


class TestMemoryArchive(ArchiveConformance):
    @pytest.fixture
    async def archive(self) -> Archive:
        return MemoryArchive()


class TestGitArchive(ArchiveConformance):
    @pytest.fixture
    async def archive(self, tmp_path: Path) -> AsyncIterator[Archive]:
        archive = GitArchive(tmp_path / "archive.git", SystemClock())
        await archive.open()
        yield archive
        await archive.close()
        StockGit(tmp_path / "archive.git").fsck()


class TestGitArchiveApart(ArchiveConformance):
    """Written by a process of its own."""

    @pytest.fixture
    async def archive(self, tmp_path: Path) -> AsyncIterator[Archive]:
        archive = GitArchive(tmp_path / "archive.git", SystemClock(), apart=True)
        await archive.open()
        yield archive
        await archive.close()
        StockGit(tmp_path / "archive.git").fsck()
