"""Removes secrets and noise from a result, on the worker, before it is uploaded."""

from collections.abc import Iterable, Iterator

from roundsman.wire.job import Scrubber, ScrubberType
from roundsman.worker.patterns import THOROUGH, Effort, Pattern


class Scrubbers:
    """The scrubbers of a job, applied to a whole text one after the other."""

    def __init__(self, scrubbers: Iterable[Scrubber]) -> None:
        """Read them; raises `PatternError` for an expression that is none."""
        self._steps = [
            (
                scrubber,
                None if scrubber.type is ScrubberType.SIMPLE else Pattern.of(scrubber.search),
            )
            for scrubber in scrubbers
        ]

    def __bool__(self) -> bool:
        return bool(self._steps)

    def apply(self, text: Iterable[bytes], effort: Effort = THOROUGH) -> Iterator[bytes]:
        """The scrubbed text, as a stream; raises `PatternError` when that cannot be done.

        Takes time and blocks: unless the effort is a quick one this is for a thread.
        """
        if not effort.aside:
            return iter((self._at_once(b"".join(text), effort),))
        stream = iter(text)
        for scrubber, pattern in self._steps:
            if pattern is None:
                stream = replace_literal(
                    stream, scrubber.search.encode(), scrubber.replace.encode()
                )
            else:
                groups = scrubber.type is ScrubberType.REGEX_SUBSTITUTE
                stream = pattern.replace(stream, scrubber.replace, groups=groups, effort=effort)
        return stream

    def _at_once(self, text: bytes, effort: Effort) -> bytes:
        """A small text, without the machinery of streams, which would take as long as the rest."""
        for scrubber, pattern in self._steps:
            if pattern is not None:
                groups = scrubber.type is ScrubberType.REGEX_SUBSTITUTE
                text = pattern.replace_in(text, scrubber.replace, groups=groups, effort=effort)
            elif scrubber.search:
                text = text.replace(scrubber.search.encode(), scrubber.replace.encode())
        return text


def replace_literal(text: Iterable[bytes], search: bytes, replacement: bytes) -> Iterator[bytes]:
    """The text with each `search` replaced, wherever the pieces of the text are cut."""
    if not search:
        yield from text
        return
    held = b""
    for piece in text:
        *before, held = (held + piece).split(search)
        # What could be the beginning of a further one waits for the next piece.
        safe = max(0, len(held) - len(search) + 1)
        before.append(held[:safe])
        held = held[safe:]
        yield replacement.join(before)
    yield held
