"""The controller's own settings."""

import re
from collections.abc import Iterable, Sequence
from ipaddress import ip_address
from pathlib import Path as FilePath
from typing import Any, Final
from urllib.parse import urlsplit

import msgspec

from roundsman.config.devices import is_host, tag_findings
from roundsman.config.ledger import build_ledger
from roundsman.config.records import ControllerSettings, Tls, Token
from roundsman.config.remotes import build_remotes
from roundsman.config.secrets import Secrets
from roundsman.documents.check import as_value
from roundsman.documents.problems import Finding, did_you_mean, one_of
from roundsman.wire.device import Device
from roundsman.wire.names import NAME_RULE, is_valid_name
from roundsman.wire.paths import (
    DEFAULT_PATH,
    PathTemplate,
    PathTemplateError,
    escape,
    find_clash,
)

_HASH: Final = re.compile(r"sha256:[0-9a-f]{64}")
_LONGEST: Final = 240
_LEVELS: Final = ("debug", "info", "warning", "error")


def build_settings(
    says: dict[str, Any], folder: FilePath, secrets: Secrets
) -> tuple[ControllerSettings, list[Finding]]:
    """The settings, with paths taken from the configuration's folder, and what is wrong."""
    given = msgspec.convert(says, ControllerSettings, dec_hook=as_value)
    tls = given.listen.tls
    if tls is not None:
        tls = Tls(certificate=folder / tls.certificate, private_key=folder / tls.private_key)
    archive, remote_findings = build_remotes(given.archive, folder, secrets)
    ledger, ledger_findings = build_ledger(given.ledger, secrets)
    settings = msgspec.structs.replace(
        given,
        archive=archive,
        data=folder / given.data,
        ledger=ledger,
        listen=msgspec.structs.replace(given.listen, tls=tls),
    )
    return settings, [
        *_listen_findings(settings),
        *_token_findings(settings.tokens),
        *_address_findings(settings.address),
        *_level_findings(settings.log.level),
        *_path_findings(settings.archive.paths),
        *remote_findings,
        *ledger_findings,
    ]


def clash_findings(
    paths: Sequence[str], devices: Iterable[Device], jobs: Iterable[str]
) -> list[Finding]:
    """What is wrong with templates of paths, all right by themselves, for these names."""
    try:
        templates = [PathTemplate.parse(text) for text in paths]
    except PathTemplateError:
        return []
    tags = {tag for device in devices for tag in device.tags}
    values = {"device": {device.name for device in devices}, "job": set(jobs), "tag": tags}
    where = ("archive", "paths")
    findings = []
    reason = find_clash(templates, values)
    if reason is not None:
        fix = "begin each template with a folder of its own"
        findings.append(Finding("config.path_clash", where, reason, fix))
    longest = max(tags, key=lambda tag: len(escape(tag)), default="")
    if any(template.uses("tag") for template in templates) and len(escape(longest)) > _LONGEST:
        text = f'the tag "{longest}" makes a name of more than {_LONGEST} bytes in the archive'
        findings.append(Finding("config.path_length", where, text, "shorten the tag"))
    return findings


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


def _address_findings(address: str | None) -> list[Finding]:
    if address is None:
        return []
    try:
        parts = urlsplit(address)
        right = address.isprintable() and address == f"{parts.scheme}://{parts.netloc}"
        right = right and parts.scheme in ("http", "https") and is_host(parts.hostname or "")
        right = right and parts.username is None and parts.port != 0
    except ValueError:
        right = False
    if right:
        return []
    return [Finding("config.url", ("address",), "expected http://host:port or https://host:port")]


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


def _path_findings(paths: Sequence[str]) -> list[Finding]:
    findings = []
    templates: list[PathTemplate] = []
    for position, text in enumerate(paths):
        where = ("archive", "paths", position)
        try:
            template = PathTemplate.parse(text)
        except PathTemplateError as error:
            findings.append(Finding("config.path", where, str(error)))
            continue
        if template in templates:
            findings.append(Finding("config.path", where, f'"{text}" is there before'))
        templates.append(template)
    if templates and all(template.uses("tag") for template in templates):
        text = "expected a template without {tag} among them: a device may have no tag"
        fix = f'add "{DEFAULT_PATH}"'
        findings.append(Finding("config.path", ("archive", "paths"), text, fix))
    return findings
