"""One run: the runner within its limits, and what is to be told of how it ended."""

import asyncio
from typing import Final

import msgspec

from roundsman import logs
from roundsman.clock import Clock
from roundsman.wire.execution import Execution
from roundsman.wire.run import FailureClass, SecretFinding
from roundsman.worker.deadline import NO_DEADLINE, LeaseDeadline
from roundsman.worker.runners.interface import DeviceRunner, ResultFile, RunFailedError
from roundsman.worker.waiting import wait_for_task

log = logs.get(__name__)

LETTING_GO_SECONDS: Final = 5.0
"""How long a cancelled runner may take to let go of its device, before it is left to itself."""

_left_to_themselves: Final[set[asyncio.Task[None]]] = set()
"""Runners that did not let go. Referred to, since the event loop itself forgets its tasks."""


class Ending(msgspec.Struct, frozen=True, kw_only=True):
    """How a run ended."""

    failure: str | None = None
    """Why it failed, for people; none when it succeeded."""
    failure_class: FailureClass | None = None
    """Why it failed, for programs."""
    keep_data: bool = False
    """Whether what the result file holds is the result, or evidence of the failure."""
    detected_secrets: tuple[SecretFinding, ...] = ()
    """What looks like a secret in the result."""
    recording: str | None = None
    """The failed session as a recorded dialogue."""


async def run(
    runner: DeviceRunner,
    execution: Execution,
    result: ResultFile,
    clock: Clock,
    deadline: LeaseDeadline = NO_DEADLINE,
) -> Ending:
    """Have it run within the job's `session_timeout`; however it goes, there is an ending.

    When this is cancelled, the runner is, and no ending matters any more. In either case this
    returns within seconds, whatever the runner and its peer do; `result` is to be closed then.
    Raises `LeaseExpiredError` when the lease ended before the run did.
    """
    deadline.check()
    limit = execution.job.session_timeout
    task = asyncio.create_task(
        runner.run(execution, result, deadline), name=f"run {execution.title}"
    )
    try:
        in_time = await _within(task, clock, limit, deadline)
    finally:
        if not task.done():
            await _end(task, clock)
    if not _succeeded(task):
        deadline.check()  # what it failed of does not matter then
    if in_time or _says_more(task):
        return _ending_of(task, execution, result)
    return Ending(
        failure=f"the run took longer than the {limit} seconds that its session may take",
        failure_class=FailureClass.TIMED_OUT,
    )


async def _within(
    task: asyncio.Task[None], clock: Clock, limit: float, deadline: LeaseDeadline
) -> bool:
    """Wait until it has ended, its time is up, or its lease, which may be renewed meanwhile."""
    until = clock.monotonic() + limit
    while not task.done():
        left = min(until, deadline.at) - clock.monotonic()
        if left <= 0:
            break
        await wait_for_task(task, clock, left)
    return task.done()


async def _end(task: asyncio.Task[None], clock: Clock) -> None:
    task.cancel()
    if not await wait_for_task(task, clock, LETTING_GO_SECONDS):
        log.error("run.does_not_let_go", run=task.get_name())
        _left_to_themselves.add(task)
        task.add_done_callback(_forget)


def _forget(task: asyncio.Task[None]) -> None:
    _left_to_themselves.discard(task)
    if not task.cancelled():
        task.exception()  # looked at, so that asyncio does not warn of it


def _succeeded(task: asyncio.Task[None]) -> bool:
    return task.done() and not task.cancelled() and task.exception() is None


def _says_more(task: asyncio.Task[None]) -> bool:
    """Whether a runner that was cancelled answered with a failure of its own."""
    return task.done() and not task.cancelled() and isinstance(task.exception(), RunFailedError)


def _ending_of(task: asyncio.Task[None], execution: Execution, result: ResultFile) -> Ending:
    if task.cancelled():
        log.error("run.fault", run=execution.title, reason="the runner cancelled itself")
        return Ending(failure="fault in the worker", failure_class=FailureClass.INTERNAL)
    error = task.exception()
    if error is None:
        return _ending_of_success(result)
    if isinstance(error, RunFailedError):
        return Ending(
            failure=error.text or type(error).__name__,
            failure_class=error.failure_class,
            keep_data=result.size > 0,
            detected_secrets=result.detected_secrets,
            recording=result.recording,
        )
    log.error("run.fault", run=execution.title, exc_info=error)
    # Its text stays in the log here: what it says was not written with secrets in mind.
    return Ending(
        failure=f"fault in the worker: {type(error).__name__}; its log has the details",
        failure_class=FailureClass.INTERNAL,
    )


def _ending_of_success(result: ResultFile) -> Ending:
    if result.size == 0:
        return Ending(
            failure="the run ended well but brought nothing back",
            failure_class=FailureClass.EMPTY,
        )
    return Ending(keep_data=True, detected_secrets=result.detected_secrets)
