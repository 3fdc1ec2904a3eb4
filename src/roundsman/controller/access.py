"""Who calls, and what they may do.

A caller shows a token, as a bearer token or as the password of HTTP basic authentication. Only
hashes of tokens are kept. Without any configured token the controller is open: whoever reaches it
is an administrator, which is why it then serves loopback alone, and refuses what a web page of
another site makes a local browser send.
"""

import asyncio
import base64
import binascii
import hashlib
import hmac
import secrets
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from typing import Final, NamedTuple
from urllib.parse import urlsplit

import msgspec

from roundsman.config.records import Role, Token
from roundsman.config.settings import is_loopback
from roundsman.errors import RoundsmanError
from roundsman.ledger.interface import Ledger
from roundsman.secret import Secret
from roundsman.wire.worker import Worker

HASH_PREFIX: Final = "sha256:"
ANONYMOUS: Final = "anonymous"


class UnauthenticatedError(RoundsmanError):
    """No credential, or one that is not known."""

    code = "access.unauthenticated"


class ForbiddenError(RoundsmanError):
    """The credential is known and may not do this."""

    code = "access.forbidden"


class OriginError(ForbiddenError):
    """A browser sent this on behalf of a page of another site."""

    code = "access.origin"


class Principal(msgspec.Struct, frozen=True, kw_only=True):
    """Who calls."""

    name: str
    """Name of the credential; for an enrolled worker its id."""
    role: Role
    """What it may do."""
    tags: frozenset[str] | None = None
    """Only devices with any of these; none: not narrowed."""
    address: str | None = None
    """Where the call came from; behind a proxy, what the proxy says."""
    worker_id: str | None = None
    """Set for the own token of an enrolled worker: it acts for this id only."""

    def require(self, *roles: Role) -> None:
        """Return when the role is one of these; raise `ForbiddenError` if not."""
        if self.role not in roles:
            raise ForbiddenError(
                f"{self.name}: role {self.role} may not do this, expected {' or '.join(roles)}"
            )


class NewToken(NamedTuple):
    """A token just made, and what is kept of it."""

    token: Secret
    hash: str


def token_hash(token: str) -> str:
    """What is kept of a token: `sha256:` and the hexadecimal digest."""
    return HASH_PREFIX + hashlib.sha256(token.encode("utf-8", "surrogateescape")).hexdigest()


def new_token() -> NewToken:
    """A fresh token of 256 random bits, and its hash."""
    token = secrets.token_urlsafe(32)
    return NewToken(Secret(token), token_hash(token))


class _Shown(NamedTuple):
    """What a request shows; the user only in HTTP basic authentication."""

    user: str | None
    token: str


def _parse_authorization(header: str) -> _Shown:
    scheme, _, value = header.partition(" ")
    match scheme.lower():
        case "bearer":
            return _Shown(None, value.strip())
        case "basic":
            return _parse_basic(value.strip())
    raise UnauthenticatedError("expected Bearer or Basic credentials in Authorization")


def _parse_basic(value: str) -> _Shown:
    malformed = UnauthenticatedError("the basic credentials cannot be decoded")
    try:
        user, colon, token = base64.b64decode(value, validate=True).decode().partition(":")
    except (binascii.Error, UnicodeDecodeError):
        raise malformed from None
    if not colon:
        raise malformed
    return _Shown(user, token)


