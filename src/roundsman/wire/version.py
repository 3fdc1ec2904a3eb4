"""A version: one result in the archive."""

import msgspec


class Version(msgspec.Struct, frozen=True, kw_only=True):
    """One version of a (device, job) pair."""

    version: str
    """Commit, full hexadecimal id."""
    at: int
    """When it was committed, Unix seconds."""
    subject: str
    """First line of the commit message."""
