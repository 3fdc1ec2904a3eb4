"""Many devices at once, and the configuration that matches them."""

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from typing import Any, Final

import asyncssh

from roundsman.clock import Clock, SystemClock
from roundsman.simulator.device import HOST, SimulatedDevice
from roundsman.simulator.faults import NO_FAULTS, Faults
from roundsman.simulator.kinds import KINDS, Kind

_SLOW: Final = Faults(latency=0.3, piece_bytes=200, piece_seconds=0.1)
_REFUSING: Final = Faults(refuses_password=True)

# The job that backs up each kind, as a configuration file has it.
_JOBS: Final[dict[str, dict[str, Any]]] = {
    "ios": {
        "command": {"inline": ["terminal length 0", "show running-config"]},
        "prompt": {"ends_with": "#"},
        "scrubbers": [
            {"type": "regex", "search": r"^enable secret .*$", "replace": "enable secret removed"},
            {"type": "regex", "search": r"^! Last configuration change.*\n"},
        ],
    },
    "junos": {
        "command": {"inline": ["set cli screen-length 0", "show configuration"]},
        "prompt": {"ends_with": ">"},
        "scrubbers": [
            {
                "type": "regex_substitute",
                "search": r'encrypted-password "\S+"(.*)$',
                "replace": r'encrypted-password "removed"\1',
            }
        ],
    },
    "linux": {
        "type": "file",
        "files": [{"name": "/etc/config.gz", "compression": "gzip"}],
    },
}


class SimulatedFleet:
    """Devices of all kinds on ports of the loopback interface.

    From three devices on, the first one's configuration changes by itself, the second is slow and
    the third refuses the password; all others are well.
    """

    def __init__(
        self,
        count: int = 12,
        *,
        kinds: Sequence[Kind] = KINDS,
        with_faults: bool = True,
        config_bytes: int = 4000,
        change_seconds: float = 30.0,
        clock: Clock | None = None,
    ) -> None:
        """Describe `count` devices; the changing one changes every `change_seconds`."""
        # One host key for all: making them is most of the price of making a large fleet.
        host_key = asyncssh.generate_private_key("ssh-ed25519")
        self.devices = [
            SimulatedDevice(
                kinds[number % len(kinds)],
                f"{kinds[number % len(kinds)].name}-{number // len(kinds) + 1:02}",
                password=f"letmein-{number}",
                config_bytes=config_bytes,
                host_key=host_key,
                faults={1: _SLOW, 2: _REFUSING}.get(number, NO_FAULTS)
                if with_faults
                else NO_FAULTS,
            )
            for number in range(count)
        ]
        self._changing = self.devices[0] if with_faults else None
        self._change_seconds = change_seconds
        self._clock = clock or SystemClock()
        self._changes: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Bring all devices up."""
        for device in self.devices:
            await device.start()
        if self._changing is not None:
            self._changes = asyncio.create_task(self._change(self._changing))

    async def stop(self) -> None:
        """Take all devices down."""
        if self._changes is not None:
            self._changes.cancel()
            with suppress(asyncio.CancelledError):
                await self._changes
        await asyncio.gather(*(device.stop() for device in self.devices))

    async def __aenter__(self) -> "SimulatedFleet":
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    async def _change(self, device: SimulatedDevice) -> None:
        while True:
            await self._clock.sleep(self._change_seconds)
            device.edit()

    def configuration(self, *, every: str = "1 minute") -> dict[str, Any]:
        """Devices and jobs as plain data, as a configuration file has them; due `every` so often.

        For a started fleet: the ports are those it listens on.
        """
        names = {device.kind.name for device in self.devices}
        return {
            "job_generics": {"default": {"schedule": {"duration": every}}},
            "jobs": {_job_name(kind): dict(_JOBS[kind]) for kind in _JOBS if kind in names},
            "devices": {
                device.name: {
                    "host": HOST,
                    "protocol": {"type": "ssh", "ssh": {"port": device.port}},
                    "tags": ["simulated", device.kind.name],
                    "credentials": {
                        "user": device.user,
                        "pass": device.password,
                        "prompt": {"ends_with": device.kind.prompt_ends_with},
                    },
                    "jobs": [_job_name(device.kind.name)],
                }
                for device in self.devices
            },
        }


def _job_name(kind: str) -> str:
    return f"{kind}_configuration"
