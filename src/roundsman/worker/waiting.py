"""Waiting for whichever comes first, by a clock that tests may turn."""

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

from roundsman.clock import Clock

T = TypeVar("T")


async def wait_for_event(event: asyncio.Event, clock: Clock, seconds: float) -> bool:
    """Wait until the event is set, or that long; whether it is set."""
    if not event.is_set():
        await _first_of(event.wait(), clock.sleep(seconds))
    return event.is_set()


async def wait_for_task(task: asyncio.Task[Any], clock: Clock, seconds: float) -> bool:
    """Wait until the task has ended, however, or that long; whether it has. Never cancels it."""
    if not task.done():
        await _first_of(asyncio.wait({task}), clock.sleep(seconds))
    return task.done()


async def _first_of(*waits: Coroutine[Any, Any, object]) -> None:
    tasks = [asyncio.ensure_future(wait) for wait in waits]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()


async def see_through(future: asyncio.Future[T]) -> T:
    """Wait for what must not be left half done: a cancellation takes effect once it has ended."""
    cancelled: asyncio.CancelledError | None = None
    while not future.done():
        try:
            await asyncio.wait({future})
        except asyncio.CancelledError as error:
            cancelled = error
    if cancelled is not None:
        raise cancelled
    return future.result()
