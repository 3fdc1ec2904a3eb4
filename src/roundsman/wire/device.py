"""A device: something to log in to."""

from enum import StrEnum

import msgspec

from roundsman.secret import Secret
from roundsman.wire.fields import always
from roundsman.wire.platform import Platform


class ProtocolType(StrEnum):
    """How a device is spoken to."""

    SSH = "ssh"
    """SSH 2, by password, key or keyboard-interactive."""
    TELNET = "telnet"
    """Telnet: everything passes in the clear, the password too."""


class Prompt(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """How the end of a command's output is recognised."""

    ends_with: str
    """The prompt is reached when what was read ends with this text (trailing blanks aside)."""


class Ssh(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Settings of SSH towards one device."""

    port: int = always(22)
    """TCP port, 1 to 65535."""
    include_cbc_ciphers: bool = always(False)
    """Offer CBC ciphers too, for devices that know nothing newer."""
    host_keys: tuple[str, ...] = always(())
    """Known host keys in OpenSSH's public key format. When given, no other key is accepted."""
    legacy_algorithms: bool = False
    """Offer key exchange with SHA-1 and signatures of type `ssh-rsa` too."""


class Telnet(msgspec.Struct, frozen=True, kw_only=True):
    """Settings of Telnet towards one device."""

    port: int = 23
    """TCP port, 1 to 65535."""


class Tftp(msgspec.Struct, frozen=True, kw_only=True):
    """Settings of TFTP towards one device."""

    port: int = 69
    """UDP port, 1 to 65535."""


class Ftp(msgspec.Struct, frozen=True, kw_only=True):
    """Settings of FTP and FTPS towards one device."""

    port: int = 21
    """TCP port, 1 to 65535. With 990 FTPS begins with TLS, elsewhere TLS is asked for."""


class Http(msgspec.Struct, frozen=True, kw_only=True):
    """Settings of HTTP towards one device."""

    port: int = 80
    """TCP port, 1 to 65535."""


class Https(msgspec.Struct, frozen=True, kw_only=True):
    """Settings of HTTPS towards one device."""

    port: int = 443
    """TCP port, 1 to 65535."""


class Tls(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """How certificates of one device are checked, for HTTPS and FTPS."""

    ca: str | None = None
    """Authorities that may have signed it, certificates in PEM; the system's when absent."""
    fingerprints: tuple[str, ...] = ()
    """SHA-256 of certificates, 64 hexadecimal digits in small letters. When given, only these
    count, and nothing else is checked."""


class Protocol(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The protocol of one device, with the settings of that protocol."""

    type: ProtocolType = always(ProtocolType.SSH)
    """Which protocol."""
    local_address: str | None = None
    """Address of the worker's machine to connect from; the system chooses when absent. Of no use
    behind a jump host, which connects itself."""
    keepalive_seconds: int = 30
    """Of silence, after which the other side is asked whether it is still there, three times; 0
    for never."""
    ssh: Ssh = always(Ssh())
    """Settings when the type is `ssh`."""
    telnet: Telnet = Telnet()
    """Settings when the type is `telnet`."""
    tftp: Tftp = Tftp()
    """Settings of files fetched by TFTP."""
    ftp: Ftp = Ftp()
    """Settings of files fetched by FTP or FTPS."""
    http: Http = Http()
    """Settings of files fetched by HTTP."""
    https: Https = Https()
    """Settings of files fetched by HTTPS."""
    tls: Tls = Tls()
    """How certificates are checked."""


class Credentials(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """How to log in to one device."""

    user: str
    """Login name."""
    password: Secret | None = msgspec.field(default=None, name="pass")
    """Password, `pass` on the wire; also answers keyboard-interactive questions."""
    private_key: Secret | None = None
    """Private key in OpenSSH or PEM format."""
    passphrase: Secret | None = None
    """Passphrase of the private key."""
    certificate: str | None = None
    """OpenSSH certificate for the private key, as `ssh-keygen -s` writes it."""
    agent: bool = False
    """Whether the keys of the worker's SSH agent may be used, where the worker permits it."""
    enable: Secret | None = None
    """Password of the privileged mode; `password` when absent."""
    prompt: Prompt | None = None
    """The prompt expected after login; the job's own prompt when absent."""


class Host(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Something to log in to: where it is, and how."""

    name: str
    """Unique name, see `wire.names`."""
    host: str
    """Host name or IP address to connect to."""
    protocol: Protocol = always(Protocol())
    """How it is spoken to."""
    credentials: Credentials | None = always(None)
    """How to log in; none where nothing is asked for."""
    further_credentials: tuple[Credentials, ...] = ()
    """Tried in this order where those before were not accepted."""

    @property
    def all_credentials(self) -> tuple[Credentials, ...]:
        """All credentials, in order."""
        return (self.credentials, *self.further_credentials) if self.credentials else ()


class JumpHost(Host, frozen=True, kw_only=True, omit_defaults=True):
    """A host on the way to a device, which connects onwards. Spoken to by SSH."""


class Device(Host, frozen=True, kw_only=True, omit_defaults=True):
    """One device, everything expanded: no generics, no references left."""

    tags: tuple[str, ...] = always(())
    """Sorted, unique tags; workers choose devices by them."""
    platform: Platform | None = None
    """What is known of its operating system."""
    jump_hosts: tuple[JumpHost, ...] = ()
    """The way to it: the worker connects to the first, and from each to the next."""
    netmiko: str | None = None
    """Such as `accedian`: its commands are run by netmiko's driver of this name, for operating
    systems that have no platform."""
