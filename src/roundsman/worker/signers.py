"""Who may sign scripts: lines as in OpenSSH's ALLOWED SIGNERS files, ssh-keygen(1).

    PRINCIPALS [OPTIONS] KEY-TYPE KEY [COMMENT]

Options are `namespaces`, `valid-after` and `valid-before`. `cert-authority` is refused:
certificates are not taken.
"""

import base64
import binascii
import calendar
import re
import time
from fnmatch import fnmatchcase
from typing import Final

import msgspec

NAMESPACE: Final = "roundsman"
"""For what scripts are signed: `ssh-keygen -Y sign -n roundsman`."""

_WORD: Final = re.compile(r'(?:[^\s"]|"[^"]*")+')
_OPTION: Final = re.compile(r'([A-Za-z-]+)(?:="([^"]*)")?(?:,|$)')
_KEY_TYPE: Final = re.compile(r"(ssh|ecdsa|sk-ssh|sk-ecdsa)-[a-z0-9@.-]+")
_FORMS: Final = {8: "%Y%m%d", 12: "%Y%m%d%H%M", 14: "%Y%m%d%H%M%S"}  # by the number of digits


class Signer(msgspec.Struct, frozen=True, kw_only=True):
    """One line."""

    name: str
    """Its principals."""
    key: bytes
    """The public key, as SSH has it on the wire."""
    namespaces: tuple[str, ...] = ()
    """Patterns, one of which the namespace has to match; none: any."""
    valid_after: float | None = None
    """Unix seconds."""
    valid_before: float | None = None

    def may_sign(self, namespace: str, now: float) -> bool:
        """Whether its signature counts for that, at that time."""
        return (
            (not self.namespaces or any(fnmatchcase(namespace, one) for one in self.namespaces))
            and (self.valid_after is None or now >= self.valid_after)
            and (self.valid_before is None or now < self.valid_before)
        )


def read_signer(line: str) -> Signer:
    """What a line says. Raises `ValueError` with what is wrong with it."""
    words = _WORD.findall(line)
    if len(words) >= 3 and _KEY_TYPE.fullmatch(words[1]):
        options: dict[str, str] = {}
        name, key_type, key = words[0], words[1], words[2]
    elif len(words) >= 4 and _KEY_TYPE.fullmatch(words[2]):
        options = _read_options(words[1])
        name, key_type, key = words[0], words[2], words[3]
    else:
        raise ValueError(
            "expected PRINCIPALS [OPTIONS] KEY-TYPE KEY, as in an allowed_signers file"
        )
    try:
        blob = base64.b64decode(key, validate=True)
    except binascii.Error:
        raise ValueError("its key is not base64") from None
    if blob[4 : 4 + int.from_bytes(blob[:4], "big")] != key_type.encode():
        raise ValueError(f"its key is not one of {key_type}")
    namespaces = options.get("namespaces", "")
    return Signer(
        name=name.strip('"'),
        key=blob,
        namespaces=tuple(namespaces.split(",")) if namespaces else (),
        valid_after=_read_time(options.get("valid-after")),
        valid_before=_read_time(options.get("valid-before")),
    )


def _read_options(text: str) -> dict[str, str]:
    options: dict[str, str] = {}
    end = 0
    for match in _OPTION.finditer(text):
        if match.start() != end:
            break
        end = match.end()
        name = match[1].lower()
        if name not in ("namespaces", "valid-after", "valid-before"):
            raise ValueError(f"the option {name} is not known here")
        options[name] = match[2] or ""
    if end != len(text):
        raise ValueError(f"its options cannot be read: {text}")
    return options


def _read_time(text: str | None) -> float | None:
    """As ssh-keygen: local time, or with a `Z` at the end that of UTC."""
    if text is None:
        return None
    digits = text.removesuffix("Z")
    try:
        read = time.strptime(digits, _FORMS[len(digits)])
    except (KeyError, ValueError):
        raise ValueError(f"not a time as YYYYMMDD[HHMM[SS]][Z]: {text}") from None
    return float(calendar.timegm(read)) if text.endswith("Z") else time.mktime(read)
