"""Loads the statements."""

from functools import cache
from types import MappingProxyType

from roundsman.ledger import sql_files
from roundsman.ledger.sql_files import all_of as all_of  # noqa: PLC0414  # for whoever fills them


@cache
def load(topic: str) -> MappingProxyType[str, str]:
    """The statements of `sql/<topic>.sql`, by name."""
    return sql_files.statements("roundsman.ledger.sqlite", topic)
