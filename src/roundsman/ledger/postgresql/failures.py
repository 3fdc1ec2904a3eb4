"""What PostgreSQL says when it cannot serve, in the words of the ledger."""

from typing import Final

import asyncpg

from roundsman.ledger.interface import LedgerUnavailableError

_OUR_OWN_FAULTS: Final = ("0A", "22", "23", "42")  # classes of SQLSTATE
_NOT_ALLOWED: Final = "42501"
_REMEDIES: Final = {
    "28": "see that user and password are those of the database, and that it lets this host in",
    "3D": "make the database, or name another one in controller.ledger.url",
    "53": "give the server more room, connections or memory; its log says more",
    "25": "name all servers in the URL, so that the one that can be written is found",
    _NOT_ALLOWED: "make this user the owner of the database's tables",
}


def is_unavailable(error: BaseException) -> bool:
    """Whether the database did not serve, in contrast to a fault of ours."""
    if isinstance(error, asyncpg.PostgresError):
        state = error.sqlstate or ""
        return state == _NOT_ALLOWED or state[:2] not in _OUR_OWN_FAULTS
    if isinstance(error, asyncpg.InterfaceError):
        return not isinstance(error, asyncpg.DataError)
    return isinstance(error, OSError | TimeoutError | asyncpg.InternalClientError)


def translate(error: Exception) -> Exception:
    """`LedgerUnavailableError` for what the database could not do; other errors as they are."""
    if not is_unavailable(error):
        return error
    state = getattr(error, "sqlstate", None) or ""
    said = str(error) or ("no answer in time" if isinstance(error, TimeoutError) else repr(error))
    translated = LedgerUnavailableError(
        f"the ledger's database does not serve: {said}",
        remedy=_REMEDIES.get(state, _REMEDIES.get(state[:2])),
    )
    translated.__cause__ = error
    return translated
