"""Executions of jobs of type `file`: the files, one after the other, into the transcript."""

from roundsman.wire.execution import Execution
from roundsman.wire.job import FileSet
from roundsman.worker.runners.time_limits import within
from roundsman.worker.sessions.access import Access
from roundsman.worker.sessions.errors import TimedOutError
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
    """Fetch the job's files; all of the transcript is the result."""
    job = execution.job
    wanted = job.file_set or FileSet(files=())
    seconds = job.command_timeout
    async with open_files(
        execution.device,
        wanted.transfer,
        access,
        connect_seconds=connect_seconds,
        login_seconds=login_seconds,
    ) as files:
        for file in wanted.files:
            late = TimedOutError(f"the file {file.name!r} did not come within {seconds} s")
            async with within(seconds, late):
                await fetch(files, file, transcript.write)
    return [Span(0, transcript.size)]
