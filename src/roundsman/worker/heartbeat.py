"""Says "alive" every few seconds, renews every lease held, and learns which are lost."""

from collections.abc import Iterator, Sequence
from typing import Final

from roundsman import logs
from roundsman.client import ControllerClient
from roundsman.client.errors import ControllerError, ForbiddenError, UnauthorizedError, UnknownError
from roundsman.clock import Clock
from roundsman.wire.execution import LeaseKey
from roundsman.wire.worker import HeartbeatRequest
from roundsman.worker.identity import Enrolment
from roundsman.worker.leases import HeldLeases
from roundsman.worker.waiting import wait_for_event

log = logs.get(__name__)

LONGEST_PAUSE_SECONDS: Final = 20.0
"""Also how soon the controller's list of workers notices one that is gone."""
SHORTEST_PAUSE_SECONDS: Final = 1.0
BEATS_PER_LEASE: Final = 4
"""Three beats may be lost before a lease is."""
LEASES_PER_CALL: Final = 1000
"""About 100 KB; a full outbox holds ten times that."""


class Heartbeat:
    """The one loop that speaks for the leases, and the one that notices being forgotten."""

    def __init__(
        self,
        *,
        client: ControllerClient,
        enrolment: Enrolment,
        leases: HeldLeases,
        clock: Clock,
    ) -> None:
        """Renew `leases` in the name of the worker enrolled."""
        self._client = client
        self._enrolment = enrolment
        self._leases = leases
        self._clock = clock
        self._hurried = False

    def hurry(self) -> None:
        """Beat now: another loop's token was refused, and this one settles such things."""
        self._hurried = True
        self._leases.changed.set()

    async def run(self) -> None:
        """Beat until cancelled."""
        while True:
            began = self._clock.monotonic()
            await self.run_once()
            await self._pause(began)

    async def run_once(self) -> None:
        """One beat: a call for each thousand leases, at least one."""
        self._hurried = False
        for keys in _portions(self._leases.keys()):
            asked_at = self._clock.monotonic()
            try:
                answer = await self._client.worker.heartbeat(
                    self._enrolment.worker_id, HeartbeatRequest(leases=keys)
                )
            except ControllerError as error:
                await self._failed(error)
                return
            for key in self._leases.lose(answer.lost):
                log.warning("lease.lost", device=key.device, job=key.job, epoch=key.epoch)
            # Those that were lost are held no more.
            self._leases.renewed(keys, asked_at + answer.seconds)

    async def _failed(self, error: ControllerError) -> None:
        # Forbidden too: the token is another's, which is not what the kept identity says.
        refused = isinstance(error, UnauthorizedError | ForbiddenError | UnknownError)
        if refused and error.about_subject:
            await self._enrolment.renew()
        else:
            log.warning("heartbeat.failed", reason=str(error))

    async def _pause(self, began: float) -> None:
        """Wait until the next beat is due, which a new and shorter lease may bring forward."""
        await self._clock.sleep(SHORTEST_PAUSE_SECONDS)
        while not self._hurried:
            self._leases.changed.clear()
            left = began + self._interval() - self._clock.monotonic()
            if left <= 0:
                return
            await wait_for_event(self._leases.changed, self._clock, left)

    def _interval(self) -> float:
        shortest = self._leases.shortest()
        if shortest is None:
            return LONGEST_PAUSE_SECONDS
        return min(LONGEST_PAUSE_SECONDS, max(SHORTEST_PAUSE_SECONDS, shortest / BEATS_PER_LEASE))


def _portions(keys: Sequence[LeaseKey]) -> Iterator[tuple[LeaseKey, ...]]:
    """Split into calls; one without leases when there are none, since being alive counts too."""
    for start in range(0, max(1, len(keys)), LEASES_PER_CALL):
        yield tuple(keys[start : start + LEASES_PER_CALL])
