"""The statements with the values that they name, in the form that the driver takes."""

import re
from contextlib import AbstractAsyncContextManager
from functools import cache
from types import MappingProxyType
from typing import Any, Protocol

from asyncpg import Record

from roundsman.ledger import sql_files
from roundsman.wire.run import Run


class Link(Protocol):
    """A connection, whether the pool's or one's own, as far as statements care."""

    async def fetch(self, query: str, *args: object) -> list[Record]:
        """All rows."""
        ...

    async def fetchrow(self, query: str, *args: object) -> Record | None:
        """The first row."""
        ...

    async def fetchval(self, query: str, *args: object) -> Any:
        """The first column of the first row."""
        ...

    async def execute(self, query: str, *args: object) -> str:
        """Nothing but what was done."""
        ...

    def transaction(self) -> AbstractAsyncContextManager[object]:
        """Everything within, or nothing of it."""
        ...


_VALUE = re.compile(r"(?<![:\w]):([a-z_]+)")
_COLUMNS = ", ".join(f'"{name}"' for name in Run.__struct_fields__)


class Statement:
    """One statement, and which value goes where in it."""

    def __init__(self, text: str) -> None:
        """Take the text: `:name` stands for a value, `{name}` for what `formed` fills in."""
        self._text = text
        self.names = tuple(dict.fromkeys(_VALUE.findall(text)))
        """The values it names, in the order in which they are given to the driver."""
        self.sql = _VALUE.sub(lambda found: f"${self.names.index(found[1]) + 1}", text)
        """As the driver takes it."""

    def formed(self, **parts: str) -> "Statement":
        """The statement with its open places filled."""
        return Statement(self._text.format(**parts))

    async def rows(self, link: Link, **values: object) -> list[Record]:
        """All rows."""
        return await link.fetch(self.sql, *(values[name] for name in self.names))

    async def row(self, link: Link, **values: object) -> Record | None:
        """The first row, if there is any."""
        return await link.fetchrow(self.sql, *(values[name] for name in self.names))

    async def value(self, link: Link, **values: object) -> Any:
        """The first column of the first row; none when there is no row."""
        return await link.fetchval(self.sql, *(values[name] for name in self.names))

    async def column(self, link: Link, **values: object) -> list[Any]:
        """The first column of all rows."""
        return [row[0] for row in await self.rows(link, **values)]


@cache
def load(topic: str) -> MappingProxyType[str, Statement]:
    """The statements of `sql/<topic>.sql`, by name."""
    texts = sql_files.statements("roundsman.ledger.postgresql", topic)
    return MappingProxyType(
        {name: Statement(text.replace("{columns}", _COLUMNS)) for name, text in texts.items()}
    )
