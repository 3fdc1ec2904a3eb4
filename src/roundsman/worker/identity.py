"""Who this worker is: enrolled once, kept in the state folder for good, one process at a time.

A worker whom the controller no longer knows (it lost its data, or somebody removed the worker)
enrols again by the token for enrolment, under a new id, as soon as it is told so: it must come
back by itself. Who wants it to stay away revokes that token.
"""

import fcntl
import os
import random
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import msgspec

from roundsman import __version__, logs
from roundsman.client import ControllerClient
from roundsman.client.errors import ControllerError
from roundsman.client.retry import Backoff
from roundsman.clock import Clock
from roundsman.errors import ConflictError, InvalidError
from roundsman.secret import Secret
from roundsman.wire import codec
from roundsman.wire.worker import EnrolRequest
from roundsman.worker import durable
from roundsman.worker.settings import WorkerSettings

log = logs.get(__name__)

IDENTITY_FILE: Final = "identity.json"
LOCK_FILE: Final = "lock"
RENEWAL_SECONDS: Final = 60.0
"""At most one renewal in this time: a controller in disorder is not to be flooded with workers."""


class StateLockedError(ConflictError):
    """Another worker uses the state folder."""

    code = "worker.state_locked"


class IdentityUnreadableError(InvalidError):
    """The kept identity is damaged."""

    code = "worker.identity_unreadable"


class Identity(msgspec.Struct, frozen=True, kw_only=True):
    """What the controller gave this worker at its enrolment."""

    worker_id: str
    """UUID."""
    token: Secret
    """Bearer token for everything but enrolment."""


_identity = codec.decoder(Identity)


@contextmanager
def locked(state: Path) -> Iterator[None]:
    """Create the state folder if need be and keep every other worker out of it.

    The lock is the system's and ends with the process, however that ends. Raises
    `StateLockedError`.
    """
    state.mkdir(mode=0o700, parents=True, exist_ok=True)
    descriptor = os.open(state / LOCK_FILE, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise StateLockedError(
                f"{state} is in use by another worker",
                remedy="give each worker a state folder of its own",
            ) from None
        yield
    finally:
        os.close(descriptor)


def load(state: Path) -> Identity | None:
    """The identity kept there; none before the first enrolment. `IdentityUnreadableError`."""
    path = state / IDENTITY_FILE
    try:
        return _identity.decode(path.read_bytes())
    except FileNotFoundError:
        return None
    except msgspec.DecodeError as error:
        raise IdentityUnreadableError(
            f"{path} is not an identity: {error}",
            remedy="restore it, or remove it to enrol as a new worker",
        ) from error


class Enrolment:
    """Sees to it that the client speaks as a worker that the controller knows."""

    def __init__(
        self,
        settings: WorkerSettings,
        client: ControllerClient,
        *,
        clock: Clock,
        chance: random.Random,
    ) -> None:
        """Enrol at the client's controller, by the settings' token."""
        self._settings = settings
        self._client = client
        self._clock = clock
        self._backoff = Backoff(first=1.0, longest=30.0, chance=chance)
        self._identity: Identity | None = None
        self._enrolled_at: float | None = None

    @property
    def worker_id(self) -> str:
        """The id; only after `establish`."""
        if self._identity is None:
            raise RuntimeError("not enrolled yet")
        return self._identity.worker_id

    @property
    def token(self) -> Secret:
        """The worker's own token; only after `establish`."""
        if self._identity is None:
            raise RuntimeError("not enrolled yet")
        return self._identity.token

    async def establish(self) -> None:
        """Take up the kept identity, or enrol: for as long as it takes, saying why it does."""
        kept = load(self._settings.state)
        if kept is not None:
            self._use(kept)
            log.info("worker.known", worker_id=kept.worker_id)
        else:
            await self._enrol()

    async def renew(self) -> None:
        """The controller no longer knows this worker: enrol again, for as long as it takes."""
        log.warning(
            "worker.forgotten",
            worker_id=self.worker_id,
            remedy="enrolling again, under a new id; see that the controller keeps its data",
        )
        if self._enrolled_at is not None:
            since = self._clock.monotonic() - self._enrolled_at
            await self._clock.sleep(RENEWAL_SECONDS - since)
        await self._enrol()

    async def _enrol(self) -> None:
        failures = 0
        while True:
            try:
                await self._enrol_once()
            except ControllerError as error:
                failures += 1
                wait = self._backoff.delay(failures, at_least=error.retry_after_seconds)
                log.warning(
                    "worker.not_enrolled", reason=str(error), retry_in_seconds=round(wait, 1)
                )
                await self._clock.sleep(wait)
            else:
                return

    async def _enrol_once(self) -> None:
        settings = self._settings
        request = EnrolRequest(name=settings.name, tags=settings.tags, version=__version__)
        # A client of its own: the other loops go on calling with the worker's token meanwhile.
        async with ControllerClient(
            settings.controller, token=settings.token, ca_file=settings.ca_file, clock=self._clock
        ) as client:
            answer = await client.worker.enrol(request)
        identity = Identity(worker_id=answer.worker_id, token=answer.token)
        durable.write(settings.state / IDENTITY_FILE, codec.encode(identity))
        self._use(identity)
        self._enrolled_at = self._clock.monotonic()
        log.info("worker.enrolled", worker_id=identity.worker_id, name=settings.name)

    def _use(self, identity: Identity) -> None:
        self._identity = identity
        self._client.use_token(identity.token)
