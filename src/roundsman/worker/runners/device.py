"""Runs an execution against its device: logs in, does the job, keeps what came of it."""

import asyncio
import shlex
from collections.abc import Awaitable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from roundsman.secret import Secret
from roundsman.wire.device import Credentials, Device, ProtocolType
from roundsman.wire.execution import Execution
from roundsman.wire.job import Command, Job, JobType
from roundsman.wire.run import FailureClass
from roundsman.worker.deadline import NO_DEADLINE, LeaseDeadline
from roundsman.worker.patterns import PatternError
from roundsman.worker.runners.files import fetch_files
from roundsman.worker.runners.interface import ResultFile, RunFailedError
from roundsman.worker.runners.keeping import EVIDENCE_BYTES, Keeper, PatternThreads
from roundsman.worker.runners.netmiko import NetmikoRun, NetmikoThreads
from roundsman.worker.runners.steps import Step, check, read_steps
from roundsman.worker.runners.time_limits import within
from roundsman.worker.scrubbers import Scrubbers
from roundsman.worker.sessions.access import Access
from roundsman.worker.sessions.channel import Channel
from roundsman.worker.sessions.errors import (
    AuthenticationError,
    ClosedEarlyError,
    EnableError,
    PlatformError,
    PromptError,
    RejectedError,
    SessionError,
    TimedOutError,
)
from roundsman.worker.sessions.events import Began, Connected, Ended, Hear, nobody
from roundsman.worker.sessions.execute import execute
from roundsman.worker.sessions.host_keys import HostKeyStore
from roundsman.worker.sessions.login import TerminalLogin
from roundsman.worker.sessions.manners import BYTES_OF_COMPLAINT, Manners
from roundsman.worker.sessions.shell import Patience, Shell
from roundsman.worker.sessions.ssh_channel import SshConnection
from roundsman.worker.sessions.tape import Tape
from roundsman.worker.sessions.transcript import Span, Transcript


@dataclass(frozen=True, kw_only=True)
class TimeLimits:
    """What a session may take beside its commands, in seconds."""

    connect: float = 15
    """Until the device answers."""
    login: float = 30
    """From there until logged in, and from there until a terminal is open."""
    prompt: float = 300
    """From there until the prompt is known. Long, for devices that greet slowly: for how long they
    may be silent is the shell's matter."""
    enable: float = 30
    """From there until the privileged mode is reached."""
    leave: float = 2
    """To say goodbye; then the connection is closed."""
    patience: Patience = field(default_factory=Patience)
    """The shell's."""


class SessionRunner:
    """The `DeviceRunner` that logs in. One for all sessions of a worker."""

    def __init__(
        self,
        host_keys: HostKeyStore,
        *,
        agent: Path | None = None,
        limits: TimeLimits | None = None,
        hear: Hear = nobody,
        whole_tapes: bool = False,
    ) -> None:
        """Check devices against `host_keys`; `agent` is the SSH agent's socket, if permitted.

        `hear` is told what happens in sessions. With `whole_tapes` recordings are whole, however
        large, and made of sessions that succeed too.
        """
        self._hear = hear
        self._whole_tapes = whole_tapes
        self._limits = limits or TimeLimits()
        self._threads = PatternThreads()
        self._access = Access(
            host_keys,
            agent=agent,
            connect_seconds=self._limits.connect,
            login_seconds=self._limits.login,
        )
        self._netmiko = NetmikoThreads()

    def close(self) -> None:
        """Let go of the threads and the connections to jump hosts, without waiting for them."""
        self._threads.close()
        self._access.close()
        self._netmiko.close()

    async def run(
        self, execution: Execution, result: ResultFile, deadline: LeaseDeadline = NO_DEADLINE
    ) -> None:
        """See `DeviceRunner`."""
        job, device = execution.job, execution.device
        access = self._access.until(deadline)
        title = f"{job.name} on {device.name} ({device.host})"
        keeper = Keeper(
            title,
            _read_scrubbers(job, title),
            all_credentials(device),
            self._threads.of(job.name),
            detected_secrets=job.detected_secrets,
        )
        manners = _read_manners(device, title)
        steps = read_steps(job, title)
        with result.scratch() as file, result.scratch() as tape_file:
            tape = self._tape(tape_file, result.max_bytes)
            session: _Session | NetmikoRun
            if steps and device.netmiko is not None:
                session = NetmikoRun(
                    execution,
                    steps,
                    keeper,
                    self._netmiko,
                    max_bytes=result.max_bytes + EVIDENCE_BYTES,
                    connect_seconds=self._limits.connect,
                    login_seconds=self._limits.login,
                    on_received=result.on_received,
                )
            else:
                session = _Session(execution, steps, manners, keeper, self._limits, hear=tape.hear)
            transcript = Transcript(
                file,
                max_bytes=result.max_bytes + EVIDENCE_BYTES,
                on_growth=result.on_received,
            )
            try:
                spans = await session.speak(access, transcript)
            except SessionError as error:
                session.give_up()
                failure = await keeper.failure(error, transcript, result)
                await keeper.record(tape, manners, result)
                raise failure from None
            except asyncio.CancelledError:
                session.give_up()
                late = TimedOutError(
                    f"the session did not end within the {job.session_timeout} seconds that it "
                    "may take"
                )
                failure = await keeper.failure(late, transcript, result)
                await keeper.record(tape, manners, result)
                raise failure from None
            if self._whole_tapes:
                await keeper.record(tape, manners, result)
            await keeper.keep(transcript, spans, result)

    def _tape(self, file: IO[bytes], max_bytes: int) -> Tape:
        if self._whole_tapes:
            return Tape(file, head_bytes=max_bytes + EVIDENCE_BYTES, then=self._hear)
        return Tape(file, then=self._hear)


