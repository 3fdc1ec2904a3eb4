"""Runs that failed are tried again, over the worker API: by class, with delays, in their time."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Final

import pytest

from roundsman.config.load import load
from roundsman.config.records import Retries
from roundsman.controller.judgement import LONGEST_DELAY_SECONDS, retry_at
from roundsman.ledger.drivers import open_ledger
from roundsman.ledger.interface import RunQuery
from roundsman.schedules.duration import Duration
from roundsman.testing.clock import ManualClock
from roundsman.wire.job import MissedPolicy, Schedule
from roundsman.wire.run import FailureClass, Outcome, Run, SlotState
from tests.controller import multipart
from tests.controller.serving import Served, configuration, device, job, served, slot

START: Final = 1_700_002_800
HOUR: Final = 3600
FINAL: Final = {
    FailureClass.HOST_KEY,
    FailureClass.AUTHENTICATION,
    FailureClass.ENABLE,
    FailureClass.REJECTED,
    FailureClass.COMMAND,
    FailureClass.TOO_LARGE,
    FailureClass.SCRUBBER,
    FailureClass.SECRETS,
    FailureClass.EMPTY,
    FailureClass.INVALID,
    FailureClass.OTHER,
}


@pytest.mark.parametrize("failure_class", FailureClass)
def test_whether_a_failure_is_tried_again_follows_from_its_class(
    failure_class: FailureClass,
) -> None:
    at = retry_at(Retries(), failure_class, attempt=1, next_due=None, now=1000, jitter=0)
    assert at == (None if failure_class in FINAL else 1060)


def test_delays_double_up_to_an_hour_with_up_to_a_quarter_by_chance() -> None:
    retries = Retries(attempts=9, delay=100)

    def delay(attempt: int, jitter: float = 0) -> int | None:
        return retry_at(
            retries,
            FailureClass.UNREACHABLE,
            attempt=attempt,
            next_due=None,
            now=0,
            jitter=jitter,
        )

    assert [delay(attempt) for attempt in range(1, 8)] == [100, 200, 400, 800, 1600, 3200, 3600]
    assert delay(9) == LONGEST_DELAY_SECONDS
    assert delay(10) is None
    assert (delay(1, 0.5), delay(1, 1)) == (113, 125)


def test_an_attempt_has_to_come_before_the_next_due_time() -> None:
    for next_due, at in ((1061, 1060), (1060, None), (900, None), (None, 1060)):
        assert at == retry_at(
            Retries(), FailureClass.PROMPT, attempt=1, next_due=next_due, now=1000, jitter=0
        )


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(START)


def hourly(retries: Retries = Retries(delay=100), **changes: Any) -> Any:  # noqa: B008 - frozen
    show = job("show", schedule=Schedule(duration="1 hour"), **changes)
    return configuration([slot(device("edge0"), show, Duration("1 hour"), retries)])


@pytest.fixture
async def site(tmp_path: Path, clock: ManualClock) -> AsyncIterator[Served]:
    """On SQLite, an hour before the first due time."""
    ledger = await open_ledger(tmp_path)
    async with served(hourly(), tmp_path, clock=clock, ledger=ledger) as site:
        clock.advance(HOUR)
        yield site


async def lease(site: Served) -> dict[str, Any] | None:
    async with site.http.get("/worker/next?seconds=3600") as response:
        return (await response.json())[0] if response.status == 200 else None


async def fail(
    site: Served, clock: ManualClock, failure_class: str = "unreachable"
) -> dict[str, Any]:
    """Take what is offered, and report a failure; the answer."""
    execution = await lease(site)
    assert execution is not None
    return await complete(site, execution, clock, failure="no", failure_class=failure_class)


async def complete(
    site: Served,
    execution: dict[str, Any],
    clock: ManualClock,
    content: bytes | None = None,
    **said: str,
) -> dict[str, Any]:
    now = str(int(clock.now()))
    fields = {
        "job": "show",
        "device": "edge0",
        "job_timestamp": str(execution["timestamp"]),
        "start_timestamp": now,
        "end_timestamp": now,
        **said,
    }
    parts = [multipart.field(name, text) for name, text in fields.items()]
    if content is not None:
        parts.append(multipart.file("show", content))
    async with site.http.post(
        "/worker/complete", data=multipart.body(parts), headers=multipart.HEADERS
    ) as response:
        assert response.status == 200, await response.text()
        answer: dict[str, Any] = await response.json()
        return answer


async def history(site: Served) -> tuple[Run, ...]:
    return (await site.controller.ledger.runs(RunQuery())).items


async def test_a_failed_run_is_tried_again_with_the_same_timestamp(
    site: Served, clock: ManualClock
) -> None:
    due = START + HOUR
    answer = await fail(site, clock)
    assert answer["outcome"] == "retried"
    assert due + 100 <= answer["retry_at"] <= due + 125
    clock.step(answer["retry_at"] - clock.now() - 1)
    async with site.http.get("/worker/next") as response:
        assert response.status == 204
    clock.step(1)
    again = await lease(site)
    assert again is not None
    assert (again["timestamp"], again["lease"]["epoch"]) == (due, 2)
    answer = await complete(site, again, clock, b"hostname edge0\n")
    assert answer["outcome"] == "succeeded"
    second, first = await history(site)
    assert (first.outcome, first.attempt, first.due) == (Outcome.RETRIED, 1, due)
    assert (second.outcome, second.attempt, second.due) == (Outcome.SUCCEEDED, 2, due)
    standing = await site.controller.history.slot("edge0", "show")
    assert (standing.due, standing.attempts) == (due + HOUR, 0)


async def test_the_last_attempt_is_the_outcome(site: Served, clock: ManualClock) -> None:
    for attempt in (1, 2):
        answer = await fail(site, clock)
        assert answer["outcome"] == "retried"
        standing = await site.controller.history.slot("edge0", "show")
        assert (standing.state, standing.attempts) == (SlotState.WAITING, attempt)
        assert standing.ready == answer["retry_at"]
        clock.step(answer["retry_at"] - clock.now())
    assert (await fail(site, clock))["outcome"] == "failed"
    runs = await history(site)
    assert [(run.outcome, run.attempt) for run in runs] == [
        (Outcome.FAILED, 3),
        (Outcome.RETRIED, 2),
        (Outcome.RETRIED, 1),
    ]
    assert await lease_due(site) == START + 2 * HOUR


async def lease_due(site: Served) -> int | None:
    return (await site.controller.history.slot("edge0", "show")).due


async def test_a_wrong_password_is_not_tried_again(site: Served, clock: ManualClock) -> None:
    assert (await fail(site, clock, "authentication"))["outcome"] == "failed"
    assert await lease_due(site) == START + 2 * HOUR


async def test_a_failure_of_a_client_of_the_published_contract_is_final(
    site: Served, clock: ManualClock
) -> None:
    execution = await lease(site)
    assert execution is not None
    assert (await complete(site, execution, clock, failure="timeout"))["outcome"] == "failed"


async def test_no_attempt_is_made_after_the_next_due_time(site: Served, clock: ManualClock) -> None:
    clock.advance(HOUR - 90)
    assert (await fail(site, clock))["outcome"] == "failed"


async def test_a_waiting_attempt_survives_a_restart(tmp_path: Path, clock: ManualClock) -> None:
    async with served(hourly(), tmp_path, clock=clock, ledger=await open_ledger(tmp_path)) as site:
        clock.advance(HOUR)
        answer = await fail(site, clock)
    async with served(hourly(), tmp_path, clock=clock, ledger=await open_ledger(tmp_path)) as site:
        clock.step(answer["retry_at"] - clock.now())
        again = await lease(site)
        assert again is not None
        assert again["timestamp"] == START + HOUR
        assert (await complete(site, again, clock, b"x"))["outcome"] == "succeeded"


async def test_an_attempt_is_late_by_its_own_time(tmp_path: Path, clock: ManualClock) -> None:
    """With `missed: none`, what was served in time is not missed for being tried again."""
    setup = hourly(missed=MissedPolicy.NONE, missed_grace_seconds=60)
    async with served(setup, tmp_path, clock=clock) as site:
        clock.advance(HOUR)
        answer = await fail(site, clock)
        clock.step(answer["retry_at"] + 30 - clock.now())
        again = await lease(site)
        assert again is not None
        answer = await complete(site, again, clock, failure="no", failure_class="prompt")
        assert answer["outcome"] == "retried"
        clock.step(answer["retry_at"] + 61 - clock.now())
        late = await lease(site)
        assert late is None or late["timestamp"] == START + 2 * HOUR
        missed, *_ = await history(site)
        assert (missed.outcome, missed.due) == (Outcome.MISSED, START + HOUR)
        assert missed.failure == (
            "no worker for these tags; overdue by more than 60 s; failed attempts before: 2"
        )


def test_retries_are_configured_by_job_and_by_device(tmp_path: Path) -> None:
    file = tmp_path / "site.yaml"
    file.write_text(
        """
        jobs:
          show:
            schedule: {duration: 1 hour}
            command: {inline: [show]}
            retries: {attempts: 5}
        devices:
          edge0: {jobs: [show]}
          edge1: {jobs: {show: {retries: {delay: 7}}}}
        """
    )
    slots = load(file, environ={}).slots
    assert slots["edge0", "show"].retries == Retries(attempts=5, delay=60)
    assert slots["edge1", "show"].retries == Retries(attempts=5, delay=7)
