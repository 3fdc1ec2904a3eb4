"""One device of some kind."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial

import asyncssh

from roundsman.simulator.faults import NO_FAULTS, Faults
from roundsman.simulator.kinds import Enter, Kind, Leave, State
from roundsman.simulator.server import HOST, DialogueServer, Login
from roundsman.simulator.terminal import Answer, Dialogue, drawn
from roundsman.wire.device import ProtocolType

__all__ = ["HOST", "KindDialogue", "SimulatedDevice"]


class SimulatedDevice(DialogueServer):
    """A device of some kind, on a port of the loopback interface."""

    def __init__(
        self,
        kind: Kind,
        name: str,
        *,
        user: str = "admin",
        password: str = "letmein",
        protocol: ProtocolType = ProtocolType.SSH,
        faults: Faults = NO_FAULTS,
        config_bytes: int = 4000,
        host_key: asyncssh.SSHKey | None = None,
        dialogue: Callable[[], Dialogue] | None = None,
    ) -> None:
        """Describe the device; `start` brings it up. `dialogue` replaces that of its kind."""
        super().__init__(
            dialogue or partial(KindDialogue, self),
            protocol=protocol,
            login=Login(user=user, password=password),
            faults=faults,
            host_key=host_key,
        )
        self.kind = kind
        self.name = name
        self.user = user
        self.password = password
        self.state = State(host=name, config_bytes=config_bytes)

    def edit(self) -> None:
        """Change the configuration."""
        self.state = replace(self.state, revision=self.state.revision + 1)

    def output(self, command: str) -> str:
        """What a command prints now, with LF line ends."""
        found = self.kind.commands.get(command)
        return found(self.state) if callable(found) else ""

    def files(self) -> Mapping[str, Callable[[], bytes]]:
        """Those of the kind."""
        return {path: partial(make, self.state) for path, make in self.kind.files.items()}


class KindDialogue(Dialogue):
    """What a device of a kind answers, in one session."""

    def __init__(self, device: SimulatedDevice) -> None:
        """Begin in the kind's first mode."""
        self._device = device
        self._first_mode = next(iter(device.kind.prompts))
        self._mode = self._first_mode

    def begin(self) -> Answer:
        """The kind's greeting."""
        return _printed(self._device.kind.greeting.format(host=self._device.name))

    def prompt(self) -> bytes:
        """The mode's prompt."""
        return self._device.kind.prompts[self._mode].format(host=self._device.name).encode()

    def answer(self, line: str) -> Answer:
        """Carry out a command."""
        command = line.strip()
        if not command:
            return Answer(output=b"")
        match self._device.kind.commands.get(command):
            case None:
                return _printed(self._device.kind.unknown.format(command=command))
            case Enter(mode=mode):
                self._mode = mode
                return Answer(output=b"")
            case Leave() if self._mode == self._first_mode:
                return Answer(output=b"", ends_session=True)
            case Leave():
                self._mode = self._first_mode
                return Answer(output=b"")
            case prints:
                return _printed(prints(self._device.state))


def _printed(text: str) -> Answer:
    return Answer(output=drawn(text.encode()))