class _Session:
    """One session under way."""

    def __init__(
        self,
        execution: Execution,
        steps: list[Step],
        manners: Manners,
        keeper: Keeper,
        limits: TimeLimits,
        *,
        hear: Hear,
    ) -> None:
        self._hear = hear
        self._execution = execution
        self._device = execution.device
        self._job = execution.job
        self._steps = steps
        self._manners = manners
        self._keeper = keeper
        self._limits = limits
        self._shell: Shell | None = None

    async def speak(self, access: Access, transcript: Transcript) -> list[Span]:
        """From logging in to logging out; the parts of the transcript that are the result."""
        if self._job.type is JobType.FILE:
            return await fetch_files(
                self._execution,
                access,
                transcript,
                connect_seconds=self._limits.connect,
                login_seconds=self._limits.login,
            )
        if self._device.protocol.type is ProtocolType.TELNET:
            return await self._speak_telnet(access, transcript)
        return await self._speak_ssh(access, transcript)

    async def _speak_ssh(self, access: Access, transcript: Transcript) -> list[Span]:
        async with access.ssh(self._device) as connection:
            self._hear(Connected(_where(self._device), connection.host_key))
            if self._manners.platform.exec:
                return [
                    await self._unless_rejected(step, self._execute(connection, step, transcript))
                    for step in self._steps
                ]
            channel = await self._open_terminal(connection)
            used = connection.credentials
            login = None
            if used is not None and self._device.platform is not None:
                login = TerminalLogin([used], awaited=False)  # which some ask for once more
            shell = await self._enter(channel, transcript, used, login)
            return await self._run_steps(shell, transcript)

    async def _speak_telnet(self, access: Access, transcript: Transcript) -> list[Span]:
        credentials = access.credentials.ordered(self._device)
        login = TerminalLogin(credentials, awaited=True) if credentials else None
        while True:
            async with access.telnet(self._device) as channel:
                self._hear(Connected(_where(self._device), None))
                try:
                    shell = await self._enter(channel, transcript, None, login)
                except (AuthenticationError, ClosedEarlyError) as error:
                    if login is None or not login.tried:
                        raise
                    if login.connect_again():
                        continue
                    if isinstance(error, ClosedEarlyError) and login.password_given:
                        raise login.denied() from None
                    raise
                if login is not None:
                    access.credentials.worked(self._device, login.credentials)
                return await self._run_steps(shell, transcript)

    async def _run_steps(self, shell: Shell, transcript: Transcript) -> list[Span]:
        spans = [
            await self._unless_rejected(step, self._run_step(shell, step, transcript))
            for step in self._steps
        ]
        with suppress(TimeoutError):
            async with asyncio.timeout(self._limits.leave):
                await shell.leave()
        return spans

    def give_up(self) -> None:
        """Add to the transcript what the device was just writing."""
        if self._shell is not None:
            self._shell.give_up()

    async def _open_terminal(self, connection: SshConnection) -> Channel:
        seconds = self._limits.login
        async with within(seconds, PromptError(f"no terminal was opened within {seconds:g} s")):
            return await connection.open_terminal()

    async def _enter(
        self,
        channel: Channel,
        transcript: Transcript,
        used: Credentials | None,
        login: TerminalLogin | None,
    ) -> Shell:
        """From the first line that the device shows to where commands can be run.

        `used` is what the connection was opened with, `login` what is given in the terminal.
        """
        shell = self._shell = Shell(
            channel,
            transcript,
            patience=self._limits.patience,
            manners=self._manners,
            hear=self._hear,
        )
        await self._learn_prompt(shell, used, login)
        used = login.credentials if login else used
        seconds = self._limits.enable
        late = EnableError(f"the privileged mode was not reached within {seconds:g} s")
        async with within(seconds, late):
            await shell.enable(_bytes(used.enable or used.password) if used else None)
        for command in self._manners.platform.setup:
            seconds = self._job.command_timeout
            late_setup = TimedOutError(f"{command!r} did not end within {seconds} s")
            self._hear(Began(command, is_setup=True))
            async with within(seconds, late_setup):
                self._hear(Ended(command, await shell.run(command)))
        return shell

    async def _learn_prompt(
        self, shell: Shell, used: Credentials | None, login: TerminalLogin | None
    ) -> None:
        platform = self._device.platform
        prompt = used.prompt if used else None
        if prompt is None and platform is None:
            prompt = self._job.prompt
        seconds = self._limits.prompt
        kind = f"of the platform {platform.name!r} " if platform and platform.prompts else ""
        kind += f"ending with {prompt.ends_with!r} " if prompt else ""
        async with within(seconds, PromptError(f"no prompt {kind}came within {seconds:g} s")):
            await shell.learn_prompt(prompt.ends_with if prompt else None, login)

    @staticmethod
    async def _unless_rejected(step: Step, output: Awaitable[Span]) -> Span:
        """The output of a command; nothing of it when it may be rejected, and was."""
        try:
            return await output
        except RejectedError:
            if not step.command.optional:
                raise
            return Span(0, 0)

    async def _run_step(self, shell: Shell, step: Step, transcript: Transcript) -> Span:
        command = step.command
        seconds = command.timeout or self._job.command_timeout
        ending = f", ending with {self._job.prompt.ends_with!r}," if self._job.prompt else ""
        late = TimedOutError(
            f"{command.command!r} did not end within {seconds} s: expected a prompt of "
            f"{shell.prompt_text}{ending} after it"
        )
        self._hear(Began(command.command, is_setup=False))
        async with within(seconds, late):
            output = await shell.run(
                command.command,
                ends_with=self._job.prompt.ends_with if self._job.prompt else None,
                enter=command.implicit_enter,
            )
        self._hear(Ended(command.command, output))
        await self._verify(step, transcript, output)
        return output

    async def _execute(self, connection: SshConnection, step: Step, transcript: Transcript) -> Span:
        command = step.command
        seconds = command.timeout or self._job.command_timeout
        late = TimedOutError(f"{command.command!r} did not end within {seconds} s")
        self._hear(Began(command.command, is_setup=False))
        async with within(seconds, late):
            channel = await connection.open_command(_with_passphrase(command, connection))
            output = await execute(channel, command.command, transcript, self._hear)
        self._hear(Ended(command.command, output))
        await self._verify(step, transcript, output)
        return output

    async def _verify(self, step: Step, transcript: Transcript, output: Span) -> None:
        """Hold an output against what the platform and the job know of it."""
        if self._manners.platform.errors:
            self._check_accepted(step.command.command, transcript, output)
        if step.expects:
            size = output.end - output.start
            await self._keeper.patterns.apply(lambda e: check(step, transcript, output, e), size)

    def _check_accepted(self, command: str, transcript: Transcript, output: Span) -> None:
        first = Span(output.start, min(output.end, output.start + BYTES_OF_COMPLAINT))
        complaint = self._manners.complaint(b"".join(transcript.read(first)))
        if complaint is not None:
            raise RejectedError(
                f"the device did not accept {command!r}: its answer matches {complaint!r}"
            )


