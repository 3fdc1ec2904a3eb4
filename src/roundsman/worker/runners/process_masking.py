"""Secrets in a stream of bytes, hidden even where a chunk ends in the middle of one."""

from collections import OrderedDict
from collections.abc import Iterable
from typing import Final

from roundsman.secret import MASK

_SHORTEST: Final = 4  # what is shorter stands in every text by chance
_SHORTEST_LINE: Final = 16  # of a secret of several lines, such as a key, each such line is one
MOST_SECRETS: Final = 2000  # each costs a search of every chunk; the newest are kept


class Secrets:
    """Texts that must not be seen; more may come at any time."""

    def __init__(self, texts: Iterable[str] = ()) -> None:
        """Know these."""
        self._known: OrderedDict[bytes, None] = OrderedDict()
        self.longest_first: tuple[bytes, ...] = ()
        self.beginnings: frozenset[bytes] = frozenset()
        """Everything with which one of them begins, but itself."""
        self.add(texts)

    def add(self, texts: Iterable[str]) -> None:
        """Know these too."""
        before = len(self._known)
        for text in texts:
            lines = [line for line in text.splitlines() if len(line) >= _SHORTEST_LINE]
            for part in (text, *lines):
                if len(part) >= _SHORTEST:
                    self._known[part.encode()] = None
        if len(self._known) == before:
            return
        while len(self._known) > MOST_SECRETS:
            self._known.popitem(last=False)
        self.longest_first = tuple(sorted(self._known, key=len, reverse=True))
        self.beginnings = frozenset(
            secret[:length] for secret in self._known for length in range(1, len(secret))
        )


class Masker:
    """Masks one stream. What may be the beginning of a secret is held back until it is clear."""

    def __init__(self, *secrets: Secrets) -> None:
        """Mask what any of these hold, at the time."""
        self._secrets = secrets
        self._held = b""

    def feed(self, data: bytes) -> bytes:
        """What of this, and of what was held back, may be seen now."""
        data, self._held = self._held + data, b""
        shown, begin = self._mask(data, hold=True)
        self._held = data[begin:]
        return shown

    def end(self) -> bytes:
        """What is held back, now that nothing follows."""
        shown, _ = self._mask(self._held, hold=False)
        self._held = b""
        return shown

    def _mask(self, data: bytes, *, hold: bool) -> tuple[bytes, int]:
        """The leftmost secret first, of those the longest; and from where on nothing is said."""
        following = {
            secret: at
            for secrets in self._secrets
            for secret in secrets.longest_first
            if (at := data.find(secret)) >= 0
        }
        shown: list[bytes] = []
        position = 0
        while True:
            begin = len(data) - (self._held_of(data[position:]) if hold else 0)
            for secret, at in list(following.items()):
                if at < position:
                    following[secret] = data.find(secret, position)
                    if following[secret] < 0:
                        del following[secret]
            first = min(following.items(), key=lambda item: (item[1], -len(item[0])), default=None)
            if first is None or first[1] >= begin:
                shown.append(data[position:begin])
                return b"".join(shown), begin
            shown += [data[position : first[1]], MASK.encode()]
            position = first[1] + len(first[0])

    def _held_of(self, data: bytes) -> int:
        """How much of the end may be the beginning of a secret."""
        for length in range(min(max(map(_longest, self._secrets)), len(data)), 0, -1):
            end = data[-length:]
            if any(end in secrets.beginnings for secrets in self._secrets):
                return length
        return 0


def _longest(secrets: Secrets) -> int:
    """The length of what it may hold back at most."""
    return len(secrets.longest_first[0]) - 1 if secrets.longest_first else 0
