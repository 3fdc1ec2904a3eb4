"""A small site, configured from a file, with its application called in process."""

import contextlib
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any, NamedTuple

import httpx
from litestar import Litestar
from litestar.testing import AsyncTestClient

from roundsman.archive.git import GitArchive
from roundsman.archive.interface import Archive
from roundsman.clock import Clock
from roundsman.config.load import load
from roundsman.controller.access import token_hash
from roundsman.controller.api.app import build_app
from roundsman.controller.service import Controller
from roundsman.ledger.drivers import open_ledger
from roundsman.ledger.interface import Ledger
from roundsman.ledger.memory import MemoryLedger
from roundsman.testing.clock import ManualClock
from roundsman.testing.memory_archive import MemoryArchive

# A full hour, so that hourly jobs are due an hour later.
START = 1_700_002_800

CONFIGURATION = f"""
controller:
  limits: {{sessions_per_device: 2}}
  tokens:
    - {{name: ada, role: administrator, hash: "{token_hash("token-of-ada")}"}}
    - {{name: rita, role: reader, hash: "{token_hash("token-of-rita")}"}}
    - {{name: walter, role: worker, hash: "{token_hash("token-of-walter")}"}}
    - {{name: ams, role: worker, hash: "{token_hash("token-of-ams")}", tags: [ams]}}
jobs:
  show:
    schedule: {{cron: "0 * * * *"}}
    command: {{inline: ["terminal length 0", "show {{{{what}}}}"]}}
    template_values: {{what: running-config}}
    prompt: {{ends_with: "#"}}
  backup:
    schedule: {{duration: 1 day}}
    type: file
    files: [{{name: /config.gz}}]
    scrubbers: [{{type: simple, search: hidden}}]
device_generics:
  default:
    credentials: {{user: backup, pass: hunter2}}
devices:
  core1: {{tags: [ams, core], jobs: [show, backup]}}
  edge1: {{tags: [ams], jobs: [show], host: 192.0.2.1}}
  edge2: {{tags: [fra], jobs: [show]}}
  "2001:db8::1": {{jobs: [show]}}
"""


def bearer(name: str) -> dict[str, str]:
    return {"Authorization": f"Bearer token-of-{name}"}


class Site(NamedTuple):
    controller: Controller
    ledger: Ledger
    archive: Archive
    clock: ManualClock
    client: AsyncTestClient[Litestar]
    file: Path
    """The configuration, for reloads."""

    async def get(self, path: str, *, by: str = "rita", **parameters: Any) -> httpx.Response:
        return await self.client.get(f"/api/v1{path}", params=parameters, headers=bearer(by))

    async def post(self, path: str, body: Any = None, *, by: str = "ada") -> httpx.Response:
        return await self.client.post(f"/api/v1{path}", json=body, headers=bearer(by))

    async def delete(self, path: str, *, by: str = "ada") -> httpx.Response:
        return await self.client.delete(f"/api/v1{path}", headers=bearer(by))


@contextlib.asynccontextmanager
async def open_real_site(folder: Path, text: str = CONFIGURATION) -> AsyncIterator[Site]:
    """The same on the drivers that serve: SQLite and git."""
    data = folder / "data"
    ledger = await open_ledger(data)
    repository = data / "archive.git"
    async with open_site(
        folder, text, ledger=ledger, archive=lambda clock: GitArchive(repository, clock)
    ) as site:
        yield site


@contextlib.asynccontextmanager
async def open_site(
    folder: Path,
    text: str = CONFIGURATION,
    *,
    ledger: Ledger | None = None,
    archive: Callable[[Clock], Archive] = MemoryArchive,
) -> AsyncIterator[Site]:
    """The controller of the configuration `text`, open and called in process."""
    file = folder / "roundsman.yaml"
    file.write_text(text)
    clock = ManualClock(START)
    ledger = ledger or MemoryLedger()
    kept = archive(clock)
    controller = Controller(
        load(file, environ={}),
        ledger=ledger,
        archive=kept,
        clock=clock,
        data=folder / "data",
        load=lambda: load(file, environ={}),
    )
    await controller.open()
    try:
        async with AsyncTestClient(build_app(controller), base_url="http://127.0.0.1") as client:
            yield Site(controller, ledger, kept, clock, client, file)
    finally:
        await controller.close()
