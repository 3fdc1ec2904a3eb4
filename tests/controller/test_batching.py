"""Batches: what waits is worked off together, and each is answered for itself."""

import asyncio
from collections.abc import Sequence

import pytest

from roundsman.controller.batching import Batches
from roundsman.errors import ConflictError, RoundsmanError, UnavailableError


class Work:
    """Doubles numbers, odd ones are conflicts; each batch waits until it may go on."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []
        self.begun = asyncio.Event()
        self.go_on = asyncio.Event()

    async def __call__(self, numbers: Sequence[int]) -> list[int | RoundsmanError]:
        self.batches.append(list(numbers))
        self.begun.set()
        await self.go_on.wait()
        if 0 in numbers:
            raise UnavailableError("nothing works")
        return [ConflictError(f"{n} is odd") if n % 2 else 2 * n for n in numbers]


async def test_what_comes_meanwhile_is_the_next_batch() -> None:
    work = Work()
    batches = Batches(work, most=3)
    first = asyncio.create_task(batches.do(2))
    await work.begun.wait()
    others = [asyncio.create_task(batches.do(n)) for n in (4, 6, 8, 10)]
    await asyncio.sleep(0)
    work.go_on.set()
    assert await asyncio.gather(first, *others) == [4, 8, 12, 16, 20]
    assert work.batches == [[2], [4, 6, 8], [10]]
    assert await batches.do(12) == 24  # and it goes on afterwards


async def test_one_that_fails_fails_alone() -> None:
    work = Work()
    work.go_on.set()
    answers = await asyncio.gather(
        *(Batches(work, most=9).do(n) for n in (2, 3, 4)), return_exceptions=True
    )
    assert answers[0] == 4
    assert isinstance(answers[1], ConflictError)
    assert answers[2] == 8


async def test_when_the_work_as_a_whole_fails_all_are_told_and_the_next_is_tried() -> None:
    work = Work()
    work.go_on.set()
    batches = Batches(work, most=9)
    answers = await asyncio.gather(*(batches.do(n) for n in (0, 2)), return_exceptions=True)
    assert [type(answer) for answer in answers] == [UnavailableError] * 2
    assert await batches.do(2) == 4


async def test_a_caller_that_gives_up_takes_nobody_with_it() -> None:
    work = Work()
    batches = Batches(work, most=9)
    gone, stays = asyncio.create_task(batches.do(2)), asyncio.create_task(batches.do(4))
    await work.begun.wait()
    gone.cancel()
    with pytest.raises(asyncio.CancelledError):
        await gone
    work.go_on.set()
    assert await stays == 8
    assert work.batches == [[2, 4]]
