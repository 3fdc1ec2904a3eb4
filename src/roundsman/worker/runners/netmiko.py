"""Runs command jobs by netmiko's drivers, in threads, where the device's platform names one."""

import asyncio
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Final, TypeVar

import asyncssh

from roundsman import logs
from roundsman.wire.device import Credentials, ProtocolType
from roundsman.wire.execution import Execution
from roundsman.worker.runners.keeping import EVIDENCE_BYTES, Keeper
from roundsman.worker.runners.steps import Step, check
from roundsman.worker.sessions import tcp
from roundsman.worker.sessions.access import Access
from roundsman.worker.sessions.errors import AuthenticationError, PlatformError
from roundsman.worker.sessions.transcript import Span, Transcript

if TYPE_CHECKING:
    from roundsman.worker.sessions.netmiko_driver import NetmikoSession

log = logs.get(__name__)

SESSIONS: Final = 20
"""How many such sessions a worker has at once, each in a thread of its own; more wait."""

_LEAVE_SECONDS: Final = 2.0
"""To say goodbye; then the connection is dropped."""

_ABORT_SECONDS: Final = 2.0
"""How long a thread whose connection was dropped is waited for."""

_T = TypeVar("_T")


class NetmikoThreads:
    """The threads of all such sessions of a worker."""

    def __init__(self) -> None:
        self._threads = ThreadPoolExecutor(max_workers=SESSIONS, thread_name_prefix="netmiko")
        self.free = asyncio.Semaphore(SESSIONS)
        """Held by each session under way."""

    def submit(self, work: Callable[[], _T]) -> "Future[_T]":
        """Begin work in a thread."""
        return self._threads.submit(work)

    def close(self) -> None:
        """Let go of the threads, without waiting for them."""
        self._threads.shutdown(wait=False, cancel_futures=True)


class NetmikoRun:
    """One session under way."""

    def __init__(
        self,
        execution: Execution,
        steps: list[Step],
        keeper: Keeper,
        threads: NetmikoThreads,
        *,
        max_bytes: int,
        connect_seconds: float,
        login_seconds: float,
        on_received: Callable[[int], None],
    ) -> None:
        self._device = execution.device
        self._job = execution.job
        self._steps = steps
        self._keeper = keeper
        self._threads = threads
        self._max_bytes = max_bytes
        self._connect_seconds = connect_seconds
        self._login_seconds = login_seconds
        self._on_received = on_received
        self._session: NetmikoSession | None = None
        self._transcript: Transcript | None = None

    async def speak(self, access: Access, transcript: Transcript) -> list[Span]:
        """From logging in to logging out; the parts of the transcript that are the result."""
        if not all(step.command.implicit_enter for step in self._steps):
            raise PlatformError("netmiko sends a line end after every command: set enter: true")
        self._transcript = transcript
        async with self._threads.free:
            make = await self._in_thread(_load)
            session = await self._open(make, access)
            try:
                spans = await self._converse(session, transcript)
            except BaseException:
                session.abort()
                raise
            with suppress(TimeoutError):
                async with asyncio.timeout(_LEAVE_SECONDS):
                    await self._in_thread(session.close)
            return spans

    async def _open(self, make: "type[NetmikoSession]", access: Access) -> "NetmikoSession":
        """A session that is logged in, by the first of the credentials that is accepted."""
        tried = access.credentials.ordered(self._device) or (None,)
        for credentials in tried:
            session = self._session = await self._made(make, access, credentials)
            try:
                await self._in_thread(session.open)
            except AuthenticationError:
                session.abort()
                if credentials is tried[-1]:
                    raise
            except BaseException:
                session.abort()
                raise
            else:
                if credentials is not None:
                    access.credentials.worked(self._device, credentials)
                log.info("session.netmiko", device=self._device.name, proof="pattern")
                return session
        raise AssertionError("the last one raises")

    async def _made(
        self,
        make: "type[NetmikoSession]",
        access: Access,
        credentials: Credentials | None,
    ) -> "NetmikoSession":
        device, loop = self._device, asyncio.get_running_loop()
        ssh = device.protocol.ssh
        host_keys, deadline = access.host_keys, access.deadline

        def check_key(shown: asyncssh.SSHKey) -> None:
            """The store belongs to the event loop: ask there."""

            async def ask() -> None:
                host_keys.check(device.host, ssh.port, shown, ssh.host_keys)

            asyncio.run_coroutine_threadsafe(ask(), loop).result(self._connect_seconds)

        def received(count: int) -> None:
            """A whole output reaches the transcript at once; until then it would seem to stall."""
            loop.call_soon_threadsafe(self._on_received, count)

        connected = None
        if device.protocol.type is ProtocolType.SSH:
            connected = await tcp.connect(
                device.host, ssh.port, device.protocol, deadline, seconds=self._connect_seconds
            )
        return make(
            device,
            credentials,
            connected,
            deadline,
            known_keys=host_keys.known(device.host, ssh.port, ssh.host_keys),
            check_key=check_key,
            connect_seconds=self._connect_seconds,
            login_seconds=self._login_seconds,
            max_bytes=self._max_bytes,
            tail_bytes=EVIDENCE_BYTES,
            on_received=received,
        )

    async def _converse(self, session: "NetmikoSession", transcript: Transcript) -> list[Span]:
        spans = []
        for step in self._steps:
            transcript.write(session.take_heard())
            seconds = step.command.timeout or self._job.command_timeout
            run = partial(session.run, step.command.command, seconds)
            output = await self._in_thread(run)
            session.take_heard()
            start = transcript.size
            transcript.write(output)
            spans.append(Span(start, transcript.size))
            if step.expects:
                verify = partial(check, step, transcript, spans[-1])
                await self._keeper.patterns.apply(verify, len(output))
        return spans

    def give_up(self) -> None:
        """Add to the transcript what the device was just writing."""
        if self._session is not None and self._transcript is not None:
            self._transcript.write(self._session.take_heard())

    async def _in_thread(self, work: Callable[[], _T]) -> _T:
        """What it returns; cancelled, it drops the connection and waits a moment for the thread."""
        work_done = asyncio.wrap_future(self._threads.submit(work))
        try:
            return await asyncio.shield(work_done)
        except asyncio.CancelledError:
            if self._session is not None:
                self._session.abort()
            done, _ = await asyncio.wait({work_done}, timeout=_ABORT_SECONDS)
            for ended in done:
                ended.exception()  # what dropping the connection did is no news
            raise


def _load() -> "type[NetmikoSession]":
    """The library is an extra, takes a second to import, and most workers never need it."""
    try:
        from roundsman.worker.sessions.netmiko_driver import NetmikoSession  # noqa: PLC0415 - above
    except ImportError:
        raise PlatformError(
            "the device's platform is one of netmiko's drivers, and netmiko is not installed on "
            "this worker",
            remedy='install "roundsman[netmiko]" there, or give the device a platform file',
        ) from None
    return NetmikoSession
