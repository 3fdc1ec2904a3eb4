"""This controller among those that share its ledger: it enters itself, and one of them leads.

Whoever leads keeps the slots in line with the configuration and takes away what is kept no longer;
the term under which it does so goes with each such write, and the ledger refuses it once another
one has taken over. A leader that dies is followed by another within `LEAD_SECONDS` and a round.
"""

import asyncio
import os
import uuid
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

import msgspec

from roundsman import __version__, logs
from roundsman.clock import Clock
from roundsman.ledger.interface import (
    Leadership,
    Ledger,
    LedgerUnavailableError,
    RegisteredController,
)
from roundsman.wire.controller import ALIVE_SECONDS, Controller
from roundsman.wire.page import Page

log = logs.get(__name__)

ROUND_SECONDS: Final = 2.0
LEAD_SECONDS: Final = 6.0
"""So long nobody takes over from a leader that is not heard of."""
FORGET_SECONDS: Final = 3600.0
"""So long a controller that died is listed."""
HOME_FILE: Final = "home"


class Membership:
    """See the module."""

    def __init__(self, *, ledger: Ledger, clock: Clock, data: Path) -> None:
        """Nothing is written before `open()`; `data` is the folder that no other one uses."""
        self._ledger = ledger
        self._clock = clock
        self._data = data
        self._me = RegisteredController(
            controller_id=str(uuid.uuid4()),
            home="",
            address=None,
            version=__version__,
            started_at=0.0,
            seen_at=0.0,
        )
        self._leadership: Leadership | None = None
        self._known: Sequence[RegisteredController] = ()
        self._on_change: Callable[[], None] = lambda: None
        self._in_step = True
        self._hurried = asyncio.Event()

    @property
    def controller_id(self) -> str:
        """Of this start of this controller."""
        return self._me.controller_id

    @property
    def term(self) -> int | None:
        """The term in which this controller leads; none: it does not, as far as it knows."""
        leads = self._leadership
        return leads.term if leads and leads.controller_id == self.controller_id else None

    @property
    def leadership(self) -> Leadership:
        """Who leads, as of the last round; only after `open()`."""
        if self._leadership is None:
            raise RuntimeError("not open yet")
        return self._leadership

    @property
    def calls(self) -> int:
        """How many calls to read the configuration anew this controller has followed."""
        return self._me.calls

    def introduce(self, *, peer_key: str, certificate: str | None) -> None:
        """Say from now on by what other controllers know this one."""
        self._me = msgspec.structs.replace(self._me, peer_key=peer_key, certificate=certificate)

    def listen(self, on_change: Callable[[], None]) -> None:
        """Call this when another one leads, or when there is a call to reload."""
        self._on_change = on_change

    async def open(self, address: str | None) -> None:
        """Enter this controller, reached at this address. Raises `LedgerUnavailableError`."""
        home = await asyncio.to_thread(_home, self._data)
        for each in await self._ledger.controllers():
            if each.home == home:  # its process has ended: the folder is ours alone
                await self._ledger.remove_controller(each.controller_id)
        now = self._clock.now()
        self._me = msgspec.structs.replace(self._me, home=home, address=address, started_at=now)
        leads = await self.round()
        # What was called for before is in what was read at the start.
        self._me = msgspec.structs.replace(self._me, calls=leads.calls)

    async def close(self) -> bool:
        """Sign off, so that nobody waits for this one; whether that was done."""
        if self._leadership is None:
            return False
        self._leadership = None
        try:
            await self._ledger.remove_controller(self.controller_id)
        except LedgerUnavailableError as error:
            log.warning("controller.not_signed_off", reason=error.text)
            return False
        return True

    async def run(self) -> None:
        """Round after round until cancelled."""
        while True:
            await self._until_next()
            try:
                await self.round()
            except LedgerUnavailableError as error:
                log.warning("controller.not_heard", reason=error.text)

    def hurry(self) -> None:
        """Have a round now: another one has come or gone."""
        self._hurried.set()

    async def _until_next(self) -> None:
        due = asyncio.ensure_future(self._clock.sleep(ROUND_SECONDS))
        hurried = asyncio.ensure_future(self._hurried.wait())
        try:
            await asyncio.wait({due, hurried}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            due.cancel()
            hurried.cancel()
            self._hurried.clear()

    async def round(self) -> Leadership:
        """Say that this one is there, and see who leads. Raises `LedgerUnavailableError`."""
        now = self._clock.now()
        self._me = msgspec.structs.replace(self._me, seen_at=now)
        await self._ledger.note_controller(self._me)
        before = self._leadership
        leads = self._leadership = await self._ledger.lead(
            self.controller_id, term=self.term, now=now, until=now + LEAD_SECONDS
        )
        self._known = await self._ledger.controllers()
        if before is None or (before.term, before.calls) != (leads.term, leads.calls):
            if before is None or before.term != leads.term:
                log.info(
                    "controller.leading" if self.term is not None else "controller.following",
                    term=leads.term,
                    leader=leads.controller_id,
                )
            self._on_change()
        self._compare()
        if self.term is not None:
            await self._forget(now)
        return leads

    async def say(self, **fields: object) -> None:
        """Change what this controller says of itself, at once. Raises `LedgerUnavailableError`."""
        self._me = msgspec.structs.replace(self._me, **fields)
        await self._ledger.note_controller(self._me)

    async def leader(self) -> RegisteredController | None:
        """The controller that leads, as it stands now; none: it has signed off."""
        known = {each.controller_id: each for each in await self._ledger.controllers()}
        return known.get(self.leadership.controller_id)

    @property
    def shared(self) -> bool:
        """Whether another controller is in the register, alive or not."""
        return len(self._known) > 1

    def others(self) -> list[RegisteredController]:
        """The other controllers that were there at the last round."""
        now = self._clock.now()
        return [
            each
            for each in self._known
            if each.controller_id != self.controller_id and _is_alive(each, now)
        ]

    async def list(self) -> Page[Controller]:
        """All of them, for people."""
        known = self._known = await self._ledger.controllers()
        leader = self.leadership.controller_id
        now = self._clock.now()
        leading = next((each for each in known if each.controller_id == leader), None)
        return Page(
            items=tuple(
                Controller(
                    controller_id=each.controller_id,
                    address=each.address,
                    version=each.version,
                    started_at=each.started_at,
                    seen_at=each.seen_at,
                    alive=_is_alive(each, now),
                    leading=each.controller_id == leader,
                    configuration=each.configuration,
                    in_step=leading is not None and _agree(each, leading),
                    problem=each.problem,
                )
                for each in known
            )
        )

    def agrees(self, other: RegisteredController) -> bool:
        """Whether another one has the configuration in force that this one has."""
        return _agree(other, self._me)

    def _compare(self) -> None:
        """Log when the leader's configuration becomes another than the one in force here."""
        leader = self.leadership.controller_id
        for each in self._known:
            # Between a call and its being followed everywhere they differ, and that is well.
            settled = each.calls == self._me.calls and self._me.configuration
            if each.controller_id == leader and settled:
                in_step = not each.configuration or _agree(each, self._me)
                if not in_step and self._in_step:
                    log.warning(
                        "controller.out_of_step",
                        leader=each.address or leader,
                        remedy="give all controllers the same configuration, and reload",
                    )
                self._in_step = in_step

    async def _forget(self, now: float) -> None:
        for each in self._known:
            if each.seen_at < now - FORGET_SECONDS:
                await self._ledger.remove_controller(each.controller_id)


def _agree(one: RegisteredController, other: RegisteredController) -> bool:
    """Whether they have the same configuration in force, as far as can be told.

    Another release says the same one in other words: it has settings that this one has not.
    """
    return one.version != other.version or one.configuration == other.configuration


def _is_alive(controller: RegisteredController, now: float) -> bool:
    return controller.seen_at > now - ALIVE_SECONDS


def _home(data: Path) -> str:
    """The id of a data folder, made when it has none."""
    data.mkdir(mode=0o700, parents=True, exist_ok=True)
    path = data / HOME_FILE
    try:
        return str(uuid.UUID(path.read_text("ascii").strip()))
    except (FileNotFoundError, ValueError):
        home = str(uuid.uuid4())
        written = path.with_suffix(".new")
        with written.open("w", encoding="ascii") as file:
            file.write(f"{home}\n")
            file.flush()
            os.fsync(file.fileno())
        written.replace(path)
        return home
