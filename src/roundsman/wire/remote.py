"""A remote: how far it has what is kept."""

import msgspec


class RemoteState(msgspec.Struct, frozen=True, kw_only=True):
    """How one remote stands."""

    name: str
    """Its name in the configuration."""
    url: str
    """Where it is; no address holds a password."""
    commit: str | None = None
    """The newest commit that it is known to have, full hexadecimal id."""
    pushed_at: float | None = None
    """When this process last brought it up to date, Unix seconds."""
    behind: int = 0
    """How many commits it is not known to have."""
    failures: int = 0
    """How many attempts in a row failed."""
    failure: str | None = None
    """Why the last attempt failed; none when it did not."""
    failed_at: float | None = None
    """When that was, Unix seconds."""
    next_attempt_at: float | None = None
    """When it is tried again, Unix seconds; none while nothing failed."""
