"""Frames of the control channel: one message each, or a JSON array of several.

A frame costs both ends more than what is in it. An array is sent only to who has said that it
takes one: the worker by its `Hello`, the controller by an empty array after that. Those of earlier
releases say neither, and are sent one message at a time.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import Final

import msgspec

NOTHING: Final = "[]"
"""An array of no messages, which says that arrays are taken."""

_MOST_BYTES: Final = 1 << 19  # of an array; half of what a frame may have
_array = msgspec.json.Decoder(list[msgspec.Raw])


def frames(messages: Iterable[bytes], *, together: bool) -> Iterator[str]:
    """What carries these messages, in their order; in as few frames as hold them if `together`."""
    gathered: list[bytes] = []
    size = 0
    for message in messages:
        if gathered and (not together or size + len(message) > _MOST_BYTES):
            yield _frame(gathered)
            gathered, size = [], 0
        gathered.append(message)
        size += len(message)
    if gathered:
        yield _frame(gathered)


def _frame(messages: Sequence[bytes]) -> str:
    if len(messages) == 1:
        return messages[0].decode()
    return (b"[" + b",".join(messages) + b"]").decode()


def is_array(frame: str) -> bool:
    """Whether it is of one who takes arrays."""
    return frame.startswith("[")


def messages(frame: str) -> Sequence[str | msgspec.Raw]:
    """What a frame carries, not yet decoded. Raises `msgspec.DecodeError`, `RecursionError`."""
    return _array.decode(frame) if is_array(frame) else (frame,)
