"""Expanded entries of devices to the records that travel."""

import base64
import binascii
import re
import ssl
from collections.abc import Callable, Mapping
from ipaddress import ip_address
from typing import Any, Final, TypeVar

import msgspec

from roundsman.config.jobs import prompt_findings
from roundsman.config.platforms import Platforms
from roundsman.config.secrets import Secrets
from roundsman.documents.problems import Finding
from roundsman.wire.device import Credentials, Device, Prompt, Protocol

_HOST: Final = re.compile(r"(?=.{1,253}\.?$)(?!-)[A-Za-z0-9_-]{1,63}(\.[A-Za-z0-9_-]{1,63})*\.?")
_SECRETS: Final = ("pass", "private_key", "passphrase", "enable")
_LONGEST_TAG: Final = 200
_FINGERPRINT: Final = re.compile(r"[0-9a-f]{64}")

T = TypeVar("T")
Shared = tuple[T | None, list[Finding]]


class Devices:
    """Builds devices; what reads the same in several of them is one object."""

    def __init__(self, secrets: Secrets, platforms: Platforms) -> None:
        """Take where secrets are fetched, and where platforms are found."""
        self._secrets = secrets
        self._platforms = platforms
        self._protocols: dict[bytes, Shared[Protocol]] = {}
        self._credentials: dict[bytes, Shared[Credentials]] = {}
        self._tags: dict[tuple[str, ...], tuple[tuple[str, ...], list[Finding]]] = {}

    def build(self, name: str, says: Mapping[str, Any]) -> tuple[Device | None, list[Finding]]:
        """The record of an expanded entry; none, and why, when that is not possible."""
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
        credentials: Credentials | None = None
        if "credentials" in says:
            credentials, wrong = self._shared(
                self._credentials, says["credentials"], self._build_credentials
            )
            findings += wrong
        tags, wrong = self._sorted_tags(tuple(says.get("tags", ())))
        findings += wrong
        platform = self._platforms.find(says["platform"]) if "platform" in says else None
        if isinstance(platform, Finding):
            findings.append(platform)
            return None, findings
        if findings or protocol is None:
            return None, findings
        return Device(
            name=name,
            host=host,
            protocol=protocol,
            tags=tags,
            credentials=credentials,
            platform=platform.session if platform else None,
        ), findings

    def _sorted_tags(self, tags: tuple[str, ...]) -> tuple[tuple[str, ...], list[Finding]]:
        if tags not in self._tags:
            self._tags[tags] = tuple(sorted(set(tags))), tag_findings(tags)
        return self._tags[tags]

    @staticmethod
    def _shared(
        known: dict[bytes, Shared[T]],
        says: dict[str, Any],
        build: Callable[[dict[str, Any]], Shared[T]],
    ) -> Shared[T]:
        key = msgspec.json.encode(says, order="deterministic")
        if key not in known:
            known[key] = build(says)
        return known[key]

    def _build_protocol(self, says: dict[str, Any]) -> Shared[Protocol]:
        tls = says.get("tls", {})
        fingerprints = tls.get("fingerprints", [])
        findings = [
            *_host_key_findings(says.get("ssh", {}).get("host_keys", [])),
            *_fingerprint_findings(fingerprints),
        ]
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
        checked = {"ca": ca, "fingerprints": [_bare(text) for text in fingerprints]}
        return msgspec.convert({**says, "tls": checked}, Protocol), []

    def _build_credentials(self, says: dict[str, Any]) -> Shared[Credentials]:
        findings = [
            Finding(code, ("credentials", "prompt", *path), text)
            for code, path, text, _ in prompt_findings(says.get("prompt"))
        ]
        fetched = {}
        for key in _SECRETS:
            if key not in says:
                continue
            try:
                fetched[key] = self._secrets.fetch(says[key])
            except ValueError as error:
                findings.append(Finding("config.secret", ("credentials", key), str(error)))
        if not says.get("user"):
            where = ("credentials", "user") if "user" in says else ("credentials",)
            findings.append(Finding("config.missing", where, "user is needed"))
        if "passphrase" in says and "private_key" not in says:
            text = "a passphrase goes with a private_key, and there is none"
            findings.append(Finding("config.conflict", ("credentials", "passphrase"), text))
        if findings:
            return None, findings
        prompt = says.get("prompt")
        return Credentials(
            user=says["user"],
            password=fetched.get("pass"),
            private_key=fetched.get("private_key"),
            passphrase=fetched.get("passphrase"),
            enable=fetched.get("enable"),
            prompt=Prompt(**prompt) if prompt else None,
        ), []


def is_host(text: str) -> bool:
    """Whether a text is a host name or an IP address.

    >>> is_host("edge1.dallas"), is_host("2001:db8::1"), is_host("-x"), is_host("a b")
    (True, True, False, False)
    """
    if _HOST.fullmatch(text):
        return True
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
