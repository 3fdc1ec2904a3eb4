"""Statements in files of SQL, where `-- name: x` begins each one; migrations by their numbers."""

import re
from functools import cache
from importlib.resources import files
from types import MappingProxyType

from roundsman.ledger.interface import LedgerUnavailableError

_NAME = re.compile(r"^-- name: (\w+)$", re.MULTILINE)
_LEAST = re.compile(r"^-- least: (\d+)$", re.MULTILINE)


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


@cache
def migrations(package: str) -> list[tuple[int, str]]:
    """Number and SQL of each migration in `sql/migrations` of a package, in order."""
    return sorted(
        (int(entry.name.partition("_")[0]), entry.read_text("utf-8"))
        for entry in files(package).joinpath("sql", "migrations").iterdir()
        if entry.name.endswith(".sql")
    )


def least(text: str) -> int:
    r"""The schema that a release has to know to go on with a database that saw this migration.

    >>> least("-- Takes the old column away.\n-- least: 4\nALTER TABLE ..."), least("CREATE ...")
    (4, 1)
    """
    found = _LEAST.search(text)
    return int(found[1]) if found else 1


def unseen(
    known: list[tuple[int, str]], version: int, *, needed: int | None = None
) -> list[tuple[int, str]]:
    """The migrations that a database of this version lacks.

    Raises `LedgerTooNewError` when it has one that is not known, and `needed`, the least schema
    that it can be used with, is beyond what is known, too; when not given, it is the version.
    """
    newest = known[-1][0]
    needed = version if needed is None else needed
    if needed > newest:
        raise LedgerTooNewError(
            f"expected a ledger that a release of schema {newest} can use, found schema {version},"
            f" which needs {needed} or later",
            remedy="install the release that wrote it, or a later one",
        )
    return [(number, text) for number, text in known if number > version]
