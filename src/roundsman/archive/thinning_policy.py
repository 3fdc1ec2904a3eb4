"""Which versions stay, by their age: a policy in plain words. Pure.

`all for 30 days, then the last of each day for 1 year, then the last of each month` has three
rules. Each begins where the one before ends; hours to years are those of the calendar, in UTC.
"""

import calendar
import re
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Final, Self, TypeAlias

import msgspec

from roundsman.errors import InvalidError

EXAMPLE: Final = (
    "all for 30 days, then the last of each day for 1 year, then the last of each month"
)

_UNIT: Final = "(hour|day|week|month|year)"
_RULE: Final = re.compile(
    rf"(?:then +)?(?:all|(?:the +last +of +)?each +{_UNIT})"
    rf"(?: +for +(?:ever|([0-9]{{1,6}}) +{_UNIT}s?))?"
)
_HOUR: Final = 3600
_DAY: Final = 86_400
_MONDAY: Final = 3
"""1970 began on a Thursday, three days into its week."""
_LAST_SECOND: Final = 253_402_300_799  # of the year 9999, the last that a date can say

Bucket: TypeAlias = tuple[int, ...]
"""Of the versions of a result that share one, the last stays."""


class ThinningPolicyError(InvalidError):
    """A policy that says nothing."""

    code = "archive.thinning_policy"


class Rule(msgspec.Struct, frozen=True):
    """What stays of a span of time."""

    each: str | None
    """Of each hour, day, week, month or year the last version stays; none: all do."""
    since: int | None
    """It is for versions of this time or newer, Unix seconds; none: for all that are older."""


class Policy(msgspec.Struct, frozen=True):
    """Rules as of some instant, newest first; what none of them is for goes."""

    rules: Sequence[Rule]

    @classmethod
    def parse(cls, text: str, now: float) -> Self:
        """A policy as of `now`. Raises `ThinningPolicyError`.

        >>> Policy.parse("all for 2 days, then each week", 200_000.0).rules
        [Rule(each=None, since=27200), Rule(each='week', since=None)]
        """
        rules: list[Rule] = []
        until: datetime | None = datetime.fromtimestamp(int(now), UTC)
        for part in text.split(","):
            found = _RULE.fullmatch(part.strip())
            if found is None or until is None:
                what = "a rule" if found is None else "no rule after one that holds for ever"
                raise ThinningPolicyError(
                    f"{text!r}: expected {what}, got {part.strip()!r}", remedy=f"such as: {EXAMPLE}"
                )
            each, count, unit = found.groups()
            until = None if count is None else _before(until, int(count), unit)
            rules.append(Rule(each, None if until is None else int(until.timestamp())))
        return cls(rules)

    def bucket(self, at: int) -> Bucket | None:
        """What a version of this time shares with others; an empty one: nothing; none: it goes."""
        for number, rule in enumerate(self.rules):
            if rule.since is None or at >= rule.since:
                return (number, _PERIODS[rule.each](at)) if rule.each is not None else ()
        return None

    def said(self) -> Iterator[str]:
        """What it comes to, a line for each rule."""
        for rule in self.rules:
            what = "all versions" if rule.each is None else f"the last of each {rule.each}"
            yield what if rule.since is None else f"{what} since {_date(rule.since)}"
        if self.rules[-1].since is not None:
            yield "of what is older only the first version of each result"


def _before(instant: datetime, count: int, unit: str) -> datetime:
    """So long before an instant; a month ago is the same day of the month, or its last."""
    try:
        if unit in ("month", "year"):
            months = 12 * instant.year + instant.month - 1 - count * (12 if unit == "year" else 1)
            year, month = divmod(months, 12)
            day = min(instant.day, calendar.monthrange(year, month + 1)[1])
            return instant.replace(year=year, month=month + 1, day=day)
        return instant - timedelta(**{f"{unit}s": count})
    except (OverflowError, ValueError):
        return datetime.min.replace(tzinfo=UTC)


def _date(instant: int) -> str:
    return datetime.fromtimestamp(instant, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _calendar(at: int) -> datetime:
    return datetime.fromtimestamp(min(at, _LAST_SECOND), UTC)


def _month(at: int) -> int:
    return 12 * _calendar(at).year + _calendar(at).month


_PERIODS: Final[dict[str, Callable[[int], int]]] = {
    "hour": lambda at: at // _HOUR,
    "day": lambda at: at // _DAY,
    "week": lambda at: (at // _DAY + _MONDAY) // 7,
    "month": _month,
    "year": lambda at: _calendar(at).year,
}
