"""Whether a script is signed: files as `ssh-keygen -Y sign` makes them, OpenSSH's PROTOCOL.sshsig.

Keys and signatures are verified by asyncssh, which takes as much memory as a keeper alone. So it is
loaded by `load`, which a keeper calls as soon as its policy names signers.
"""

import base64
import binascii
import functools
import hashlib
import importlib
from collections.abc import Sequence
from typing import Any, Final

from roundsman.worker.signers import NAMESPACE, Signer

_BEGIN: Final = b"-----BEGIN SSH SIGNATURE-----"
_END: Final = b"-----END SSH SIGNATURE-----"
_MAGIC: Final = b"SSHSIG"
_VERSION: Final = 1
_HASHES: Final = {b"sha256": hashlib.sha256, b"sha512": hashlib.sha512}
_WEAK: Final = frozenset({b"ssh-rsa", b"ssh-dss"})  # by SHA-1, which ssh-keygen refuses too


class UnsignedError(ValueError):
    """The signature does not count; its text says why, to follow "the signature"."""


@functools.cache
def load() -> Any:
    """Have the library at hand from now on, whatever becomes of its files."""
    return importlib.import_module("asyncssh"), importlib.import_module("asyncssh.packet")


def check(content: bytes, signature: bytes, signers: Sequence[Signer], now: float) -> Signer:
    """Who has signed that content. Raises `UnsignedError` where no listed one has."""
    asyncssh, packet = load()
    try:
        sshsig = packet.SSHPacket(_unwrapped(signature))
        if sshsig.get_bytes(len(_MAGIC)) != _MAGIC or sshsig.get_uint32() != _VERSION:
            raise UnsignedError("is not one that ssh-keygen has made")
        key, namespace = sshsig.get_string(), sshsig.get_string()
        reserved, hash_name, signed = (sshsig.get_string() for _ in range(3))
        sshsig.check_end()
        algorithm = packet.SSHPacket(signed).get_string()
    except packet.PacketDecodeError:
        raise UnsignedError("is damaged") from None
    if namespace != NAMESPACE.encode():
        said = namespace.decode(errors="replace")
        raise UnsignedError(f"is for the namespace {said!r}, expected {NAMESPACE!r}")
    listed = [signer for signer in signers if signer.key == key]
    if not listed:
        raise UnsignedError("is not by a key that the policy lists")
    allowed = [signer for signer in listed if signer.may_sign(NAMESPACE, now)]
    if not allowed:
        raise UnsignedError(f"is by {listed[0].name}, whose key does not count for that now")
    if hash_name not in _HASHES or algorithm in _WEAK:
        raise UnsignedError("is made in a way that is too weak")
    digest = _HASHES[hash_name](content).digest()
    parts = (namespace, reserved, hash_name, digest)
    data = _MAGIC + b"".join(len(part).to_bytes(4, "big") + part for part in parts)
    try:
        fits = asyncssh.public_key.decode_ssh_public_key(key).verify(data, signed)
    except (asyncssh.KeyImportError, ValueError):
        fits = False
    if not fits:
        raise UnsignedError("does not fit its content")
    return allowed[0]


def _unwrapped(signature: bytes) -> bytes:
    lines = signature.split()
    text = b" ".join(lines)
    if not (text.startswith(_BEGIN) and text.endswith(_END)):
        raise UnsignedError("is not one that ssh-keygen has made")
    inner = text[len(_BEGIN) : -len(_END)]
    try:
        return base64.b64decode(b"".join(inner.split()), validate=True)
    except binascii.Error:
        raise UnsignedError("is damaged") from None
