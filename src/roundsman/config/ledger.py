"""Where the ledger is: a database's URL, and its password by reference."""

from typing import Final
from urllib.parse import parse_qs, urlsplit

import msgspec

from roundsman.config.records import LedgerSettings
from roundsman.config.secrets import Secrets
from roundsman.documents.problems import Finding

_EXPECTED: Final = "expected postgresql://user@host/database; several hosts with commas"


def build_ledger(says: LedgerSettings, secrets: Secrets) -> tuple[LedgerSettings, list[Finding]]:
    """The settings with the password fetched, and what is wrong with them."""
    findings = []
    password = None
    if says.password is not None:
        try:
            password = secrets.fetch(says.password.reveal())
        except ValueError as error:
            findings.append(Finding("config.secret", ("ledger", "pass"), str(error)))
        if says.url is None:
            text = "pass is for a database, and there is no url"
            findings.append(Finding("config.conflict", ("ledger", "pass"), text))
    wrong = None if says.url is None else _wrong_with(says.url)
    if wrong is not None:
        findings.append(Finding("config.url", ("ledger", "url"), wrong))
    return msgspec.structs.replace(says, password=password), findings


def _wrong_with(url: str) -> str | None:
    """Why it is no address of a database; none when it is."""
    try:
        parts = urlsplit(url)
        options = parse_qs(parts.query, strict_parsing=bool(parts.query))
    except ValueError:
        return _EXPECTED
    user, at, hosts = parts.netloc.rpartition("@")
    if ":" in user or "password" in options:
        return "the password does not belong in the URL: give it as pass, env:NAME or file:PATH"
    if not url.isprintable() or parts.scheme != "postgresql":
        return _EXPECTED
    if not (at and user and (hosts or "host" in options)):
        return _EXPECTED
    return None if len(parts.path) > 1 and not parts.fragment else _EXPECTED
