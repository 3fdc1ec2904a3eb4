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

LEGACY_KEY_EXCHANGE: Final = (
    "diffie-hellman-group14-sha1",
    "diffie-hellman-group-exchange-sha1",
    "diffie-hellman-group1-sha1",
)
"""Only where a device's entry asks for them."""

HOST_KEY: Final = (
    "ssh-ed25519",
    "ecdsa-sha2-nistp256",
    "ecdsa-sha2-nistp384",
    "ecdsa-sha2-nistp521",
    "rsa-sha2-256",
    "rsa-sha2-512",
)

LEGACY_HOST_KEY: Final = ("ssh-rsa",)
"""Only where a device's entry asks for them: RSA keys whose signatures are made with SHA-1."""

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


def key_exchange(*, include_legacy: bool) -> tuple[str, ...]:
    """The ways of key exchange to offer to one device."""
    return KEY_EXCHANGE + LEGACY_KEY_EXCHANGE if include_legacy else KEY_EXCHANGE


def host_key_algorithms(
    known_types: tuple[str, ...], *, include_legacy: bool = False
) -> tuple[str, ...]:
    """Signature algorithms to offer, those of keys already known first.

    A device with several keys then shows the one that can be checked.
    """
    known = {
        name
        for known_type in known_types
        for name in (
            ("rsa-sha2-256", "rsa-sha2-512", "ssh-rsa")
            if known_type == "ssh-rsa"
            else (known_type,)
        )
    }
    offered = HOST_KEY + LEGACY_HOST_KEY if include_legacy else HOST_KEY
    return tuple(sorted(offered, key=lambda name: name not in known))
