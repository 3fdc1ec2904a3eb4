"""Access to devices: the way to each, and the login there."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from copy import copy
from pathlib import Path

from roundsman.wire.device import Device
from roundsman.worker.deadline import NO_DEADLINE, LeaseDeadline
from roundsman.worker.sessions import telnet
from roundsman.worker.sessions.credentials import CredentialOrder
from roundsman.worker.sessions.host_keys import HostKeyStore
from roundsman.worker.sessions.jump_hosts import JumpHosts
from roundsman.worker.sessions.ssh import SshClient
from roundsman.worker.sessions.ssh_channel import SshConnection
from roundsman.worker.sessions.telnet import TelnetChannel


class Access:
    """What all sessions of a worker share."""

    def __init__(
        self,
        host_keys: HostKeyStore,
        *,
        agent: Path | None = None,
        connect_seconds: float,
        login_seconds: float,
    ) -> None:
        """Check devices and jump hosts against `host_keys`; `agent` is the SSH agent's socket.

        `connect_seconds` bounds the wait for an answer, `login_seconds` all between that and being
        logged in, at each step of the way.
        """
        self.host_keys = host_keys
        """The keys that devices and jump hosts may show."""
        self.credentials = CredentialOrder()
        """What to log in with first."""
        self.deadline = NO_DEADLINE
        """Looked at before anything is sent."""
        self._client = SshClient(host_keys=host_keys, credentials=self.credentials, agent=agent)
        self._login_seconds = login_seconds
        self._jump_hosts = JumpHosts(
            self._client, connect_seconds=connect_seconds, login_seconds=login_seconds
        )

    def until(self, deadline: LeaseDeadline) -> "Access":
        """The same access, for one run with this deadline."""
        limited = copy(self)
        limited.deadline = deadline
        return limited

    @asynccontextmanager
    async def ssh(self, device: Device) -> AsyncIterator[SshConnection]:
        """Log in over SSH; on leaving disconnect, or abort when leaving by an error."""
        async with (
            self._jump_hosts.way_to(device, self.deadline) as route,
            self._client.connect(device, route, login_seconds=self._login_seconds) as connection,
        ):
            yield connection

    @asynccontextmanager
    async def telnet(self, device: Device) -> AsyncIterator[TelnetChannel]:
        """Connect by Telnet; on leaving, disconnect. To log in is the shell's work."""
        async with (
            self._jump_hosts.way_to(device, self.deadline) as route,
            telnet.connect(device, route) as channel,
        ):
            yield channel

    def close(self) -> None:
        """Drop the connections to jump hosts, without waiting for it."""
        self._jump_hosts.close()