class Access:
    """Knows every credential: the configured tokens, and those of enrolled workers."""

    def __init__(self, tokens: Sequence[Token]) -> None:
        """Start with the configured tokens; without any, open."""
        self.open = not tokens
        self._tokens = _by_hash(_configured(tokens))
        self._workers: dict[str, list[tuple[str, Principal]]] = {}
        self._refreshing = asyncio.Lock()

    def set_tokens(self, tokens: Sequence[Token]) -> bool:
        """Take the tokens of a new configuration.

        False, and nothing changed, when this would open or close the controller: that takes a
        restart, since whether it may be open depends on where it listens.
        """
        if self.open != (not tokens):
            return False
        self._tokens = _by_hash(_configured(tokens))
        return True

    async def refresh_workers(self, ledger: Ledger) -> None:
        """Learn the tokens of enrolled workers anew; called at start and on removal."""
        # One at a time: what an older reading found must not replace a newer one.
        async with self._refreshing:
            await self._read_workers(ledger)

    async def enrol(self, ledger: Ledger, worker: Worker, digest: str) -> None:
        """Keep a new worker, and know its token without reading those of thousands of others."""
        async with self._refreshing:  # whoever removes it meanwhile reads all after this
            await ledger.add_worker(worker, digest)
            self._workers.setdefault(_bucket(digest), []).append((digest, _own(worker)))

    async def _read_workers(self, ledger: Ledger) -> None:
        digests = await ledger.worker_tokens()
        workers = {worker.worker_id: worker for worker in await ledger.workers()}
        self._workers = _by_hash(
            (
                digest,
                _own(workers[worker_id]),
            )
            for digest, worker_id in digests.items()
            if worker_id in workers
        )

    def authenticate(self, authorization: str | None) -> Principal:
        """Who shows this `Authorization` header. Raises `UnauthenticatedError`.

        An open controller takes everyone for an administrator who shows nothing, or basic
        credentials that it does not know (clients of the published contract always send some);
        an unknown bearer token is refused all the same: its bearer counts on being known.
        """
        if authorization is None:
            if self.open:
                return Principal(name=ANONYMOUS, role=Role.ADMINISTRATOR)
            raise UnauthenticatedError("a token is needed, as Bearer or Basic credentials")
        shown = _parse_authorization(authorization)
        principal = self._find(shown)
        if principal is not None:
            return principal
        if self.open and shown.user is not None:
            return Principal(name=ANONYMOUS, role=Role.ADMINISTRATOR)
        raise UnauthenticatedError("this token is not known")

    def _find(self, shown: _Shown) -> Principal | None:
        digest = token_hash(shown.token)
        found: Principal | None = None
        for known in (self._tokens, self._workers):
            for kept, principal in known.get(_bucket(digest), ()):
                # No early exit: the time taken does not depend on which digest matched.
                if hmac.compare_digest(kept, digest):
                    found = principal
        if found is None or shown.user is None:
            return found
        same_name = hmac.compare_digest(found.name.encode(), shown.user.encode())
        return found if same_name else None

    def check_origin(self, headers: Mapping[str, str]) -> None:
        """Refuse what a page of another site had a browser send. Raises `OriginError`.

        A bearer token is never sent by a browser on its own, so requests with one pass.
        """
        if headers.get("authorization", "").lower().startswith("bearer "):
            return
        host = headers.get("host", "")
        if self.open and not _is_local(host):
            # A name that an attacker made resolve to this machine (DNS rebinding).
            raise OriginError(
                "an open controller answers only to localhost",
                remedy="use http://localhost or http://127.0.0.1, or configure tokens",
            )
        fetch_site = headers.get("sec-fetch-site")
        if fetch_site is not None:
            foreign = fetch_site not in ("same-origin", "none")
        else:
            origin = headers.get("origin")
            foreign = origin is not None and urlsplit(origin).netloc.lower() != host.lower()
        if foreign:
            raise OriginError("requests from pages of other sites are not answered")


@lru_cache(maxsize=64)
def _is_local(host: str) -> bool:
    """Whether a `Host` header names this machine; asked with each call."""
    try:
        return is_loopback(urlsplit(f"//{host}").hostname or "")
    except ValueError:
        return False


def _own(worker: Worker) -> Principal:
    """Whom a worker's own token is of."""
    return Principal(
        name=worker.worker_id,
        role=Role.WORKER,
        tags=frozenset(worker.allowed_tags) or None,
        worker_id=worker.worker_id,
    )


def _configured(tokens: Sequence[Token]) -> Iterable[tuple[str, Principal]]:
    for token in tokens:
        yield (
            token.hash.lower(),
            Principal(
                name=token.name,
                role=token.role,
                tags=frozenset(token.tags) or None if token.role is Role.WORKER else None,
            ),
        )


def _bucket(digest: str) -> str:
    # 32 bits of the digest keep the search short among many workers; the rest is compared in
    # constant time.
    return digest[: len(HASH_PREFIX) + 8]


def _by_hash(
    pairs: Iterable[tuple[str, Principal]],
) -> dict[str, list[tuple[str, Principal]]]:
    buckets: dict[str, list[tuple[str, Principal]]] = {}
    for digest, principal in pairs:
        buckets.setdefault(_bucket(digest), []).append((digest, principal))
    return buckets
