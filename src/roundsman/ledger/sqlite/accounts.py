"""What was planned and what became of it, and when somebody was there: read, and noted."""

import sqlite3
from collections.abc import Sequence

import msgspec

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
from roundsman.ledger.spans import in_order
from roundsman.ledger.sqlite.statements import all_of, load
from roundsman.wire.run import Cause, Outcome, SlotState

SQL = load("accounts")

_SLOT_TAGGED = (
    "lane_id IN (SELECT lane_id FROM lanes AS tagged, json_each(tagged.tags) AS tag"
    " WHERE tag.value = :tag)"
)
_PLAN_TAGGED = "EXISTS (SELECT 1 FROM json_each(ended_plans.tags) AS tag WHERE tag.value = :tag)"


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


def accounts(connection: sqlite3.Connection, query: AccountQuery, now: float) -> Page[SlotAccount]:
    """The accounts of a page of pairs: five statements, however many there are."""
    pairs = _pairs(connection, query)
    page = pairs[: query.limit]
    asked = {
        "pairs": msgspec.json.encode(page).decode(),
        "since": query.since,
        "until": query.until,
        "now": now,
    }
    found = [_Found() for _ in page]
    _read_plans(connection, asked, found)
    _read_slots(connection, query, asked, found)
    for key, outcome, cause, on_demand, count in connection.execute(SQL["accounted_runs"], asked):
        found[key].tallies.append(
            Tally(
                outcome=Outcome(outcome),
                cause=_cause(cause),
                on_demand=bool(on_demand),
                count=count,
            )
        )
    for key, outcome, first, last, count, reason, cause in connection.execute(
        SQL["accounted_spans"], asked
    ):
        found[key].cut.append(
            Span(
                outcome=Outcome(outcome),
                first_due=first,
                last_due=last,
                count=count,
                reason=reason,
                cause=_cause(cause),
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


def _pairs(connection: sqlite3.Connection, query: AccountQuery) -> list[cursors.SlotPlace]:
    after = cursors.slot_place(query.after) if query.after else ("", "")
    filters = {"device = :device": query.device is not None, "job = :job": query.job is not None}
    tagged = query.tag is not None
    sql = SQL["accounted_slots"].format(
        slot_filters=all_of({**filters, _SLOT_TAGGED: tagged}),
        plan_filters=all_of({**filters, _PLAN_TAGGED: tagged}),
    )
    rows = connection.execute(
        sql,
        {
            **msgspec.structs.asdict(query),
            "after_device": after[0],
            "after_job": after[1],
            "limit": query.limit + 1,
        },
    )
    return [(device, job) for device, job in rows]


def _read_plans(
    connection: sqlite3.Connection, asked: dict[str, object], found: list[_Found]
) -> None:
    for key, tags, plan, since, until in connection.execute(SQL["accounted_plans"], asked):
        found[key].tags = msgspec.json.decode(tags, type=Tags)
        found[key].plans.append(PlanEpoch(plan=plan, since=since, until=until))


def _read_slots(
    connection: sqlite3.Connection,
    query: AccountQuery,
    asked: dict[str, object],
    found: list[_Found],
) -> None:
    for key, tags, plan, since, due, on_demand, resume_due, attempts, state in connection.execute(
        SQL["accounted_now"], asked
    ):
        each = found[key]
        each.tags = msgspec.json.decode(tags, type=Tags)
        if since < query.until:
            each.plans.append(PlanEpoch(plan=plan, since=since, until=None))
        each.open_due = resume_due if on_demand else due
        each.state = SlotState(state)
        each.attempts = 0 if on_demand else attempts


def note_presences(connection: sqlite3.Connection, presences: Sequence[Presence]) -> None:
    """Write them, or how long they have lasted by now."""
    connection.executemany(
        SQL["note_presence"],
        (
            {
                "session": presence.session,
                "asked": _encoded(presence.asked),
                "since": presence.since,
                "until": presence.until,
            }
            for presence in presences
        ),
    )


def presences(connection: sqlite3.Connection, since: float, until: float) -> list[Presence]:
    """Those that touch some time."""
    rows = connection.execute(SQL["presences"], {"since": since, "until": until})
    return [
        Presence(session=session, asked=_filter(asked), since=first, until=last)
        for session, asked, first, last in rows
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
