"""Expanded entries of devices to the records that travel."""

import base64
import binascii
import re
import ssl
from collections.abc import Callable, Mapping, Sequence
from ipaddress import ip_address
from typing import Any, Final, TypeVar

import msgspec

from roundsman.config.jobs import prompt_findings
from roundsman.config.netmiko import driver_findings, driver_of
from roundsman.config.platforms import Platforms
from roundsman.config.secrets import Secrets
from roundsman.documents.problems import Finding, Path, did_you_mean, one_of
from roundsman.wire.device import (
    Credentials,
    Device,
    JumpHost,
    Prompt,
    Protocol,
    ProtocolType,
)

_HOST: Final = re.compile(r"(?=.{1,253}\.?$)(?!-)[A-Za-z0-9_-]{1,63}(\.[A-Za-z0-9_-]{1,63})*\.?")
_MOST_SHARED: Final = 10_000
"""Ways to say it that are remembered. What differs from device to device is not shared anyway."""
_SECRETS: Final = ("pass", "private_key", "passphrase", "enable", "certificate")
_LONGEST_TAG: Final = 200
_FINGERPRINT: Final = re.compile(r"[0-9a-f]{64}")

T = TypeVar("T")
Shared = tuple[T | None, list[Finding]]


class Devices:
    """Builds devices; what reads the same in several of them is one object."""

    def __init__(self, secrets: Secrets, platforms: Platforms) -> None:
        """Take where secrets are fetched, and where platforms are found."""
        self._jump_hosts: dict[str, JumpHost | None] = {}
        self._secrets = secrets
        self._platforms = platforms
        self._protocols: dict[bytes, Shared[Protocol]] = {}
        self._credentials: dict[bytes, Shared[tuple[Credentials, ...]]] = {}
        self._tags: dict[tuple[str, ...], tuple[tuple[str, ...], list[Finding]]] = {}

    def build(self, name: str, says: Mapping[str, Any]) -> tuple[Device | None, list[Finding]]:
        """The record of an expanded entry; none, and why, when that is not possible."""
        reached, findings = self._build_host(name, says)
        tags, wrong = self._sorted_tags(tuple(says.get("tags", ())))
        findings += wrong
        jump_hosts, wrong = self._way(says.get("jump_hosts", ()))
        findings += wrong
        driver = driver_of(says.get("platform"))
        findings += driver_findings(driver) if driver is not None else []
        if driver is not None and jump_hosts:
            text = "netmiko goes through no jump hosts: give the device a platform, or none of them"
            findings.append(Finding("config.conflict", ("jump_hosts",), text))
        platform = None
        if "platform" in says and driver is None:
            platform = self._platforms.find(says["platform"])
        if isinstance(platform, Finding):
            findings.append(platform)
            return None, findings
        if findings:
            return None, findings
        return Device(
            **reached,
            tags=tags,
            platform=platform.session if platform else None,
            jump_hosts=jump_hosts,
            netmiko=driver,
        ), findings

    def add_jump_host(self, name: str, says: Mapping[str, Any]) -> list[Finding]:
        """Take a jump host that devices may refer to; what is wrong with it."""
        reached, findings = self._build_host(name, says)
        if says.get("protocol", {}).get("type") == ProtocolType.TELNET:
            text = "a jump host is spoken to by SSH: expected no type, or ssh"
            findings.append(Finding("config.conflict", ("protocol", "type"), text))
        self._jump_hosts[name] = None if findings else JumpHost(**reached)
        return findings

    def _build_host(
        self, name: str, says: Mapping[str, Any]
    ) -> tuple[dict[str, Any], list[Finding]]:
        """The fields that devices and jump hosts share, and what is wrong with them."""
        findings: list[Finding] = []
        host = says.get("host", name)
        if not is_host(host):
            given = f'"{host}"' if "host" in says else f'the name, "{host}", as there is no host'
            text = f"expected a host name or an IP address, got {given}"
            findings.append(Finding("config.host", ("host",), text))
        protocol, wrong = self._shared(
            self._protocols, says.get("protocol", {}), self._build_protocol
        )
        findings += wrong
        credentials: tuple[Credentials, ...] | None = None
        if "credentials" in says:
            credentials, wrong = self._shared(
                self._credentials, says["credentials"], self._build_all_credentials
            )
            findings += wrong
        first, *further = credentials or (None,)
        return {
            "name": name,
            "host": host,
            "protocol": protocol,
            "credentials": first,
            "further_credentials": tuple(further),
        }, findings

    def _way(self, names: str | Sequence[str]) -> tuple[tuple[JumpHost, ...], list[Finding]]:
        """The jump hosts of these names, and what is wrong with them."""
        chain = [names] if isinstance(names, str) else names
        findings = []
        for position, name in enumerate(chain):
            path = ("jump_hosts",) if isinstance(names, str) else ("jump_hosts", position)
            if name not in self._jump_hosts:
                text = f'no "{name}" in jump_hosts, {one_of(self._jump_hosts)}'
                suggestion = did_you_mean(name, self._jump_hosts)
                findings.append(Finding("config.unknown_jump_host", path, text, suggestion))
            elif name in chain[:position]:
                text = f'"{name}" is on the way already'
                findings.append(Finding("config.conflict", path, text))
        found = (self._jump_hosts.get(name) for name in chain)
        return tuple(hop for hop in found if hop is not None), findings

    def _sorted_tags(self, tags: tuple[str, ...]) -> tuple[tuple[str, ...], list[Finding]]:
        if tags not in self._tags:
            self._tags[tags] = tuple(sorted(set(tags))), tag_findings(tags)
        return self._tags[tags]

    @staticmethod
    def _shared(
        known: dict[bytes, Shared[T]],
        says: Any,
        build: Callable[[Any], Shared[T]],
    ) -> Shared[T]:
        key = msgspec.json.encode(says, order="deterministic")
        if (made := known.get(key)) is None:
            made = build(says)
            if len(known) < _MOST_SHARED:
                known[key] = made
        return made

    def _build_protocol(self, says: dict[str, Any]) -> Shared[Protocol]:
        tls = says.get("tls", {})
        fingerprints = tls.get("fingerprints", [])
        findings = [
            *_host_key_findings(says.get("ssh", {}).get("host_keys", [])),
            *_fingerprint_findings(fingerprints),
        ]
        if (local := says.get("local_address")) is not None and not _is_address(local):
            text = f'expected an IP address of the worker, got "{local}"'
            findings.append(Finding("config.host", ("protocol", "local_address"), text))
        ca = None
        if "ca_file" in tls:
            try:
                ca = self._secrets.read(tls["ca_file"])
                ssl.create_default_context(cadata=ca)
            except (ValueError, ssl.SSLError) as error:
                text = str(error) if isinstance(error, ValueError) else ""
                text = text or f"{tls['ca_file']} holds no certificates in PEM"
                findings.append(Finding("config.tls", ("protocol", "tls", "ca_file"), text))
        if findings:
            return None, findings
        if tls:  # nothing is made of what was not said: it would travel
            checked = {"ca": ca, "fingerprints": [_bare(text) for text in fingerprints]}
            says = {**says, "tls": checked}
        return msgspec.convert(says, Protocol), []

    def _build_all_credentials(
        self, says: dict[str, Any] | list[dict[str, Any]]
    ) -> Shared[tuple[Credentials, ...]]:
        if isinstance(says, dict):
            one, findings = self._build_credentials(says, ("credentials",))
            return (None if one is None else (one,)), findings
        if not says:
            text = "expected at least one, or no credentials at all"
            return None, [Finding("config.missing", ("credentials",), text)]
        built, findings = [], []
        for position, item in enumerate(says):
            given = {key: value for key, value in item.items() if value is not None}
            one, wrong = self._build_credentials(given, ("credentials", position))
            findings += wrong
            built += [] if one is None else [one]
        return (None if findings else tuple(built)), findings

    def _build_credentials(self, says: dict[str, Any], path: Path) -> Shared[Credentials]:
        findings = [
            Finding(code, (*path, "prompt", *inside), text)
            for code, inside, text, _ in prompt_findings(says.get("prompt"))
        ]
        fetched = {}
        for key in _SECRETS:
            if key not in says:
                continue
            try:
                fetched[key] = self._secrets.fetch(says[key])
            except ValueError as error:
                findings.append(Finding("config.secret", (*path, key), str(error)))
        if not says.get("user"):
            where = (*path, "user") if "user" in says else path
            findings.append(Finding("config.missing", where, "user is needed"))
        for key in ("passphrase", "certificate"):
            if key in says and "private_key" not in says:
                text = f"a {key} goes with a private_key, and there is none"
                findings.append(Finding("config.conflict", (*path, key), text))
        if findings:
            return None, findings
        prompt, certificate = says.get("prompt"), fetched.get("certificate")
        return Credentials(
            user=says["user"],
            password=fetched.get("pass"),
            private_key=fetched.get("private_key"),
            passphrase=fetched.get("passphrase"),
            certificate=certificate.reveal() if certificate else None,
            agent=says.get("agent", False),
            enable=fetched.get("enable"),
            prompt=Prompt(**prompt) if prompt else None,
        ), []


