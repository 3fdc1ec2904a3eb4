"""Whether what stands where a secret may stand is one."""

import math
import re
from collections import Counter
from typing import Final

_NOT_SECRETS: Final = frozenset(
    b"""
    none null nil true false yes no on off enable enabled disable disabled required optional default
    unset empty set not never always must may can will has have had was is are be been for and or to
    with without in of the your this that from by via as at if when than then use using only
    password passwords passwd passphrase secret secrets key keys token psk encryption encrypted
    encrypt hash hashed hidden removed redacted masked stripped cleared
    expiry expire expired expires expiration age aging lifetime history length min-length max-length
    minimum minimum-length maximum strength strength-check complexity complexity-check policy check
    change changed prompt retry retries recovery reset level type mode method format size rules
    attempts authentication authorization authenticate accounting login local user users username
    group server host client chain generate import export zeroize rsa dsa ecdsa ed25519 x509
    md5 sha sha1 sha256 sha512 aes des 3des hmac cipher ascii hex string text simple plain plaintext
    cleartext clear-text required-characters reuse warning warn notify timeout lockout file path url
    auto automatic manual ask prompted system global radius tacacs tacacs+ ldap pki certificate
    auth priv read write create add map index name mode
    access-list access permit deny read-only read-write peer public-key publickey pre-shared-key
    """.split()
)
# What filters, and devices themselves, put where a secret was.
_STANDS_IN: Final = re.compile(
    rb"[<*{\[]|%(?:[{(]|\w+%?\Z)|\$\{|\$\(|\$\w*\Z|x+\Z|\.+\Z|-+\Z|/|\./|file:|env:|vault:|0x\Z"
    rb"|.*(?:hidden|removed|redacted|masked|suppressed|_here)",
    re.IGNORECASE,
)
_MARK_AHEAD: Final = re.compile(
    rb"""["']?(?:[ \t]+\S+){0,3}[ \t]+["']?<(?:secret|hidden|removed)"""
)
_KNOWN_PUBLIC: Final = re.compile(
    rb"public|fingerprint|ssh-(?:rsa|dss|ed25519)|ecdsa-sha2|certificate|\bAAAA", re.IGNORECASE
)
_SEPARATORS: Final = re.compile(rb"[-_/]")
_LEAST_BITS: Final = 3.7
"""Of entropy for each byte. Base64 of random bytes has 4.2 or more at 24 characters; identifiers
made of words rarely reach 3.6."""
_LEAST_RUN: Final = 12
"""Random text has no separator for so many characters somewhere; words have."""


def is_plausible(value: bytes, rest: bytes) -> bool:
    """Whether a value may be a secret: no keyword, nor what a filter left in a secret's place.

    `rest` is what follows on its line: with a filter's mark soon after it, it was a keyword.
    """
    if _MARK_AHEAD.match(rest):
        return False
    word = value.strip(b"\"';,:.()").lower()
    if word in _NOT_SECRETS or b"<" in value or _STANDS_IN.match(value):
        return False
    if value.startswith(b"name="):  # the next setting of its line
        return False
    return len(word) > 2 and not (word.isdigit() and len(word) < 5)


def is_random(value: bytes, line: bytes) -> bool:
    """Whether a long value looks as if it were drawn by lot, and its line does not say public."""
    if not (
        any(byte in b"0123456789" for byte in value)
        and value.lower() != value
        and value.upper() != value
    ):
        return False
    if max(map(len, _SEPARATORS.split(value))) < _LEAST_RUN or value.startswith(b"/"):
        return False
    counts = Counter(value).values()
    bits = -sum(n / len(value) * math.log2(n / len(value)) for n in counts)
    return bits >= _LEAST_BITS and not _KNOWN_PUBLIC.search(line)
