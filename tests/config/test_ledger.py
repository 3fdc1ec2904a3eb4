"""Where the ledger is: what may be said of it."""

from pathlib import Path

import pytest

from roundsman.config.ledger import build_ledger
from roundsman.config.records import LedgerSettings
from roundsman.config.secrets import Secrets
from roundsman.secret import Secret

SECRETS = Secrets({"DB_PASSWORD": "quiet"}, Path())


def wrong_with(**says: object) -> list[str]:
    return [finding.text for finding in build_ledger(LedgerSettings(**says), SECRETS)[1]]  # type: ignore[arg-type] # by name


def test_the_password_is_fetched_by_its_reference() -> None:
    says = LedgerSettings(url="postgresql://me@db/x", password=Secret("env:DB_PASSWORD"))
    built, findings = build_ledger(says, SECRETS)
    assert findings == []
    assert built.password == Secret("quiet")
    assert "quiet" not in repr(built)


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://me@db/x",
        "postgresql://me@db1:5433,db2/x?sslmode=verify-full",
        "postgresql://me@/x?host=/run/postgresql",
    ],
)
def test_urls_that_are_taken(url: str) -> None:
    assert wrong_with(url=url) == []


@pytest.mark.parametrize(
    "url",
    ["", "db", "mysql://me@db/x", "postgresql://db/x", "postgresql://me@db", "postgresql://me@/x"],
)
def test_urls_that_are_refused(url: str) -> None:
    (said,) = wrong_with(url=url)
    assert said.startswith("expected postgresql://user@host/database")


@pytest.mark.parametrize("url", ["postgresql://me:pw@db/x", "postgresql://me@db/x?password=pw"])
def test_no_password_in_the_url(url: str) -> None:
    (said,) = wrong_with(url=url)
    assert "does not belong in the URL" in said
    assert "pw" not in said


def test_what_cannot_be() -> None:
    assert "there is no url" in wrong_with(password=Secret("env:DB_PASSWORD"))[0]
    assert "not set" in wrong_with(url="postgresql://me@db/x", password=Secret("env:NO"))[0]
