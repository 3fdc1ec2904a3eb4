"""A worker put together: its loops in one group, begun in order and ended in order."""

import asyncio
import random
import signal
from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import Final

from roundsman import logs
from roundsman.client import ControllerClient
from roundsman.client.transport import parse_address
from roundsman.clock import Clock, SystemClock
from roundsman.config.settings import is_loopback
from roundsman.secret import Secret
from roundsman.wire.execution import Execution
from roundsman.worker import identity, open_files
from roundsman.worker.control_channel import ControlChannel
from roundsman.worker.heartbeat import Heartbeat
from roundsman.worker.identity import Enrolment
from roundsman.worker.lease_loop import LeaseLoop
from roundsman.worker.leases import HeldLeases
from roundsman.worker.outbox import Outbox
from roundsman.worker.places import OPEN_PER_BUSY, Places
from roundsman.worker.policy import Policy
from roundsman.worker.policy_file import load_policy
from roundsman.worker.runners.device import SessionRunner, all_credentials
from roundsman.worker.runners.interface import DeviceRunner
from roundsman.worker.runners.process import ProcessRunner
from roundsman.worker.sessions.host_keys import HostKeyStore
from roundsman.worker.settings import WorkerSettings
from roundsman.worker.uploader import Uploader
from roundsman.worker.waiting import wait_for_event

log = logs.get(__name__)

FLUSH_SECONDS: Final = 30.0
"""How long a worker that stops goes on trying to hand over results; the rest waits on disk."""


