"""What was planned and what became of it, and when somebody was there: read, and noted."""

from collections.abc import Sequence

import msgspec
from asyncpg import Record

from roundsman.ledger import cursors
from roundsman.ledger.fairness import Tags
from roundsman.ledger.interface import (
    AccountQuery,
    Page,
    PlanEpoch,
    Presence,
    SlotAccount,
    Span,
    TagFilter,
    Tally,
)
from roundsman.ledger.postgresql.statements import Link, load
from roundsman.ledger.spans import in_order
from roundsman.ledger.sql_files import all_of
from roundsman.wire.run import Cause, Outcome, SlotState

SQL = load("accounts")


class _Found:
    """One pair, as it is put together."""

    def __init__(self) -> None:
        self.tags: Tags = ()
        self.plans: list[PlanEpoch] = []
        self.tallies: list[Tally] = []
        self.cut: list[Span] = []
        self.open_due: int | None = None
        self.state: SlotState | None = None
        self.attempts = 0


async def accounts(link: Link, query: AccountQuery, now: float) -> Page[SlotAccount]:
    """The accounts of a page of pairs: five statements, however many there are."""
    pairs = await _pairs(link, query)
    page = pairs[: query.limit]
    asked = {
        "devices": [device for device, _ in page],
        "jobs": [job for _, job in page],
        "since": query.since,
        "until": query.until,
        "now": now,
    }
    found = [_Found() for _ in page]
    for row in await SQL["accounted_plans"].rows(link, **asked):
        each = found[row["place"] - 1]
        each.tags = tuple(row["tags"])
        each.plans.append(PlanEpoch(plan=row["plan"], since=row["since"], until=row["until"]))
    for row in await SQL["accounted_now"].rows(link, **asked):
        _stand(found[row["place"] - 1], row, query)
    for row in await SQL["accounted_runs"].rows(link, **asked):
        found[row["place"] - 1].tallies.append(
            Tally(
                outcome=Outcome(row["outcome"]),
                cause=_cause(row["cause"]),
                on_demand=row["on_demand"],
                count=row["count"],
            )
        )
    for row in await SQL["accounted_spans"].rows(link, **asked):
        found[row["place"] - 1].cut.append(
            Span(
                outcome=Outcome(row["outcome"]),
                first_due=row["due"],
                last_due=row["last_due"],
                count=row["count"],
                reason=row["failure"],
                cause=_cause(row["cause"]),
            )
        )
    return Page(
        items=tuple(
            SlotAccount(
                device=device,
                job=job,
                tags=each.tags,
                plans=tuple(each.plans),
                tallies=in_order(each.tallies),
                cut=tuple(each.cut),
                open_due=each.open_due,
                state=each.state,
                attempts=each.attempts,
            )
            for (device, job), each in zip(page, found, strict=True)
        ),
        next=cursors.encode(page[-1]) if len(pairs) > query.limit else None,
    )


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


def _stand(each: _Found, row: Record, query: AccountQuery) -> None:
    each.tags = tuple(row["tags"])
    if row["planned_since"] < query.until:
        each.plans.append(PlanEpoch(plan=row["plan"], since=row["planned_since"], until=None))
    each.open_due = row["resume_due"] if row["on_demand"] else row["due"]
    each.state = SlotState(row["state"])
    each.attempts = 0 if row["on_demand"] else row["attempts"]


async def note_presences(link: Link, presences: Sequence[Presence]) -> None:
    """Write them, or how long they have lasted by now."""
    latest = {(each.since, each.session, _encoded(each.asked)): each.until for each in presences}
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
            asked=_filter(row["asked"]),
            since=row["since"],
            until=row["until"],
        )
        for row in rows
    ]


def _cause(column: str | None) -> Cause | None:
    return None if column is None else Cause(column)


def _encoded(tags: TagFilter | None) -> str:
    """A filter as a text, equal ones alike."""
    if tags is None:
        return ""
    parts = [None if part is None else sorted(part) for part in (tags.any_of, tags.within)]
    return msgspec.json.encode(parts).decode()


def _filter(column: str) -> TagFilter | None:
    if not column:
        return None
    any_of, within = msgspec.json.decode(
        column, type=tuple[frozenset[str] | None, frozenset[str] | None]
    )
    return TagFilter(any_of=any_of, within=within)
