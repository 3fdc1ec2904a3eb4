"""Executions of jobs of type `file`: the files, one after the other, into the transcript."""

from collections.abc import Awaitable, Callable

import msgspec

from roundsman.wire.device import Device
from roundsman.wire.execution import Execution
from roundsman.wire.job import FileSet
from roundsman.worker.runners.time_limits import within
from roundsman.worker.sessions.access import Access
from roundsman.worker.sessions.errors import AuthenticationError, TimedOutError
from roundsman.worker.sessions.files.transfers import fetch, open_files
from roundsman.worker.sessions.transcript import Span, Transcript


async def fetch_files(
    execution: Execution,
    access: Access,
    transcript: Transcript,
    *,
    connect_seconds: float,
    login_seconds: float,
) -> list[Span]:
    """Fetch the job's files; all of the transcript is the result.

    Over SSH the login tries the device's credentials in order; elsewhere that is done here.
    """
    job, device = execution.job, execution.device
    wanted = job.file_set or FileSet(files=())

    async def fetch_all(device: Device) -> None:
        async with open_files(
            device,
            wanted.transfer,
            access,
            connect_seconds=connect_seconds,
            login_seconds=login_seconds,
        ) as files:
            for file in wanted.files:
                seconds = job.command_timeout
                late = TimedOutError(f"the file {file.name!r} did not come within {seconds} s")
                async with within(seconds, late):
                    await fetch(files, file, transcript.write)

    if wanted.transfer.over_ssh or device.credentials is None:
        await fetch_all(device)
    else:
        await _with_each(access, device, transcript, fetch_all)
    return [Span(0, transcript.size)]


async def _with_each(
    access: Access,
    device: Device,
    transcript: Transcript,
    fetch_all: Callable[[Device], Awaitable[None]],
) -> None:
    """Fetch with the first of the device's credentials that is accepted."""
    tried = access.credentials.ordered(device)
    for credentials in tried:
        known = msgspec.structs.replace(device, credentials=credentials, further_credentials=())
        try:
            await fetch_all(known)
        except AuthenticationError:
            if credentials is tried[-1] or transcript.size:
                raise
        else:
            access.credentials.worked(device, credentials)
            return
