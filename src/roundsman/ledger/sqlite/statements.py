"""Loads the statements: files of SQL in which `-- name: x` begins each one."""

import re
from functools import cache
from importlib.resources import files
from types import MappingProxyType

_NAME = re.compile(r"^-- name: (\w+)$", re.MULTILINE)


@cache
def load(topic: str) -> MappingProxyType[str, str]:
    """The statements of `sql/<topic>.sql`, by name."""
    text = files("roundsman.ledger.sqlite").joinpath("sql", f"{topic}.sql").read_text("utf-8")
    _, *parts = _NAME.split(text)
    return MappingProxyType(dict(zip(parts[::2], map(str.strip, parts[1::2]), strict=True)))


def all_of(filters: dict[str, bool]) -> str:
    """The clauses that are wanted, as one condition."""
    return " AND ".join(clause for clause, wanted in filters.items() if wanted) or "TRUE"
