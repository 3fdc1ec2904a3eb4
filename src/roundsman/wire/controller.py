"""A controller, one of those that share a ledger."""

from typing import Final

import msgspec

ALIVE_SECONDS: Final = 10.0
"""A controller that was not seen for so long is taken for dead."""


class Controller(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of one controller."""

    controller_id: str
    """UUID, another one after each start."""
    address: str | None
    """URL at which others reach it; none: they cannot."""
    version: str
    """Release that it runs."""
    started_at: float
    """Unix seconds."""
    seen_at: float
    """When it last said that it is there, by the ledger's clock."""
    alive: bool
    """Whether that was within the last ten seconds."""
    leading: bool
    """Whether it plans and keeps house for all: one of them does."""
    configuration: str
    """Which configuration it has in force: equal ones are equal here."""
    in_step: bool
    """Whether that is the one of the controller that leads; taken to be so of one of another
    release, which says the same in other words."""
    problem: str | None
    """Why it could not take over the configuration that it was last told to read; none: it did."""
