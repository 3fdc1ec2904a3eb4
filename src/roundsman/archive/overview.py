"""The overview of one folder: a README.md with a table of what is in it and when that last changed.

The file is all there is: its rows are read back, changed and written again, and whatever else a
person put into it stays. What does not begin with our first line is somebody's own.
"""

import re
from datetime import UTC, datetime
from functools import lru_cache
from typing import Final, Self
from urllib.parse import quote_from_bytes

NAME: Final = b"README.md"

MOST_ROWS: Final = 1000
"""A folder of more is not listed whole: the file is written anew for each batch that changes it."""
NEWEST_ROWS: Final = 50
"""So many are listed then."""

_MARK: Final = (
    b"<!-- Kept by Roundsman, which changes the rows of the table and leaves other lines alone. "
    b"Without this line the file is yours. -->\n"
)
_NOTE: Final = b"The %d that changed last:\n\n" % NEWEST_ROWS
_RULE: Final = b"|---|---|\n"
_BEGIN: Final = b"| [`"
_ROW: Final = re.compile(rb"(\| \[`[^`\n]*`\]\(([^)\n]*)\) \| \d{4}-\d\d-\d\d \d\d:\d\d \|\n)")
_TIME: Final = slice(-19, -3)
"""Where a row says when."""
_COLUMNS: Final = {"device": b"Device", "job": b"Job", "tag": b"Tag"}


