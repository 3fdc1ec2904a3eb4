"""A short text that is the same for configurations that are the same, to tell controllers apart."""

import hashlib
from pathlib import Path
from typing import Any, Final

import msgspec

from roundsman.config.records import Configuration, Listen, LogSettings
from roundsman.secret import Secret

_BYTES: Final = 8


def digest_of(configuration: Configuration, salt: str) -> str:
    """Of all that controllers which share a ledger have to have in common.

    That leaves out where each of them keeps its data, listens and logs. Secrets are part of it, and
    nobody who does not know the salt can try them.
    """
    found = hashlib.blake2b(digest_size=_BYTES, key=salt.encode()[: hashlib.blake2b.MAX_KEY_SIZE])
    settings = msgspec.structs.replace(
        configuration.controller, data=Path(), listen=Listen(), log=LogSettings(), address=None
    )
    encode = msgspec.json.Encoder(enc_hook=_plain, order="sorted").encode
    found.update(encode(settings))
    known: dict[int, str] = {}

    def short(part: object) -> str:
        """A device or a job, encoded once for all slots that share it."""
        if id(part) not in known:
            known[id(part)] = hashlib.sha256(encode(part)).hexdigest()
        return known[id(part)]

    for (device, job), slot in sorted(configuration.slots.items()):
        rest = (slot.plan, slot.priority, slot.retries, slot.shrink_guard)
        found.update(encode((device, job, short(slot.device), short(slot.job), rest)))
    return found.hexdigest()


def _plain(value: Any) -> Any:
    if isinstance(value, Secret):
        return value.reveal()
    if isinstance(value, Path):
        return str(value)
    raise NotImplementedError(f"{type(value).__name__} is not part of a configuration")
