"""Calls from controller to controller: how one reaches the other, and how each is known.

Each controller makes a pair of keys when it starts, and enters the public one into the register in
the ledger. A call bears a signature of whoever makes it: over whom it is for, when it was made, and
what is asked. So nothing has to be configured, and who can only read the ledger can call nobody.
"""

import asyncio
import base64
import binascii
import ssl
from collections.abc import AsyncIterator
from typing import Final

import aiohttp
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import (
    Ed25519PrivateKey,
    Ed25519PublicKey,
)

from roundsman.clock import Clock
from roundsman.config.records import Role
from roundsman.controller.access import Principal, UnauthenticatedError
from roundsman.controller.membership import Membership
from roundsman.errors import UnavailableError
from roundsman.ledger.interface import Ledger, RegisteredController

SCHEME: Final = "Controller "
SIGNED_SECONDS: Final = 30.0
"""A signature is taken for so long after it was made, or before, by the ledger's clock."""
CONNECT_SECONDS: Final = 5.0
SILENT_SECONDS: Final = 5.0
"""When nothing came for so long, it is looked up whether the other controller still lives."""


class PeerError(UnavailableError):
    """Another controller has the worker, and cannot be reached."""

    code = "controller.not_reached"


class PeerAnswer:
    """What another controller answers, read as it comes."""

    def __init__(
        self, answer: aiohttp.ClientResponse, peer: RegisteredController, membership: Membership
    ) -> None:
        """Take the answer, of which the head has come."""
        self._answer = answer
        self._peer = peer
        self._membership = membership
        self.status = answer.status
        self.media_type = answer.content_type

    async def parts(self) -> AsyncIterator[bytes]:
        """The body, in the parts in which it was written. Raises `PeerError`."""
        part = b""
        chunks = self._answer.content.iter_chunks().__aiter__()
        reading: asyncio.Task[tuple[bytes, bool]] | None = None
        try:
            while True:
                reading = reading or asyncio.ensure_future(anext(chunks))
                await asyncio.wait({reading}, timeout=SILENT_SECONDS)
                if not reading.done():
                    self._check_alive()
                    continue
                try:
                    data, whole = reading.result()
                except StopAsyncIteration:
                    break
                reading = None
                part += data
                if whole:
                    yield part
                    part = b""
            yield part
        except (aiohttp.ClientError, OSError) as error:
            raise _not_reached(self._peer) from error
        finally:
            if reading is not None:
                reading.cancel()
            self._answer.close()

    async def whole(self) -> bytes:
        """The body, of an answer that is short."""
        return b"".join([part async for part in self.parts()])

    def _check_alive(self) -> None:
        if all(
            each.controller_id != self._peer.controller_id for each in self._membership.others()
        ):
            raise _not_reached(self._peer)


class Peers:
    """The other controllers, as this one calls them and is called by them."""

    def __init__(self, *, ledger: Ledger, membership: Membership, clock: Clock) -> None:
        """Make this controller's keys."""
        self._ledger = ledger
        self._membership = membership
        self._clock = clock
        self._key = Ed25519PrivateKey.generate()
        self._http: aiohttp.ClientSession | None = None

    @property
    def public_key(self) -> str:
        """What the register says of this controller, base64."""
        return base64.b64encode(self._key.public_key().public_bytes_raw()).decode()

    async def close(self) -> None:
        """Break off what is being read."""
        if self._http is not None:
            await self._http.close()

    async def get(self, controller_id: str, target: str) -> PeerAnswer:
        """Ask another controller for a path, with its query. Raises `PeerError`."""
        peer = await self._find(controller_id)
        if peer is None or peer.address is None:
            raise PeerError("the controller that has the worker says nowhere where it is reached")
        if self._http is None:
            self._http = aiohttp.ClientSession(
                timeout=aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_SECONDS)
            )
        try:
            answer = await self._http.get(
                peer.address.rstrip("/") + target,
                headers={"Authorization": self._sign(controller_id, "GET", target)},
                allow_redirects=False,
                ssl=_trust(peer),
            )
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            raise _not_reached(peer) from error
        return PeerAnswer(answer, peer, self._membership)

    async def identify(self, authorization: str, method: str, target: str) -> Principal:
        """Which controller makes this call. Raises `UnauthenticatedError`."""
        shown = authorization.removeprefix(SCHEME)
        try:
            caller, at, signature = shown.split(":")
            made_at, signed = float(at), base64.b64decode(signature, validate=True)
        except (ValueError, binascii.Error):
            raise UnauthenticatedError("the signature cannot be read") from None
        peer = await self._find(caller)
        if peer is None or not peer.peer_key:
            raise UnauthenticatedError("this controller is not known")
        if not abs(self._clock.now() - made_at) <= SIGNED_SECONDS:
            raise UnauthenticatedError("the signature is too old, or from the future")
        text = _text(caller, self._membership.controller_id, at, method, target)
        try:
            Ed25519PublicKey.from_public_bytes(base64.b64decode(peer.peer_key)).verify(signed, text)
        except (InvalidSignature, ValueError):
            raise UnauthenticatedError("the signature is not that controller's") from None
        return Principal(name=f"controller {caller}", role=Role.READER)

    def _sign(self, to: str, method: str, target: str) -> str:
        at = f"{self._clock.now():.3f}"
        me = self._membership.controller_id
        signature = self._key.sign(_text(me, to, at, method, target))
        return f"{SCHEME}{me}:{at}:{base64.b64encode(signature).decode()}"

    async def _find(self, controller_id: str) -> RegisteredController | None:
        """Another controller that lives; one that has just started is in the ledger alone."""
        for known in (self._membership.others(), await self._ledger.controllers()):
            for each in known:
                if each.controller_id == controller_id:
                    return each
        return None


def _text(caller: str, to: str, at: str, method: str, target: str) -> bytes:
    return f"roundsman call 1\n{caller}\n{to}\n{at}\n{method}\n{target}".encode()


def _trust(peer: RegisteredController) -> ssl.SSLContext | bool:
    """Take the very certificate that the register has of it, or else those trusted here."""
    if peer.certificate is None:
        return True
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False  # it is that certificate, whatever it says
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    context.load_verify_locations(cadata=peer.certificate)
    return context


def _not_reached(peer: RegisteredController) -> PeerError:
    return PeerError(
        f"the controller that has the worker cannot be reached at {peer.address}",
        remedy="set controller.address to where other controllers reach it",
    )
