"""Where patterns are applied: at once to small texts, in a thread where that takes long."""

import asyncio
import threading
from collections.abc import Iterator
from contextlib import closing

import pytest

from roundsman.worker.patterns import Effort, Pattern, PatternError
from roundsman.worker.runners import keeping
from roundsman.worker.runners.keeping import PatternThreads

SLOW = Pattern(r"(a|aa)+$")
TEXT = [b"a" * 40 + b"b"]


@pytest.fixture
def threads() -> Iterator[PatternThreads]:
    with closing(PatternThreads()) as made:
        yield made


def _where(effort: Effort) -> tuple[int, bool]:
    return threading.get_ident(), effort.aside


async def test_small_texts_stay_in_the_event_loops_thread(threads: PatternThreads) -> None:
    here = threading.get_ident()
    assert await threads.of("job").apply(_where, 100) == (here, False)
    thread, aside = await threads.of("job").apply(_where, keeping.QUICK_BYTES + 1)
    assert (thread != here, aside) == (True, True)


async def test_what_is_not_quick_begins_anew_in_a_thread(
    threads: PatternThreads, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("roundsman.worker.patterns.BLOCK_SECONDS", 0.1)
    tried = []

    def work(effort: Effort) -> bool:
        tried.append(_where(effort))
        return SLOW.found_in(TEXT, effort)

    with pytest.raises(PatternError, match="took too long"):
        await threads.of("bad").apply(work, len(TEXT[0]))
    here = threading.get_ident()
    assert [(thread == here, aside) for thread, aside in tried] == [(True, False), (False, True)]


async def test_a_slow_job_is_in_a_thread_for_a_while_and_others_are_not(
    threads: PatternThreads, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("roundsman.worker.patterns.BLOCK_SECONDS", 0.1)
    here = threading.get_ident()
    with pytest.raises(PatternError):
        await threads.of("bad").apply(lambda effort: SLOW.found_in(TEXT, effort), 41)
    assert (await threads.of("bad").apply(_where, 1))[0] != here
    assert (await threads.of("good").apply(_where, 1))[0] == here
    loop = asyncio.get_running_loop()
    later = loop.time() + keeping.SLOW_SECONDS + 1
    monkeypatch.setattr(loop, "time", lambda: later)
    assert (await threads.of("bad").apply(_where, 1))[0] == here