def all_credentials(device: Device) -> Iterator[Credentials]:
    """Everything that is shown on the way to the device and by it."""
    for host in (device, *device.jump_hosts):
        yield from host.all_credentials


def _where(device: Device) -> str:
    protocol = device.protocol
    used = protocol.telnet if protocol.type is ProtocolType.TELNET else protocol.ssh
    return f"{device.host} port {used.port}"


def _with_passphrase(command: Command, connection: SshConnection) -> str:
    """The line to send; not to be shown, unlike the command itself."""
    if not command.passphrase:
        return command.command
    secret = connection.credentials.enable if connection.credentials else None
    if not secret:
        raise PlatformError(
            f"{command.command!r} takes a passphrase, which is the enable secret of the "
            "credentials, and there is none",
            remedy="set enable in the credentials of the device",
        )
    return f"{command.command} {shlex.quote(secret.reveal())}"


def _bytes(secret: Secret | None) -> bytes | None:
    return secret.reveal().encode() if secret is not None else None


def _read_manners(device: Device, title: str) -> Manners:
    try:
        return Manners(device.platform)
    except PlatformError as error:
        name = device.platform.name if device.platform else ""
        raise RunFailedError(
            f"{title}: platform {name!r}: {error.text}", error.failure_class
        ) from None


def _read_scrubbers(job: Job, title: str) -> Scrubbers:
    try:
        return Scrubbers(job.scrubbers)
    except PatternError as error:
        raise RunFailedError(f"{title}: scrubber: {error.text}", FailureClass.SCRUBBER) from None
