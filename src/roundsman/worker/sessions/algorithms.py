"""Which algorithms of SSH are offered, the cheapest good one first.

Measured (docs/adr/0009-sessions.md): the key exchange is most of the price of a short session, so
the order is by what a login costs, among those that nothing is known against.
"""

from typing import Final

KEY_EXCHANGE: Final = (
    "curve25519-sha256",
    "curve25519-sha256@libssh.org",
    "ecdh-sha2-nistp256",
    "ecdh-sha2-nistp384",
    "ecdh-sha2-nistp521",
    "diffie-hellman-group14-sha256",
    "diffie-hellman-group-exchange-sha256",
    "diffie-hellman-group16-sha512",
    "diffie-hellman-group18-sha512",
)

HOST_KEY: Final = (
    "ssh-ed25519",
    "ecdsa-sha2-nistp256",
    "ecdsa-sha2-nistp384",
    "ecdsa-sha2-nistp521",
    "rsa-sha2-256",
    "rsa-sha2-512",
)

CIPHERS: Final = (
    "aes128-gcm@openssh.com",
    "aes256-gcm@openssh.com",
    "aes128-ctr",
    "aes192-ctr",
    "aes256-ctr",
    "chacha20-poly1305@openssh.com",
)

CBC_CIPHERS: Final = ("aes128-cbc", "aes192-cbc", "aes256-cbc", "3des-cbc")
"""Only where a device's entry asks for them."""

MACS: Final = (
    "hmac-sha2-256-etm@openssh.com",
    "hmac-sha2-512-etm@openssh.com",
    "hmac-sha2-256",
    "hmac-sha2-512",
    "hmac-sha1-etm@openssh.com",
    "hmac-sha1",
)


def ciphers(*, include_cbc: bool) -> tuple[str, ...]:
    """The ciphers to offer to one device."""
    return CIPHERS + CBC_CIPHERS if include_cbc else CIPHERS


def host_key_algorithms(known_types: tuple[str, ...]) -> tuple[str, ...]:
    """Signature algorithms to offer, those of keys already known first.

    A device with several keys then shows the one that can be checked.
    """
    known = {
        name
        for known_type in known_types
        for name in (("rsa-sha2-256", "rsa-sha2-512") if known_type == "ssh-rsa" else (known_type,))
    }
    return tuple(sorted(HOST_KEY, key=lambda name: name not in known))
