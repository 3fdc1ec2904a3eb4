"""Our side of an SSH login: what is shown to the other side, each proof once and in order."""

import asyncio
import re
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, Final, NamedTuple

import asyncssh

from roundsman.secret import Secret
from roundsman.wire.device import Credentials, Host
from roundsman.worker.sessions.errors import (
    AuthenticationError,
    RefusedError,
    SessionError,
    TimedOutError,
    quote,
)
from roundsman.worker.sessions.host_keys import HostKeyStore
from roundsman.worker.sessions.keys import Keys, agent_keys, read_private_key

# Where a device asks for no credentials SSH still wants a name.
NOBODY: Final = "roundsman"

_HANGING_UP_SECONDS: Final = 0.2
"""Devices that hang up after a refusal do so at once; this is for the way there."""

_ASKS_USER: Final = re.compile(r"(?i)\b(?:user|login|name|account)")
_ASKS_PASSWORD: Final = re.compile(r"(?i)passw|secret|passphrase")
_ASKS_NEW_PASSWORD: Final = re.compile(
    r"(?i)\bnew (?:\S+ )?password|(?:re-?type|re-?enter|confirm|change) (?:\S+ ){0,2}password"
)


class Proof(NamedTuple):
    """Something by which a user proves who they are."""

    credentials: Credentials
    keys: Keys | None = None
    password: Secret | None = None


class Proofs:
    """What there is to show, in order. Each is shown once, over however many connections."""

    def __init__(self, credentials: Sequence[Credentials], agent: Path | None) -> None:
        """Take what the credentials hold; `agent` is the agent's socket, where it is permitted."""
        self.count = len(credentials)
        self._users = list(dict.fromkeys(one.user for one in credentials))
        self._agent = agent
        self._opened = AsyncExitStack()
        self._given = credentials
        self._left: list[Proof] = []
        self.shown: Proof | None = None
        """The last that was shown."""
        self.problems: list[AuthenticationError] = []
        """What could not be shown, and what more is known of why something was not accepted."""

    async def __aenter__(self) -> "Proofs":
        """Read the keys, and ask the agent for its own.

        Raises `AuthenticationError` when that leaves nothing to show.
        """
        for one in self._given:
            try:
                if found := read_private_key(one):
                    self._left.append(Proof(one, keys=found))
                if one.agent:
                    found = await self._opened.enter_async_context(
                        agent_keys(self._agent, one.user)
                    )
                    self._left.append(Proof(one, keys=found))
            except AuthenticationError as error:
                self.problems.append(error)
            if one.password is not None:
                self._left.append(Proof(one, password=one.password))
        if self.problems and not self._left:
            raise self.problems[0]
        return self

    async def __aexit__(self, *_: object) -> None:
        """Let go of the agent."""
        await self._opened.aclose()

    def __bool__(self) -> bool:
        """Whether anything is left to be shown."""
        return bool(self._left)

    @property
    def user(self) -> str:
        """Who is to log in next."""
        if self._left:
            return self._left[0].credentials.user
        return self._users[0] if self._users else NOBODY

    def take_keys(self, user: str) -> Keys | None:
        """The keys to be shown now, if it is keys."""
        proof = self._next(user)
        return self._show(proof).keys if proof and proof.keys is not None else None

    def take_password(self, user: str) -> Secret | None:
        """The password to be shown now, if it is one."""
        proof = self._next(user)
        return self._show(proof).password if proof and proof.password is not None else None

    def skip(self, user: str) -> None:
        """Leave out the next one: the other side takes nothing of its kind from this user."""
        if self._next(user):
            del self._left[0]

    def _next(self, user: str) -> Proof | None:
        return self._left[0] if self._left and self._left[0].credentials.user == user else None

    def _show(self, proof: Proof) -> Proof:
        self.shown = self._left.pop(0)
        return proof

    def denied(self, where: str) -> AuthenticationError:
        """That nothing was accepted."""
        if self.problems and self.count == 1:
            return self.problems[0]
        if self.count > 1:
            users = ", ".join(map(repr, self._users))
            text = f"{where} accepted none of {self.count} credentials (user {users})"
        else:
            text = f"{where} did not accept the credentials of user {self.user!r}"
        known = "".join(f"; {problem.text}" for problem in self.problems)
        return AuthenticationError(
            text + known, remedy="check user, pass and private_key of the device"
        )


