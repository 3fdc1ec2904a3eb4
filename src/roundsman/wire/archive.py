"""How the archive stands."""

import msgspec


class Maintenance(msgspec.Struct, frozen=True, kw_only=True):
    """What was done last to keep the archive small."""

    work: str
    """`join`, `compact` or `prune`."""
    at: float
    """When it ended, Unix seconds."""
    seconds: float
    """How long it took."""
    packs: int
    """How many packs it was given."""
    failure: str | None = None
    """Why it came to nothing."""


class ArchiveState(msgspec.Struct, frozen=True, kw_only=True):
    """How the archive stands."""

    bytes: int
    """Size on disk."""
    packs: int
    """Packs of objects; each is looked into when an object is read."""
    loose: int
    """Objects in files of their own, brought by others."""
    set_aside: tuple[str, ...] = ()
    """Folders of repositories that were found damaged, kept for whoever wants to look; each has a
    report beside it that says what was lost."""
    maintenance: Maintenance | None = None
    """What was done last; none before the first time."""
