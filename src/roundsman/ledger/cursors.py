"""Where a page of a list ended: opaque texts that callers hand back."""

from base64 import b64decode, urlsafe_b64encode
from typing import Annotated, TypeVar

import msgspec

from roundsman.errors import InvalidError

SlotPlace = tuple[str, str]
"""Device and job of the last slot of a page."""
TimePlace = tuple[float, Annotated[int, msgspec.Meta(ge=0, le=2**62)]]
"""Instant and row number of the last run or process of a page."""
LinePlace = tuple[str, Annotated[int, msgspec.Meta(ge=0, le=2**62)]]
"""A version, and so many of its lines that were told."""

PlaceType = TypeVar("PlaceType")

_slot_place: "msgspec.json.Decoder[SlotPlace]" = msgspec.json.Decoder(SlotPlace)
_line_place: "msgspec.json.Decoder[LinePlace]" = msgspec.json.Decoder(LinePlace)
_time_place: "msgspec.json.Decoder[TimePlace]" = msgspec.json.Decoder(TimePlace)


class CursorError(InvalidError):
    """An `after` that no page of this list gave."""

    code = "page.cursor"


def encode(place: SlotPlace | TimePlace | LinePlace) -> str:
    """The cursor for a place."""
    return urlsafe_b64encode(msgspec.json.encode(place)).rstrip(b"=").decode()


def slot_place(cursor: str) -> SlotPlace:
    """The place in a list of slots; `CursorError` when the text stands for none."""
    return _decode(cursor, _slot_place)


def time_place(cursor: str) -> TimePlace:
    """The place in a list of runs or processes; `CursorError` when the text stands for none."""
    return _decode(cursor, _time_place)


def line_place(cursor: str) -> LinePlace:
    """The place in a version's lines; `CursorError` when the text stands for none."""
    return _decode(cursor, _line_place)


def _decode(cursor: str, decoder: "msgspec.json.Decoder[PlaceType]") -> PlaceType:
    try:
        padded = cursor + "=" * (-len(cursor) % 4)
        return decoder.decode(b64decode(padded, altchars=b"-_", validate=True))
    except ValueError as error:  # bad base64, bad UTF-8, bad JSON and wrong types alike
        raise CursorError(
            f"after={cursor[:80]!r}: expected the `next` of a page of this list",
            remedy="leave `after` out to begin with the first page",
        ) from error
