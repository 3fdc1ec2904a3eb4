"""Private keys: those of the credentials, and those of the worker's SSH agent."""

import functools
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import asyncssh

from roundsman.secret import Secret
from roundsman.wire.device import Credentials
from roundsman.worker.sessions.errors import AuthenticationError

Keys = Sequence[
    asyncssh.SSHKey | asyncssh.SSHKeyPair | tuple[asyncssh.SSHKey, asyncssh.SSHCertificate]
]


def read_private_key(credentials: Credentials) -> Keys | None:
    """The key of credentials, with its certificate; none where there is none.

    Raises `AuthenticationError` when it cannot be read.
    """
    if credentials.private_key is None:
        return None
    try:
        key = _unlock(credentials.private_key, credentials.passphrase)
    except (asyncssh.KeyImportError, asyncssh.KeyEncryptionError):
        # Their texts may quote the key: not shown.
        raise AuthenticationError(
            f"the private key of user {credentials.user!r} cannot be read: expected OpenSSH or "
            "PEM format, with its passphrase if it has one",
            remedy="check private_key and passphrase of the device",
        ) from None
    if credentials.certificate is None:
        return [key]
    try:
        certificate = asyncssh.import_certificate(credentials.certificate)
        asyncssh.load_keypairs([(key, certificate)])  # which refuses one of another key
    except (asyncssh.KeyImportError, ValueError):
        raise AuthenticationError(
            f"the certificate of user {credentials.user!r} cannot be used: expected an OpenSSH "
            "certificate for the private key",
            remedy="check certificate and private_key of the device",
        ) from None
    return [(key, certificate)]


# Fleets share keys, and each unlocking of an encrypted one takes about 0.1 s by design.
@functools.lru_cache(maxsize=64)
def _unlock(key: Secret, passphrase: Secret | None) -> asyncssh.SSHKey:
    return asyncssh.import_private_key(key.reveal(), passphrase.reveal() if passphrase else None)


@asynccontextmanager
async def agent_keys(path: Path | None, user: str) -> AsyncIterator[Keys]:
    """The keys of the SSH agent that listens at `path`, to be used while inside.

    Raises `AuthenticationError` where there is none, or the worker permits none.
    """
    if path is None:
        raise AuthenticationError(
            f"the credentials of user {user!r} ask for the worker's SSH agent, and this worker "
            "permits none",
            remedy="name the agent's socket as ssh_agent in the worker's settings",
        )
    try:
        agent = await asyncssh.connect_agent(str(path))
    except OSError as error:
        raise AuthenticationError(
            f"the worker's SSH agent at {path} cannot be reached: {error.strerror or error}"
        ) from None
    async with agent:
        try:
            keys = await agent.get_keys()
        except ValueError as error:
            raise AuthenticationError(f"the worker's SSH agent gave no keys: {error}") from None
        yield list(keys)
