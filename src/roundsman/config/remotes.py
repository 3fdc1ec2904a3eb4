"""Where the archive is pushed to: addresses that git may be given, and secrets by reference."""

import re
from collections.abc import Iterator
from pathlib import Path as FilePath
from typing import Final
from urllib.parse import SplitResult, urlsplit

import msgspec

from roundsman.config.devices import is_host
from roundsman.config.records import Acknowledge, ArchiveSettings, RemoteSettings
from roundsman.config.secrets import Secrets
from roundsman.documents.problems import Finding, Path
from roundsman.secret import Secret

_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,62}")
_SSH_USER: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]*")
_HOST_KEY: Final = re.compile(r"(?:ssh|ecdsa|sk)-[A-Za-z0-9@.-]+ [A-Za-z0-9+/]+={0,2}")
_SCHEMES: Final = ("file", "http", "https", "ssh")
_EXPECTED: Final = (
    "expected https://host/path, http://host/path, ssh://user@host/path, file:///folder or a folder"
)


def build_remotes(
    settings: ArchiveSettings, folder: FilePath, secrets: Secrets
) -> tuple[ArchiveSettings, list[Finding]]:
    """The settings with the secrets of remotes fetched, and what is wrong with remotes."""
    built: dict[str, RemoteSettings] = {}
    findings: list[Finding] = []
    for name, says in settings.remotes.items():
        where = ("archive", "remotes", name)
        if not _NAME.fullmatch(name):
            text = "expected letters, digits, - and _, at most 63, not - or _ first"
            findings.append(Finding("config.name", where, text))
            continue
        built[name], wrong = _build(says, where, folder, secrets)
        findings += wrong
    if settings.acknowledge is Acknowledge.PUSHED and not settings.remotes:
        text = "pushed needs a remote, and there is none"
        findings.append(Finding("config.conflict", ("archive", "acknowledge"), text))
    return msgspec.structs.replace(settings, remotes=built), findings


def _build(
    says: RemoteSettings, where: Path, folder: FilePath, secrets: Secrets
) -> tuple[RemoteSettings, list[Finding]]:
    findings: list[Finding] = []
    fetched: dict[str, Secret] = {}
    for key, reference in (("pass", says.password), ("private_key", says.private_key)):
        if reference is None:
            continue
        try:
            fetched[key] = secrets.fetch(reference.reveal())
        except ValueError as error:
            findings.append(Finding("config.secret", (*where, key), str(error)))
    url = (
        says.url
        if "://" in says.url or _looks_like_scp(says.url)
        else str((folder / says.url).absolute())
    )
    built = msgspec.structs.replace(
        says, url=url, password=fetched.get("pass"), private_key=fetched.get("private_key")
    )
    return built, [*findings, *_findings(built, says, where)]


def _looks_like_scp(url: str) -> bool:
    """Whether it is `user@host:path`, which git takes for SSH."""
    return ":" in url.partition("/")[0]


def _findings(built: RemoteSettings, says: RemoteSettings, where: Path) -> Iterator[Finding]:
    if _looks_like_scp(says.url) and "://" not in says.url:
        fix = "write ssh://user@host/path"
        yield Finding("config.url", (*where, "url"), _EXPECTED, fix)
        return
    wrong = _wrong_with(built.url)
    if wrong is not None:
        yield Finding("config.url", (*where, "url"), wrong)
        return
    kind = urlsplit(built.url).scheme
    for key, value, needs in (
        ("user", says.user, ("http", "https")),
        ("pass", says.password, ("http", "https")),
        ("private_key", says.private_key, ("ssh",)),
        ("host_keys", says.host_keys, ("ssh",)),
    ):
        if value and kind not in needs:
            text = f"{key} is for {' and '.join(needs)}, and the URL is another"
            yield Finding("config.conflict", (*where, key), text)
        elif not value and kind == "ssh" and "ssh" in needs:
            yield Finding("config.missing", where, f"{key} is needed for SSH")
    if (says.user is None) != (says.password is None):
        yield Finding("config.missing", where, "user and pass go together")
    password = "" if built.password is None else built.password.reveal()
    for key, one_line in (("user", says.user or ""), ("pass", password)):
        if not one_line.isprintable():
            yield Finding("config.value", (*where, key), "expected one line of printable text")
    for position, host_key in enumerate(says.host_keys):
        if not _HOST_KEY.fullmatch(host_key):
            text = "expected a kind of key and the key, such as ssh-ed25519 AAAA..."
            yield Finding("config.value", (*where, "host_keys", position), text)


def _wrong_with(url: str) -> str | None:
    """Why git must not be given this address; none when it may."""
    if not url.isprintable() or "\\" in url:
        return "expected printable text without backslashes"
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        return _EXPECTED
    if parts.scheme == "":
        return None if url.startswith("/") else _EXPECTED
    if parts.scheme not in _SCHEMES or url != f"{parts.scheme}:{url.partition(':')[2]}":
        return _EXPECTED
    if parts.scheme == "file":
        return None if parts.netloc == "" and parts.path.startswith("/") else _EXPECTED
    if parts.password is not None or (parts.username is not None and parts.scheme != "ssh"):
        return "expected no user or password in the address; they have keys of their own"
    return _wrong_with_host(parts, port)


def _wrong_with_host(parts: SplitResult, port: int | None) -> str | None:
    if not parts.hostname or not is_host(parts.hostname) or port == 0 or len(parts.path) < 2:
        return _EXPECTED
    if parts.query or parts.fragment:
        return "expected an address without ? and #"
    if parts.username is not None and not _SSH_USER.fullmatch(parts.username):
        return "expected a user name of letters, digits, and . _ -"
    return None