def is_host(text: str) -> bool:
    """Whether a text is a host name or an IP address.

    >>> is_host("edge1.dallas"), is_host("2001:db8::1"), is_host("-x"), is_host("a b")
    (True, True, False, False)
    """
    return _HOST.fullmatch(text) is not None or _is_address(text)


def _is_address(text: str) -> bool:
    try:
        ip_address(text)
    except ValueError:
        return False
    return text.isascii() and text.isprintable() and " " not in text


def tag_findings(tags: tuple[str, ...]) -> list[Finding]:
    """What is wrong with tags."""
    return [
        Finding(
            "config.tag",
            ("tags", position),
            f"expected 1 to {_LONGEST_TAG} printable characters without blanks around them",
        )
        for position, tag in enumerate(tags)
        if not tag.isprintable() or tag != tag.strip() or not 0 < len(tag) <= _LONGEST_TAG
    ]


def _host_key_findings(keys: list[str]) -> list[Finding]:
    return [
        Finding(
            "config.host_key",
            ("protocol", "ssh", "host_keys", position),
            "expected a public key in OpenSSH's format, such as ssh-ed25519 AAAA...",
        )
        for position, key in enumerate(keys)
        if not _is_public_key(key)
    ]


def _fingerprint_findings(fingerprints: list[str]) -> list[Finding]:
    return [
        Finding(
            "config.fingerprint",
            ("protocol", "tls", "fingerprints", position),
            "expected a SHA-256 fingerprint: 64 hexadecimal digits, colons between them or not",
        )
        for position, text in enumerate(fingerprints)
        if not _FINGERPRINT.fullmatch(_bare(text))
    ]


def _bare(fingerprint: str) -> str:
    """The digits alone."""
    return fingerprint.replace(":", "").lower()


def _is_public_key(text: str) -> bool:
    """Whether a text is an algorithm and a key blob that begins with that algorithm's name."""
    kind, _, rest = text.strip().partition(" ")
    blob = rest.split(" ", 1)[0]
    try:
        data = base64.b64decode(blob, validate=True)
    except (binascii.Error, ValueError):
        return False
    name = kind.encode()
    return bool(name) and data.startswith(len(name).to_bytes(4, "big") + name)