class Overview:
    """A README.md of ours. Names are those of files and folders, as git has them."""

    __slots__ = ("_body", "_count", "_grown", "_head", "_parsed", "_tail")

    def __init__(self, head: bytes, body: bytes, tail: bytes) -> None:
        self._head = head
        self._body = bytearray(body)
        """The rows as they stand there, unless they were taken apart."""
        self._count = body.count(b"\n")
        self._parsed: dict[bytes, bytes] | None = None
        """The rows by their link, once they were."""
        self._tail = tail
        self._grown = False

    @classmethod
    def begin(cls, folder: bytes, of: str | None, *, newest: bool) -> Self:
        """An empty one for a folder of devices, jobs, tags, or of others.

        `newest`: it lists what changed last, however little that is.
        """
        title = b"`%s`" % folder.rpartition(b"/")[2] if folder else b"Results"
        column = _COLUMNS.get(of or "", b"Folder")
        head = b"# %s\n\n| %s | Last change (UTC) |\n%s" % (title, column, _RULE)
        page = cls(head, b"", b"")
        if newest:
            page._list_newest()
        return page

    @classmethod
    def parse(cls, content: bytes) -> Self | None:
        """Read one; none for what is not ours."""
        begin = content.find(_RULE) + len(_RULE)
        if not content.startswith(_MARK) or begin < len(_RULE):
            return None
        last = content.rfind(b"\n" + _BEGIN, begin - 1)
        end = begin if last < 0 else (content.find(b"\n", last + 1) + 1 or len(content))
        return cls(content[len(_MARK) : begin], content[begin:end], content[end:])

    def __len__(self) -> int:
        return self._count if self._parsed is None else len(self._parsed)

    @property
    def _rows(self) -> dict[bytes, bytes]:
        if self._parsed is None:
            body = bytes(self._body)
            self._parsed = {link: line for line, link in _ROW.findall(body)}
            if sum(map(len, self._parsed.values())) != len(body):  # somebody wrote between them
                lines = [line + b"\n" for line in body.splitlines()]
                found = [(_ROW.fullmatch(line), line) for line in lines]
                self._parsed = {match[2] if match else line: line for match, line in found}
        return self._parsed

    @property
    def is_newest(self) -> bool:
        """Whether it lists what changed last rather than everything."""
        return _NOTE in self._head

    def set(self, name: bytes, at: float, *, forward: bool = False) -> bool:
        """Say when something changed, Unix seconds; whether that was not said before.

        `forward`: only if it is later than what is said.
        """
        link, time = _link(name), _minute(int(at // 60))
        if self._parsed is None and not self.is_newest:  # taking a thousand rows apart takes long
            found = self._body.find(b"](%s) | " % link)
            place = slice(found + len(link) + 6, found + len(link) + 6 + len(time))
            if found >= 0:
                is_news = _is_news(bytes(self._body[place]), time, forward=forward)
                if is_news:
                    self._body[place] = time
                return is_news
        is_news = _is_news(self._rows.get(link, b"")[_TIME], time, forward=forward)
        if is_news:
            self._put(link, b"| [`%s`](%s) | %s |\n" % (name, link, time))
        return is_news

    def remove(self, name: bytes) -> bool:
        """Something is gone; whether it was listed."""
        return self._rows.pop(_link(name), None) is not None

    def newest(self) -> bytes:
        """The time of the last change of all that is listed, as a row says it; there is one."""
        return max(line[_TIME] for line in self._rows.values())

    def put_back(self, name: bytes, time: bytes) -> bool:
        """Say of what is listed an earlier time than is said; whether it was not said before."""
        line = self._rows.get(_link(name))
        if line is None or line[_TIME] <= time:
            return False
        self._put(_link(name), line[: _TIME.start] + time + line[_TIME.stop :])
        return True

    def clear(self, *, newest: bool) -> None:
        """List nothing, and from now on what changed last, or everything."""
        self._parsed = {}
        self._head = self._head.replace(_NOTE, b"")
        if newest:
            self._list_newest()

    def content(self) -> bytes:
        """The file; empty when it has nothing to list."""
        if not len(self):
            return b""
        if len(self) > MOST_ROWS:
            self._list_newest()
            self._grown = bool(self._rows)
        if self._parsed is None:
            return b"".join([_MARK, self._head, self._body, self._tail])
        if self._grown:
            self._parsed = dict(sorted(self._parsed.items()))
            self._grown = False
        rows = [*self._parsed.items()]
        if self.is_newest:
            rows.sort(key=_time_of, reverse=True)
            rows = rows[:NEWEST_ROWS]
            self._parsed = dict(rows)
        return b"".join([_MARK, self._head, *(line for _, line in rows), self._tail])

    def join(self, base: "Overview | None", theirs: "Overview") -> None:
        """Take over what others changed since `base`; of what both changed the later."""
        before = {} if base is None else base._rows
        if theirs.is_newest:
            self._list_newest()
        for link in before.keys() | theirs._rows.keys():
            was, other, own = before.get(link), theirs._rows.get(link), self._rows.get(link)
            if other == was:
                continue
            if other is None:
                if own == was and not self.is_newest:
                    del self._rows[link]
            elif own is None or own == was or other[_TIME] > own[_TIME]:
                self._put(link, other)

    def _put(self, link: bytes, line: bytes) -> None:
        self._grown = self._grown or self.is_newest or link not in self._rows
        self._rows[link] = line

    def _list_newest(self) -> None:
        if not self.is_newest:
            before, _, header = self._head.removesuffix(_RULE).removesuffix(b"\n").rpartition(b"\n")
            self._head = b"%s\n%s%s\n%s" % (before, _NOTE, header, _RULE)


def _is_news(before: bytes, time: bytes, *, forward: bool) -> bool:
    return time > before if forward else time != before


def _time_of(row: tuple[bytes, bytes]) -> bytes:
    return row[1][_TIME]


@lru_cache(1 << 8)
def _minute(number: int) -> bytes:
    """A minute since 1970, UTC; the last is that of the year 9999."""
    instant = datetime.fromtimestamp(60 * max(0, min(number, 4_223_371_679)), UTC)
    return instant.strftime("%Y-%m-%d %H:%M").encode()


@lru_cache(1 << 12)
def _link(name: bytes) -> bytes:
    """A link from beside it: a colon must not begin an address, nor a `%` be read as an escape."""
    return quote_from_bytes(name, safe="").encode()
