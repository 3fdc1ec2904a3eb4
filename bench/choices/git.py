"""Who writes git: docs/adr/0007-git-library.md.

    .venv/bin/uv pip install -p .venv/bin/python pygit2 dulwich
    .venv/bin/python -m bench.choices.git [--seconds 4] [--devices 1000 100000]

Results of 10 KB into `by_device/<device>/show_run`, one commit each (our own writer lets them share
commits where the tree is large), flushed once per batch; in milliseconds per result, and in KB of
disk per result before any consolidation. A library that is not installed is left out.
"""

import argparse
import importlib
import importlib.util
import os
import subprocess
import time
from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from bench.archive import NOW, Results, fill
from roundsman import logs
from roundsman.archive.files import Files
from roundsman.archive.history import History
from roundsman.archive.interface import Entry
from roundsman.archive.layouts import Layouts
from roundsman.archive.repository import Repository
from roundsman.archive.writer import Writer
from roundsman.clock import SystemClock

WHO = "bench <bench@localhost>"
BRANCH = "refs/heads/main"


class Candidate(ABC):
    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @abstractmethod
    def write(self, entries: Sequence[Entry]) -> None: ...

    @abstractmethod
    def close(self) -> None: ...


class Own(Candidate):
    """One pack a batch, written by the archive itself."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        files = Files()
        repository = Repository(folder, files, SystemClock())
        layouts = Layouts(folder / "roundsman", files, ())
        history = History(folder / "roundsman" / "versions.sqlite", repository.git, layouts)
        self._writer = Writer(
            repository, history, SystemClock(), layouts, (), one_commit=False, drafts=False
        )
        self._writer.open()

    def write(self, entries: Sequence[Entry]) -> None:
        self._writer.write(entries)

    def close(self) -> None:
        self._writer.close()


class FastImport(Candidate):
    """One long-lived `git fast-import`; a checkpoint, so a pack, each batch."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self._process: Any = subprocess.Popen(
            [
                *("git", f"--git-dir={folder}", "-c", "fastimport.unpackLimit=0"),
                *("-c", "core.fsync=all", "fast-import", "--quiet", "--force"),
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        self._from = b"from refs/heads/main^0\n"

    def write(self, entries: Sequence[Entry]) -> None:
        for entry in entries:
            content = entry.read()
            self._process.stdin.write(
                b"commit %s\ncommitter %s %d +0000\ndata 1\nx\n%s"
                b"M 100644 inline by_device/%s/show_run\ndata %d\n%s\n"
                % (
                    BRANCH.encode(),
                    WHO.encode(),
                    NOW,
                    self._from,
                    entry.device.encode(),
                    len(content),
                    content,
                )
            )
            self._from = b""
        self._process.stdin.write(b"checkpoint\nprogress done\n")
        self._process.stdin.flush()
        self._process.stdout.readline()

    def close(self) -> None:
        self._process.stdin.close()
        self._process.wait()


class Libgit2(Candidate):
    """pygit2: loose objects, each flushed; the branch once per batch."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self._git: Any = importlib.import_module("pygit2")
        self._git.settings.enable_fsync_gitdir(True)
        self._repository: Any = self._git.Repository(str(folder))

    def write(self, entries: Sequence[Entry]) -> None:
        git, repository = self._git, self._repository
        tip = repository.references[BRANCH].target
        who = git.Signature("bench", "bench@localhost", NOW, 0)
        for entry in entries:
            blob = repository.create_blob(entry.read())
            root = repository[tip].tree
            by_device = root["by_device"]
            device = repository.TreeBuilder(by_device[entry.device])
            device.insert("show_run", blob, 0o100644)
            devices = repository.TreeBuilder(by_device)
            devices.insert(entry.device, device.write(), 0o040000)
            top = repository.TreeBuilder(root)
            top.insert("by_device", devices.write(), 0o040000)
            tip = repository.create_commit(None, who, who, "x", top.write(), [tip])
        repository.references[BRANCH].set_target(tip)

    def close(self) -> None:
        self._repository.free()


class Dulwich(Candidate):
    """dulwich: one pack a batch, trees whole, `by_device` kept in memory."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self._objects: Any = importlib.import_module("dulwich.objects")
        self._repository: Any = importlib.import_module("dulwich.repo").Repo(str(folder))
        self._repository.object_store.fsync_object_files = True
        self._tip: Any = self._repository.refs[BRANCH.encode()]
        root: Any = self._repository[self._repository[self._tip].tree]
        self._by_device: Any = self._repository[root[b"by_device"][1]]

    def write(self, entries: Sequence[Entry]) -> None:
        new = []
        for entry in entries:
            blob = self._objects.Blob.from_string(entry.read())
            device = self._objects.Tree()
            device.add(b"show_run", 0o100644, blob.id)
            self._by_device[entry.device.encode()] = (0o040000, device.id)
            root = self._objects.Tree()
            root.add(b"by_device", 0o040000, self._by_device.id)
            commit = self._objects.Commit()
            commit.tree, commit.parents = root.id, [self._tip]
            commit.author = commit.committer = WHO.encode()
            commit.author_time = commit.commit_time = NOW
            commit.author_timezone = commit.commit_timezone = 0
            commit.message = b"x"
            self._tip = commit.id
            new += [(item, None) for item in (blob, device, self._by_device.copy(), root, commit)]
        self._repository.object_store.add_objects(new)
        self._repository.refs[BRANCH.encode()] = self._tip
        os.sync()

    def close(self) -> None:
        self._repository.close()


def disk_bytes(folder: Path) -> int:
    return sum(path.stat().st_blocks * 512 for path in folder.rglob("*") if path.is_file())


def measure(candidate: type[Candidate], devices: int, batch: int, seconds: float) -> str:
    with TemporaryDirectory(dir=Path(__file__).parent) as name:
        folder = Path(name)
        fill(folder / "archive.git", devices)
        results = Results()
        writer = candidate(folder / "archive.git")
        writer.write([results.entry(devices)])
        before, written, spent = disk_bytes(folder / "archive.git"), 0, 0.0
        while spent < seconds:
            entries = [results.entry(devices) for _ in range(batch)]
            begun = time.perf_counter()
            writer.write(entries)
            spent += time.perf_counter() - begun
            written += batch
        writer.close()
        kilobytes = (disk_bytes(folder / "archive.git") - before) / written / 1000
        return f"{1000 * spent / written:8.2f} ms {kilobytes:7.0f} KB"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=4.0)
    parser.add_argument("--devices", type=int, nargs="+", default=[1_000, 100_000])
    names = {item.__name__: item for item in (Libgit2, Dulwich, FastImport, Own)}
    parser.add_argument("--candidates", nargs="+", choices=names, default=[*names])
    asked = parser.parse_args()
    logs.configure(level="warning")
    for name in asked.candidates:
        library = {"Libgit2": "pygit2", "Dulwich": "dulwich"}.get(name)
        if library is not None and importlib.util.find_spec(library) is None:
            continue
        for devices in asked.devices:
            row = [measure(names[name], devices, batch, asked.seconds) for batch in (1, 32, 100)]
            print(f"{name:11} {devices:7,}", " | ".join(row), flush=True)


if __name__ == "__main__":
    main()
