import asyncio

import pytest

from roundsman.testing.clock import ManualClock


async def test_sleepers_wake_when_their_time_has_come_earliest_first() -> None:
    clock = ManualClock(100.0)
    woken: list[str] = []

    async def sleeper(name: str, seconds: float) -> None:
        await clock.sleep(seconds)
        woken.append(name)

    async with asyncio.TaskGroup() as group:
        for name, seconds in (("late", 30), ("early", 10), ("early too", 10), ("middle", 20)):
            group.create_task(sleeper(name, seconds))
        await clock.sleepers(4)
        clock.advance(9.5)
        await asyncio.sleep(0)
        assert woken == []
        clock.advance(10.5)
        await asyncio.sleep(0)
        assert woken == ["early", "early too", "middle"]
        assert clock.now() == 120.0
        assert clock.monotonic() == 20.0
        clock.advance(10)
    assert woken[-1] == "late"


async def test_the_wall_clock_steps_without_waking_anybody() -> None:
    clock = ManualClock(100.0)
    task = asyncio.create_task(clock.sleep(5))
    await clock.sleepers()
    clock.step(1000)
    clock.step(-2000)
    await asyncio.sleep(0)
    assert not task.done()
    assert clock.now() == -900.0
    assert clock.monotonic() == 0.0
    clock.advance(5)
    await task


async def test_a_cancelled_sleeper_is_gone() -> None:
    clock = ManualClock()
    task = asyncio.create_task(clock.sleep(5))
    await clock.sleepers()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    waiting = asyncio.create_task(clock.sleepers(1))
    await asyncio.sleep(0)
    assert not waiting.done()
    other = asyncio.create_task(clock.sleep(1))
    await waiting
    clock.advance(1)
    await other


async def test_zero_only_yields_and_time_does_not_go_back() -> None:
    clock = ManualClock()
    await clock.sleep(0)
    await clock.sleep(-1)
    with pytest.raises(ValueError, match="step"):
        clock.advance(-1)
