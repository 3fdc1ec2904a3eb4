"""Statements in files of SQL, where `-- name: x` begins each one; migrations by their numbers."""

import re
from importlib.resources import files
from types import MappingProxyType

from roundsman.ledger.interface import LedgerUnavailableError

_NAME = re.compile(r"^-- name: (\w+)$", re.MULTILINE)


class LedgerTooNewError(LedgerUnavailableError):
    """The database was written by a later release."""

    code = "ledger.too_new"


def statements(package: str, topic: str) -> MappingProxyType[str, str]:
    """The statements of `sql/<topic>.sql` in a package, by name."""
    text = files(package).joinpath("sql", f"{topic}.sql").read_text("utf-8")
    _, *parts = _NAME.split(text)
    return MappingProxyType(dict(zip(parts[::2], map(str.strip, parts[1::2]), strict=True)))


def all_of(filters: dict[str, bool]) -> str:
    """The clauses that are wanted, as one condition."""
    return " AND ".join(clause for clause, wanted in filters.items() if wanted) or "TRUE"


def migrations(package: str) -> list[tuple[int, str]]:
    """Number and SQL of each migration in `sql/migrations` of a package, in order."""
    return sorted(
        (int(entry.name.partition("_")[0]), entry.read_text("utf-8"))
        for entry in files(package).joinpath("sql", "migrations").iterdir()
        if entry.name.endswith(".sql")
    )


def unseen(known: list[tuple[int, str]], version: int) -> list[tuple[int, str]]:
    """The migrations that a database of this version lacks.

    Raises `LedgerTooNewError` when it has one that is not known.
    """
    newest = known[-1][0]
    if version > newest:
        raise LedgerTooNewError(
            f"expected a ledger of schema {newest} or earlier, found schema {version}",
            remedy="install the release that wrote it, or a later one",
        )
    return [(number, text) for number, text in known if number > version]
