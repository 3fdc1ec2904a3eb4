"""The controller's own settings."""

import re
from ipaddress import ip_address
from pathlib import Path as FilePath
from typing import Any, Final

import msgspec

from roundsman.config.devices import is_host, tag_findings
from roundsman.config.records import ControllerSettings, Tls, Token
from roundsman.documents.check import as_path
from roundsman.documents.problems import Finding, did_you_mean, one_of
from roundsman.wire.names import NAME_RULE, is_valid_name

_HASH: Final = re.compile(r"sha256:[0-9a-f]{64}")
_LEVELS: Final = ("debug", "info", "warning", "error")


def build_settings(
    says: dict[str, Any], folder: FilePath
) -> tuple[ControllerSettings, list[Finding]]:
    """The settings, with paths taken from the configuration's folder, and what is wrong."""
    given = msgspec.convert(says, ControllerSettings, dec_hook=as_path)
    tls = given.listen.tls
    if tls is not None:
        tls = Tls(certificate=folder / tls.certificate, private_key=folder / tls.private_key)
    settings = msgspec.structs.replace(
        given,
        data=folder / given.data,
        listen=msgspec.structs.replace(given.listen, tls=tls),
    )
    return settings, [
        *_listen_findings(settings),
        *_token_findings(settings.tokens),
        *_level_findings(settings.log.level),
    ]


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach the address.

    >>> is_loopback("127.0.0.2"), is_loopback("::1"), is_loopback("localhost"), is_loopback("::")
    (True, True, True, False)
    """
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _listen_findings(settings: ControllerSettings) -> list[Finding]:
    listen = settings.listen
    findings = []
    if not is_host(listen.host):
        text = f'expected an IP address or a host name, got "{listen.host}"'
        findings.append(Finding("config.host", ("listen", "host"), text))
    elif not is_loopback(listen.host):
        where = ("listen", "host")
        if not settings.tokens:
            text = f"{listen.host} is reachable from other machines, and there are no tokens"
            fix = "add tokens (roundsman token makes them), or listen on 127.0.0.1"
            findings.append(Finding("config.open", where, text, fix))
        if listen.tls is None and not listen.behind_proxy:
            text = f"{listen.host} is reachable from other machines, and there is no tls"
            fix = "add tls, or behind_proxy: true where a proxy provides it, or listen on 127.0.0.1"
            findings.append(Finding("config.open", where, text, fix))
    if listen.tls is not None:
        for key in ("certificate", "private_key"):
            file: FilePath = getattr(listen.tls, key)
            try:
                file.open("rb").close()
            except (OSError, ValueError) as error:
                reason = error.strerror if isinstance(error, OSError) else "not a path"
                text = f"cannot read {str(file)!r}: {reason}"
                findings.append(Finding("config.tls", ("listen", "tls", key), text))
    return findings


def _token_findings(tokens: tuple[Token, ...]) -> list[Finding]:
    findings = []
    names: set[str] = set()
    for position, token in enumerate(tokens):
        where = ("tokens", position)
        if not is_valid_name(token.name) or ":" in token.name:
            # HTTP basic authentication ends the user name at the first colon.
            text = f"expected {NAME_RULE}; and no colon"
            findings.append(Finding("config.name", (*where, "name"), text))
        if token.name in names:
            text = f'the name "{token.name}" is given to another token before'
            findings.append(Finding("config.duplicate_name", (*where, "name"), text))
        names.add(token.name)
        if not _HASH.fullmatch(token.hash):
            text = 'expected "sha256:" and 64 hexadecimal digits'
            fix = "roundsman token makes a token and prints its hash"
            findings.append(Finding("config.token_hash", (*where, "hash"), text, fix))
        findings += [
            Finding(code, (*where, *path), text) for code, path, text, _ in tag_findings(token.tags)
        ]
    return findings


def _level_findings(level: str) -> list[Finding]:
    if level in _LEVELS:
        return []
    text = f'{one_of(_LEVELS)}, got "{level[:50]}"'
    return [Finding("config.unknown_value", ("log", "level"), text, did_you_mean(level, _LEVELS))]
