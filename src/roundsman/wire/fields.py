"""Fields of records that leave out what says nothing."""

from typing import TypeVar

import msgspec

_T = TypeVar("_T")


def always(default: _T) -> _T:
    """The default of a field that travels even with that value: for records with `omit_defaults`.

    The fields of the published contract always travel; those that are ours only when they say
    something.
    """
    made: _T = msgspec.field(default_factory=lambda: default)
    return made
