"""Busy sessions are limited; slow ones give way, up to a limit of their own."""

import asyncio
from contextlib import AsyncExitStack

import pytest

from roundsman.testing.clock import ManualClock
from roundsman.worker.places import GETTING_ON_BYTES, SLOW_SECONDS, Place, Places


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def places(clock: ManualClock) -> Places:
    return Places(busy=2, most_open=4, clock=clock)


async def test_a_slow_session_gives_way_until_it_gets_on(
    places: Places, clock: ManualClock
) -> None:
    async with places.take() as one, places.take():
        assert places.free() == 0
        clock.advance(SLOW_SECONDS)
        assert places.free() == 2
        one.received(GETTING_ON_BYTES)
        assert places.free() == 1
    assert (places.free(), places.open) == (2, 0)


async def test_to_trickle_is_not_to_get_on(places: Places, clock: ManualClock) -> None:
    async with places.take() as place:
        for _ in range(int(SLOW_SECONDS) + 1):
            clock.advance(1)
            place.received(100)
        assert places.free() == 2
        place.received(GETTING_ON_BYTES)  # with what it had received before
        assert places.free() == 1


async def test_slow_sessions_are_limited_too(places: Places, clock: ManualClock) -> None:
    async with AsyncExitStack() as stack:
        for _ in range(4):
            await stack.enter_async_context(places.take())
            clock.advance(SLOW_SECONDS)
        assert places.free() == 0


async def test_those_who_wait_are_served_in_turn_by_slowness_and_by_leaving(
    places: Places, clock: ManualClock
) -> None:
    begun: list[int] = []
    leave = [asyncio.Event() for _ in range(4)]
    news = asyncio.Condition()

    async def session(number: int) -> None:
        async with places.take():
            async with news:
                begun.append(number)
                news.notify_all()
            await leave[number].wait()

    async def begun_are(count: int) -> None:
        async with news:
            await news.wait_for(lambda: len(begun) == count)

    async with asyncio.TaskGroup() as group:
        for number in range(4):
            group.create_task(session(number))
        await begun_are(2)
        leave[1].set()
        await begun_are(3)
        await clock.sleepers()
        clock.advance(SLOW_SECONDS)
        await begun_are(4)
        for event in leave:
            event.set()
    assert begun == [0, 1, 2, 3]


async def test_one_that_no_longer_waits_keeps_nobody_from_it(places: Places) -> None:
    entered: asyncio.Queue[Place] = asyncio.Queue()

    async def session() -> None:
        async with places.take() as place:
            entered.put_nowait(place)

    async with places.take(), AsyncExitStack() as stack:
        await stack.enter_async_context(places.take())
        first, second = asyncio.create_task(session()), asyncio.create_task(session())
        await asyncio.sleep(0)
        first.cancel()
        await stack.aclose()
        await entered.get()
        await second
    assert first.cancelled()
