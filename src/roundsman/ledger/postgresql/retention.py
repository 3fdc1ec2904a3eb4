"""Runs that are kept no longer: added to the sums of their days, and taken away."""

import math

from roundsman.ledger.postgresql.statements import Link, load
from roundsman.wire.accounts import DaySum
from roundsman.wire.run import Cause, Outcome

SQL = load("retention")


async def beyond(link: Link, most: int) -> float | None:
    """Before when those were recorded that are beyond so many; none: there are not so many."""
    found = await SQL["newest_recorded"].value(link, most=most)
    # Those recorded at that very instant are beyond it too.
    return None if found is None else math.nextafter(found, math.inf)


async def prune(link: Link, *, before: float, limit: int) -> int:
    """Take the oldest runs of before an instant away; how many."""
    await SQL["remove_presences"].rows(link, before=before)
    removed = int(await SQL["prune"].value(link, before=before, limit=limit))
    if removed:
        await SQL["remove_ended_plans"].rows(link, limit=limit)
    return removed


async def kept_since(link: Link) -> int:
    """From when on due times are accounted for one by one."""
    return int(await SQL["kept_since"].value(link))


async def daily(link: Link, since: int, until: int, job: str | None) -> list[DaySum]:
    """The sums of some days."""
    return [
        DaySum(
            day=row["day"],
            job=row["job"],
            outcome=Outcome(row["outcome"]),
            cause=Cause(row["cause"]) if row["cause"] else None,
            on_demand=row["on_demand"],
            count=row["count"],
        )
        for row in await SQL["daily"].rows(link, since=since, until=until, job=job)
    ]
