"""A controller with all its surfaces, as a client sees it."""

import random
from collections.abc import Sequence
from pathlib import Path

from roundsman.client.fleet import FleetApi
from roundsman.client.manage import ManageApi
from roundsman.client.transport import Transport
from roundsman.client.worker import WorkerApi
from roundsman.clock import Clock
from roundsman.secret import Secret


class ControllerClient(Transport):
    """The transport with the surfaces on it.

    `async with ControllerClient("https://…", token=Secret("…")) as client: …` and then
    `await client.manage.devices()`.
    """

    def __init__(
        self,
        address: str | Sequence[str],
        *,
        token: Secret | None = None,
        ca_file: Path | None = None,
        clock: Clock | None = None,
        chance: random.Random | None = None,
    ) -> None:
        """As `Transport`."""
        super().__init__(address, token=token, ca_file=ca_file, clock=clock, chance=chance)
        self.worker = WorkerApi(self)
        """Leases and results."""
        self.fleet = FleetApi(self)
        """Commands on demand."""
        self.manage = ManageApi(self)
        """Lists and switches."""
