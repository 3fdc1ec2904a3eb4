"""What a benchmark says: rows of one figure each."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One figure, with what it is compared to where there is something to compare."""

    name: str
    value: float
    unit: str
    compared_to: str | None = None
    """What the ratio's other side is, for people."""
    ratio: float | None = None
    """`value` divided by that of `compared_to`."""
