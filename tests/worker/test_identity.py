import asyncio
import random
from pathlib import Path

import pytest

from roundsman.client import ControllerClient
from roundsman.secret import Secret
from roundsman.testing.clock import ManualClock
from roundsman.worker.identity import (
    Enrolment,
    Identity,
    IdentityUnreadableError,
    StateLockedError,
    load,
    locked,
)
from roundsman.worker.settings import WorkerSettings
from tests.worker.fake_controller import FakeController, drop, error


def settings(controller: FakeController, state: Path) -> WorkerSettings:
    return WorkerSettings(
        controller=controller.url, token=Secret("enrol-me"), name="ams-1", state=state
    )


@pytest.fixture
def enrolment(
    controller: FakeController,
    client: ControllerClient,
    clock: ManualClock,
    rng: random.Random,
    tmp_path: Path,
) -> Enrolment:
    return Enrolment(settings(controller, tmp_path), client, clock=clock, chance=rng)


async def test_it_enrols_once_and_stays_the_same_across_restarts(
    controller: FakeController,
    client: ControllerClient,
    clock: ManualClock,
    rng: random.Random,
    tmp_path: Path,
) -> None:
    """Fault 13."""
    controller.enrolment_token = "enrol-me"
    ids = set()
    for _ in range(3):
        enrolment = Enrolment(settings(controller, tmp_path), client, clock=clock, chance=rng)
        await enrolment.establish()
        ids.add(enrolment.worker_id)
    assert ids == set(controller.tokens.values())
    assert controller.seen == ["POST /api/v1/workers"]
    assert (tmp_path / "identity.json").stat().st_mode & 0o777 == 0o600
    assert load(tmp_path) == Identity(worker_id=ids.pop(), token=Secret("ams-1-1"))


async def test_it_goes_on_trying_until_the_controller_lets_it_in(
    controller: FakeController, enrolment: Enrolment, clock: ManualClock
) -> None:
    controller.plan("/api/v1/workers", drop, error(503), error(401), error(500))
    establishing = asyncio.create_task(enrolment.establish())
    for _ in range(4):
        await clock.sleepers()
        clock.advance(60)
    await establishing
    assert len(controller.tokens) == 1


async def test_a_damaged_identity_is_said_rather_than_replaced(
    enrolment: Enrolment, tmp_path: Path
) -> None:
    (tmp_path / "identity.json").write_text('{"worker_id": "x"')
    with pytest.raises(IdentityUnreadableError, match=r"identity\.json"):
        await enrolment.establish()


def test_two_workers_never_share_a_state_folder(tmp_path: Path) -> None:
    state = tmp_path / "deep" / "state"
    with (
        locked(state),
        pytest.raises(StateLockedError, match="in use by another worker"),
        locked(state),
    ):
        pass
    with locked(state):
        pass
    assert state.stat().st_mode & 0o777 == 0o700