class WorkerService:
    """One worker, from its start to its end.

    `stop()` finishes what runs, hands it over, then leaves; `cancel()` leaves at once. Nothing
    that has ended is lost by either: it is on disk, and handed over after the next start.
    """

    def __init__(
        self,
        settings: WorkerSettings,
        device_runner: DeviceRunner | None = None,
        clock: Clock | None = None,
    ) -> None:
        """Be told everything; nothing is touched yet.

        Without a `device_runner` it is the one that logs in to devices; without a `clock` it is the
        machine's.
        """
        self._settings = settings
        self._device_runner = device_runner
        self._clock = clock or SystemClock()
        self._chance = random.SystemRandom()
        self._stopping = asyncio.Event()
        self._work: asyncio.Task[None] | None = None

    async def run(self) -> None:
        """Work until stopped or cancelled.

        Raises `StateLockedError`, `IdentityUnreadableError`, `AddressError`, `CertificateError`,
        `OSError`, and `ConfigurationError` of the policy file.
        """
        self._work = asyncio.create_task(self._run(), name="worker")
        try:
            await asyncio.wait({self._work})
        except asyncio.CancelledError:
            self._work.cancel()
            await asyncio.wait({self._work})
            raise
        if self._work.cancelled():
            log.warning("worker.cancelled")
        else:
            self._work.result()

    def stop(self) -> None:
        """Take nothing more, finish what runs, hand it over, leave."""
        self._stopping.set()

    def cancel(self) -> None:
        """Leave at once."""
        if self._work is not None:
            self._work.cancel()

    async def _run(self) -> None:
        settings = self._settings
        policy = load_policy(settings.policy) if settings.policy else Policy()
        for given in _addresses(settings):
            address = parse_address(given)
            if address.scheme == "http" and not is_loopback(address.host or ""):
                log.warning("worker.no_tls", controller=given)
        with identity.locked(settings.state):
            outbox = Outbox(settings.state, settings.outbox)
            await asyncio.to_thread(outbox.open)
            try:
                async with ControllerClient(
                    settings.controller, ca_file=settings.ca_file, clock=self._clock
                ) as client:
                    with self._device_runner_opened() as runner:
                        await self._serve(client, outbox, runner, policy)
            finally:
                outbox.close()

    @contextmanager
    def _device_runner_opened(self) -> Iterator[DeviceRunner]:
        if self._device_runner is not None:
            yield self._device_runner
            return
        settings = self._settings
        keys = HostKeyStore(settings.state / "known_hosts", settings.host_keys)
        with closing(SessionRunner(keys, agent=settings.ssh_agent)) as runner:
            yield runner

    async def _serve(
        self, client: ControllerClient, outbox: Outbox, runner: DeviceRunner, policy: Policy
    ) -> None:
        most_open = open_files.make_room(self._settings.sessions * OPEN_PER_BUSY)
        clock, chance = self._clock, self._chance
        enrolment = Enrolment(self._settings, client, clock=clock, chance=chance)
        if not await self._establish(enrolment):
            return
        leases = HeldLeases()
        heartbeat = Heartbeat(client=client, enrolment=enrolment, leases=leases, clock=clock)
        uploader = Uploader(
            client=client,
            outbox=outbox,
            leases=leases,
            heartbeat=heartbeat,
            clock=clock,
            chance=chance,
        )
        processes = ProcessRunner(
            policy,
            folder=self._settings.state / "processes",
            clock=clock,
            tags=self._settings.tags,
        )
        await processes.open()
        processes.mask(self._own_tokens(enrolment))
        lease_loop = LeaseLoop(
            settings=self._settings,
            client=client,
            runner=runner,
            outbox=outbox,
            leases=leases,
            heartbeat=heartbeat,
            places=Places(busy=self._settings.sessions, most_open=most_open, clock=clock),
            clock=clock,
            chance=chance,
            on_execution=lambda execution: processes.mask(_secrets_of(execution)),
        )
        channel = ControlChannel(
            client=client,
            worker_id=lambda: enrolment.worker_id,
            runner=processes,
            clock=clock,
            chance=chance,
            tags=self._settings.tags,
            on_refused=heartbeat.hurry,
        )
        try:
            async with asyncio.TaskGroup() as group:
                lasting = [
                    group.create_task(loop.run(), name=type(loop).__name__)
                    for loop in (heartbeat, uploader)
                ]
                group.create_task(channel.run(), name="ControlChannel")
                leasing = group.create_task(lease_loop.run(), name="LeaseLoop")
                await self._stopping.wait()
                log.info("worker.stopping", held=len(leases.keys()))
                lease_loop.stop()
                await leasing
                if not await wait_for_event(outbox.empty, clock, FLUSH_SECONDS):
                    log.warning("worker.left_results", count=len(outbox.entries))
                await channel.stop()
                for task in lasting:
                    task.cancel()
        finally:
            await processes.detach()
        log.info("worker.stopped")

    def _own_tokens(self, enrolment: Enrolment) -> Iterator[Secret]:
        yield enrolment.token
        if self._settings.token is not None:
            yield self._settings.token

    async def _establish(self, enrolment: Enrolment) -> bool:
        """Enrol if need be; false when told to stop before that succeeded."""
        enrolling = asyncio.create_task(enrolment.establish(), name="enrolment")
        stopping = asyncio.create_task(self._stopping.wait())
        try:
            await asyncio.wait({enrolling, stopping}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            stopping.cancel()
            if not enrolling.done():
                enrolling.cancel()
        if enrolling.done():
            enrolling.result()
        return enrolling.done()


def _addresses(settings: WorkerSettings) -> tuple[str, ...]:
    given = settings.controller
    return (given,) if isinstance(given, str) else given


def _secrets_of(execution: Execution) -> Iterator[Secret]:
    for credentials in all_credentials(execution.device):
        for secret in (
            credentials.password,
            credentials.private_key,
            credentials.passphrase,
            credentials.enable,
        ):
            if secret:
                yield secret


async def run_until_signalled(service: WorkerService) -> None:
    """Run it as a process does: the first SIGTERM or SIGINT stops it, the second cancels it."""
    loop = asyncio.get_running_loop()
    signalled = False

    def on_signal() -> None:
        nonlocal signalled
        if signalled:
            service.cancel()
        else:
            signalled = True
            service.stop()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, on_signal)
    try:
        await service.run()
    finally:
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.remove_signal_handler(number)
