"""The servers of a database, of which one can be written.

Each is asked in turn, with a share of the time of its own: one that is switched off, or hangs,
must not take the time of those behind it. The one that served last is asked first.
"""

from typing import Any, Final
from urllib.parse import urlsplit, urlunsplit

import asyncpg

from roundsman.secret import Secret

CONNECT_SECONDS: Final = 5.0
"""For a connection, whichever server it is to in the end."""

_FAILURES: Final = (
    asyncpg.PostgresError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,
    OSError,
)


class Hosts:
    """Makes connections to the server that can be written."""

    def __init__(self, url: str, password: Secret | None) -> None:
        """Take the URL, which may name several hosts, and the password that they share."""
        self._urls = each_of(url)
        self._password = password

    async def connect(self, *_: object, **options: Any) -> asyncpg.Connection:
        """A connection to it. Raises what asyncpg does: what a server said before all else."""
        seconds = CONNECT_SECONDS / len(self._urls)
        password = None if self._password is None else self._password.reveal()
        failures: list[Exception] = []
        for url in self._urls:
            try:
                connection = await asyncpg.connect(
                    url,
                    password=password,
                    timeout=seconds,
                    target_session_attrs="read-write",
                    **options,
                )
            except _FAILURES as error:
                failures.append(error)
            else:
                self._urls = [url, *(other for other in self._urls if other != url)]
                return connection
        raise next((e for e in failures if isinstance(e, asyncpg.PostgresError)), failures[0])


def each_of(url: str) -> list[str]:
    """One URL for each host of a URL.

    >>> each_of("postgresql://u@a:5433,[2001:db8::1]/d?sslmode=require")
    ['postgresql://u@a:5433/d?sslmode=require', 'postgresql://u@[2001:db8::1]/d?sslmode=require']
    """
    parts = urlsplit(url)
    user, _, hosts = parts.netloc.rpartition("@")
    return [urlunsplit(parts._replace(netloc=f"{user}@{host}")) for host in hosts.split(",")]
