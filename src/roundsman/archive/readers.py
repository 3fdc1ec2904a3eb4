"""Readers of objects that are kept from one question to the next.

A git program opens the index of every pack before it finds its first object: with some thousands
of packs, as they lie there while results stream in, that takes longer than most answers.
"""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from roundsman.archive.command import Git, ObjectReader

SECONDS: Final = 120.0
"""How often those that nobody uses are ended: they hold on to packs that were removed since."""
_MOST: Final = 2
"""Kept while nobody uses them."""


class Readers:
    """Gives them out. Any thread may ask."""

    def __init__(self, git: Git) -> None:
        """Each is ended after use until they are to be kept."""
        self._git = git
        self._lock = threading.Lock()
        self._most = 0
        self._idle: list[ObjectReader] = []

    def keep(self) -> None:
        """Keep some from now on."""
        self._most = _MOST

    @contextmanager
    def one(self) -> Iterator[ObjectReader]:
        """A reader for this thread alone."""
        with self._lock:
            reader = self._idle.pop() if self._idle else ObjectReader(self._git)
        try:
            yield reader
        except BaseException:
            reader.close()  # what it was asked may not have been heard to the end
            raise
        with self._lock:
            kept = len(self._idle) < self._most
            if kept:
                self._idle.append(reader)
        if not kept:
            reader.close()

    def end_idle(self) -> None:
        """End those that nobody uses now."""
        with self._lock:
            idle, self._idle = self._idle, []
        for reader in idle:
            reader.close()

    def close(self) -> None:
        """Keep none any more; those in use are ended after it."""
        self._most = 0
        self.end_idle()