class Guest(asyncssh.SSHClient):
    """Answers what the other side asks during one connection, and notes how far it came."""

    def __init__(self, host: Host, host_keys: HostKeyStore, proofs: Proofs) -> None:
        self._host = host.host
        self._port = host.protocol.ssh.port
        self._given_keys = host.protocol.ssh.host_keys
        self.user = proofs.user
        self._host_keys = host_keys
        self._proofs = proofs
        self._connection: asyncssh.SSHClientConnection | None = None
        self._key_problem: SessionError | None = None
        self._key_accepted = False
        self._asked: Secret | None = None  # the password to answer questions with
        self.unwanted = True
        """Whether what is next to be shown is of no kind that the other side takes, if it asks for
        nothing more."""
        self._shown_before = self._refused = proofs.shown
        self.on_connected: Callable[[], None] = lambda: None
        self.on_lost: Callable[[Exception | None], None] = lambda _: None

    def connection_made(self, conn: asyncssh.SSHClientConnection) -> None:
        """The connection stands, without a login yet."""
        self._connection = conn
        self.on_connected()

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection is no more."""
        self.on_lost(exc)

    def validate_host_public_key(
        self, host: str, addr: str, port: int, key: asyncssh.SSHKey
    ) -> bool:
        """Ask the store; keep its reason for `explain`."""
        try:
            self._host_keys.check(self._host, self._port, key, self._given_keys)
        except SessionError as error:
            self._key_problem = error
            return False
        self._key_accepted = True
        return True

    async def _wait_to_be_put_out(self) -> None:
        """After a refusal, see whether the other side hangs up: nothing more is to be shown then.

        It would not be looked at, and yet count as tried.
        """
        if self._proofs and self._proofs.shown is not self._refused:
            self._refused = self._proofs.shown
            await asyncio.sleep(_HANGING_UP_SECONDS)

    async def public_key_auth_requested(self) -> Keys | None:
        """The keys whose turn it is."""
        await self._wait_to_be_put_out()
        keys = self._proofs.take_keys(self.user)
        self.unwanted = keys is None
        return keys

    async def password_auth_requested(self) -> str | None:
        """The password whose turn it is."""
        await self._wait_to_be_put_out()
        password = self._take_password()
        return password.reveal() if password is not None else None

    def password_change_requested(self, prompt: str, lang: str) -> Any:
        """Change none: that is for people."""
        self._note_expired()
        return NotImplemented

    async def kbdint_auth_requested(self) -> str | None:
        """Take part if there is a password whose turn it is."""
        await self._wait_to_be_put_out()
        self._asked = self._take_password()
        return "" if self._asked is not None else None

    def _take_password(self) -> Secret | None:
        password = self._proofs.take_password(self.user)
        self.unwanted = password is None
        return password

    def kbdint_challenge_received(
        self, name: str, instructions: str, lang: str, prompts: Sequence[tuple[str, bool]]
    ) -> list[str] | None:
        """The answers to one round of questions; none to give up."""
        answers = []
        for question, seen in prompts:
            answer = self._answer(question, seen=seen)
            if answer is None:
                return None
            answers.append(answer)
        return answers

    def _answer(self, question: str, *, seen: bool) -> str | None:
        """The user's name or password, once; nothing where there is only a key to be pressed."""
        if _ASKS_NEW_PASSWORD.search(question):
            self._note_expired()
            return None
        if seen and not _ASKS_PASSWORD.search(question):
            return self.user if _ASKS_USER.search(question) else ""
        if self._asked is None:
            if not _ASKS_PASSWORD.search(question):  # else the one before was wrong
                self._note(
                    f"the password of user {self.user!r} was not enough: a further secret is "
                    f"asked for, {quote(question)!r}"
                )
            return None
        password, self._asked = self._asked, None
        return password.reveal()

    def _note_expired(self) -> None:
        self._note(
            f"the password of user {self.user!r} has expired: another one is asked for",
            remedy="change the password on the device, then in its credentials",
        )

    def _note(self, text: str, remedy: str | None = None) -> None:
        self._proofs.problems.append(AuthenticationError(text, remedy=remedy))

    def abort(self) -> None:
        """Drop the connection, if there is one."""
        if self._connection is not None:
            self._connection.abort()

    def is_denial(self, error: Exception) -> bool:
        """Whether the connection ended since what was shown was not accepted."""
        if isinstance(error, asyncssh.PermissionDenied):
            return True
        shown = self._proofs.shown is not self._shown_before
        # Devices hang up after the last attempt that they allow.
        return shown and isinstance(error, asyncssh.DisconnectError | ConnectionError)

    def explain(self, error: Exception, login_seconds: float) -> SessionError:
        """What `error`, met while logging in, means."""
        where = f"{self._host} port {self._port}"
        match error:
            case _ if self._key_problem is not None:
                return self._key_problem
            case TimeoutError():
                step = "logging in" if self._key_accepted else "the SSH handshake"
                return TimedOutError(
                    f"{where} accepted the connection, but {step} did not end within "
                    f"{login_seconds:g} s"
                )
            case asyncssh.KeyExchangeFailed() | asyncssh.ProtocolNotSupported():
                return RefusedError(
                    f"{where} and the worker have no way of speaking SSH in common: "
                    f"{quote(str(error))}"
                )
            case _ if self.is_denial(error):
                return self._proofs.denied(where)
            case _:
                step = "during login" if self._key_accepted else "during the SSH handshake"
                return RefusedError(f"{where} ended the connection {step}: {quote(str(error))}")
