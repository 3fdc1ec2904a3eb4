"""What a controller knows of the lines of slots on PostgreSQL."""

from typing import Any

from roundsman.ledger.interface import TagFilter
from roundsman.ledger.postgresql.lines import Lines


class Link:
    """A database with one lane, that is told of another while it is asked how many there are."""

    def __init__(self, lines: Lines) -> None:
        self._lines = lines

    async def fetch(self, query: str, *_: object) -> list[Any]:
        if "max(lane_id)" in query:
            self._lines.forget()
            return [{"number": 2, "last": 2}]
        return [{"lane_id": 1, "tags": ["ams"]}]


async def test_lanes_may_be_forgotten_while_the_database_is_asked_for_them() -> None:
    lines = Lines()
    link: Any = Link(lines)
    await lines.matching(link, TagFilter())
    await lines.refresh(link)
    assert await lines.matching(link, TagFilter())
