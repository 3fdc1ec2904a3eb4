"""What was planned and what became of it, and when somebody was there: read, and noted."""

from collections.abc import Sequence

import msgspec
from asyncpg import Record

from roundsman.ledger import cursors
from roundsman.ledger.accounts import Account, filter_of, filter_text, page
from roundsman.ledger.interface import AccountQuery, Page, PlanEpoch, Presence, SlotAccount
from roundsman.ledger.postgresql.statements import Link, load
from roundsman.ledger.sql_files import all_of
from roundsman.wire.run import SlotState

SQL = load("accounts")


async def accounts(link: Link, query: AccountQuery, now: float) -> Page[SlotAccount]:
    """The accounts of a page of pairs: five statements, however many there are."""
    pairs = await _pairs(link, query)
    wanted = pairs[: query.limit]
    asked = {
        "devices": [device for device, _ in wanted],
        "jobs": [job for _, job in wanted],
        "since": query.since,
        "until": query.until,
        "now": now,
    }
    found = [Account() for _ in wanted]
    for row in await SQL["accounted_plans"].rows(link, **asked):
        each = found[row["place"] - 1]
        each.tags = tuple(row["tags"])
        each.plans.append(PlanEpoch(plan=row["plan"], since=row["since"], until=row["until"]))
    for row in await SQL["accounted_now"].rows(link, **asked):
        _stand(found[row["place"] - 1], row, query)
    for row in await SQL["accounted_runs"].rows(link, **asked):
        found[row["place"] - 1].add_tally(
            row["outcome"], row["cause"], on_demand=row["on_demand"], count=row["count"]
        )
    for row in await SQL["accounted_spans"].rows(link, **asked):
        found[row["place"] - 1].add_span(
            row["outcome"],
            row["due"],
            row["last_due"],
            count=row["count"],
            reason=row["failure"],
            cause=row["cause"],
        )
    return page(wanted, found, more=len(pairs) > query.limit)


async def _pairs(link: Link, query: AccountQuery) -> list[cursors.SlotPlace]:
    after = cursors.slot_place(query.after) if query.after else ("", "")
    filters = {
        "device = :device": query.device is not None,
        "job = :job": query.job is not None,
        "tags @> ARRAY[:tag::text]": query.tag is not None,
    }
    values = {
        **msgspec.structs.asdict(query),
        "after_device": after[0],
        "after_job": after[1],
        "limit": query.limit + 1,
    }
    rows = await SQL["accounted_slots"].formed(filters=all_of(filters)).rows(link, **values)
    return [(row["device"], row["job"]) for row in rows]


def _stand(each: Account, row: Record, query: AccountQuery) -> None:
    each.tags = tuple(row["tags"])
    if row["planned_since"] < query.until:
        each.plans.append(PlanEpoch(plan=row["plan"], since=row["planned_since"], until=None))
    each.open_due = row["resume_due"] if row["on_demand"] else row["due"]
    each.state = SlotState(row["state"])
    each.attempts = 0 if row["on_demand"] else row["attempts"]


async def note_presences(link: Link, presences: Sequence[Presence]) -> None:
    """Write them, or how long they have lasted by now."""
    latest = {(each.since, each.session, filter_text(each.asked)): each.until for each in presences}
    await SQL["note_presences"].rows(
        link,
        sessions=[session for _, session, _ in latest],
        asked=[asked for _, _, asked in latest],
        sinces=[since for since, _, _ in latest],
        untils=list(latest.values()),
    )


async def presences(link: Link, since: float, until: float) -> list[Presence]:
    """Those that touch some time."""
    rows = await SQL["presences"].rows(link, since=since, until=until)
    return [
        Presence(
            session=row["session"],
            asked=filter_of(row["asked"]),
            since=row["since"],
            until=row["until"],
        )
        for row in rows
    ]
