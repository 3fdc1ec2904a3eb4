"""Which packs are worth joining or compacting now. Pure: sizes and times in, names out."""

from collections import defaultdict
from collections.abc import Sequence
from enum import StrEnum
from typing import Final, cast

import msgspec

_GROWTH: Final = 2
_FEW: Final = 16
"""So many packs of about one size are joined."""
_ALIKE: Final = 8
"""A pack so many times as large as the smaller ones are on average is of another size. What was
joined is, so that it is copied again only when there are as many like it."""
_JOINED_BYTES: Final = 512 << 20
"""Larger packs are not joined any more, only compacted."""
_YOUNG_BYTES: Final = 256 << 20
"""So much of what git did not look at yet is compacted at once."""
_WORTH_BYTES: Final = 4 << 20
"""So much is when there is time, if it is a fair part of the whole."""
_PART: Final = 4
_SHRINKS: Final = 8
"""What compacting makes of young packs, roughly: an eighth."""
_MINUTES_BETWEEN: Final = 15
_DAY: Final = 86_400
_PRUNE_DAYS: Final = 7


class Work(StrEnum):
    """What there is to do."""

    NOTHING = "nothing"
    JOIN = "join"
    COMPACT = "compact"
    PRUNE = "prune"
    VERIFY = "verify"


class PackFile(msgspec.Struct, frozen=True):
    """A pack that may be replaced."""

    name: str
    size: int
    generation: str | None
    """The commit that was the branch's tip when git looked for deltas in it; none: not yet."""


class Plan(msgspec.Struct, frozen=True):
    """What to do with which packs."""

    work: Work
    packs: Sequence[str] = ()
    beyond: Sequence[str] = ()
    """Of compacting: the generations that are left as they are."""


def make_plan(
    packs: Sequence[PackFile], *, now: float, compacted_at: float, pruned_at: float
) -> Plan:
    """The next thing worth doing, the most urgent first."""
    young = sorted((pack for pack in packs if pack.generation is None), key=lambda pack: pack.size)
    old = [pack for pack in packs if pack.generation is not None]
    size = _sum(young)
    since = now - compacted_at
    if now - pruned_at > _PRUNE_DAYS * _DAY and packs:
        return Plan(Work.PRUNE, [pack.name for pack in packs])
    due = (
        size >= _YOUNG_BYTES
        or (size >= max(_WORTH_BYTES, _sum(old) // _PART) and since > _MINUTES_BETWEEN * 60)
        or (len(young) > 1 and since > _DAY)
    )
    if due:
        return _compacting(young, old)
    return plan_joining(young)


def pruning_failed(now: float) -> float:
    """When to say that it was pruned, so that the next try comes in a day and other work before."""
    return now - (_PRUNE_DAYS - 1) * _DAY


def plan_joining(packs: Sequence[PackFile]) -> Plan:
    """What is worth joining of young packs."""
    small = [pack for pack in packs if pack.size < _JOINED_BYTES]
    joined = _to_join(sorted(small, key=lambda pack: pack.size))
    return Plan(Work.JOIN if joined else Work.NOTHING, [pack.name for pack in joined])


def _compacting(young: Sequence[PackFile], old: Sequence[PackFile]) -> Plan:
    """All young packs, and the generations that are not much larger than what they become."""
    generations: defaultdict[str | None, list[PackFile]] = defaultdict(list)
    for pack in old:
        generations[pack.generation].append(pack)
    chosen = [*young]
    size = _sum(young) // _SHRINKS
    beyond: list[str] = []
    for generation, packs in sorted(generations.items(), key=lambda item: _sum(item[1])):
        if beyond or _sum(packs) > _GROWTH * size:
            beyond.append(cast("str", generation))
        else:
            chosen += packs
            size += _sum(packs)
    return Plan(Work.COMPACT, [pack.name for pack in chosen], beyond)


def _to_join(packs: Sequence[PackFile]) -> list[PackFile]:
    """The largest that are many of about one size, of packs by their size."""
    alike: list[list[PackFile]] = []
    size = 0
    for pack in packs:
        if not alike or pack.size * len(alike[-1]) > _ALIKE * size:
            alike.append([])
            size = 0
        alike[-1].append(pack)
        size += pack.size
    return next((some for some in reversed(alike) if len(some) >= _FEW), [])


def _sum(packs: Sequence[PackFile]) -> int:
    return sum(pack.size for pack in packs)
