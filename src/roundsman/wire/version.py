"""A version: one result in the archive."""

import msgspec


class Version(msgspec.Struct, frozen=True, kw_only=True):
    """One version of a (device, job) pair."""

    version: str
    """Commit, full hexadecimal id."""
    number: int
    """1 for the pair's first version, and so on."""
    at: int
    """When it was committed, Unix seconds."""
    ended_at: int
    """When the run that brought it ended; where a commit holds several, the last of them."""
    subject: str
    """First line of the commit message."""
    size: int
    """Bytes of the content."""
    lines: int | None
    """Its line ends; none: it is no text, or is kept beside the repository."""
    run_id: str | None = None
    """The run that brought it; none where somebody else committed it."""
    withdrawn: bool = False
    """Whether it is not what was kept of that run: its lease was lost before the run was ended, or
    another controller kept the same result, by another commit."""


class FleetVersion(msgspec.Struct, frozen=True, kw_only=True):
    """The version that a pair had at some instant."""

    device: str
    """The device."""
    job: str
    """The job."""
    version: Version
    """What was kept of them then."""


class LineOrigin(msgspec.Struct, frozen=True, kw_only=True):
    """One line of a version, and since when it is there."""

    text: str
    """Without its line end; what is no UTF-8 is shown as U+FFFD."""
    number: int
    """The version in which it came. Of those for which `complete` is false and this is `reached`,
    it is known only that they were there by then."""
    version: str
    """That version's commit."""
    at: int
    """When that was committed, Unix seconds."""


class Origins(msgspec.Struct, frozen=True, kw_only=True):
    """Since which version lines of a version are there, without a break."""

    version: Version
    """The version whose lines these are."""
    count: int
    """So many lines it has, on all pages."""
    lines: tuple[LineOrigin, ...]
    """Those of this page, in order."""
    reached: int
    """Number of the oldest version that was looked at."""
    complete: bool
    """Whether the version of each of these lines is certain; false: it took too long to look
    further back."""
    next: str | None = None
    """Pass it as `after` to get the next page, of the same version; none on the last."""
