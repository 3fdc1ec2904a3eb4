"""What was planned and what became of it, and when somebody was there: read, and noted."""

import sqlite3
from collections.abc import Sequence

import msgspec

from roundsman.ledger import cursors
from roundsman.ledger.accounts import Account, filter_of, filter_text, page
from roundsman.ledger.fairness import Tags
from roundsman.ledger.interface import AccountQuery, Page, PlanEpoch, Presence, SlotAccount
from roundsman.ledger.sqlite.statements import all_of, load
from roundsman.wire.run import SlotState

SQL = load("accounts")

_SLOT_TAGGED = (
    "lane_id IN (SELECT lane_id FROM lanes AS tagged, json_each(tagged.tags) AS tag"
    " WHERE tag.value = :tag)"
)
_PLAN_TAGGED = "EXISTS (SELECT 1 FROM json_each(ended_plans.tags) AS tag WHERE tag.value = :tag)"


def accounts(connection: sqlite3.Connection, query: AccountQuery, now: float) -> Page[SlotAccount]:
    """The accounts of a page of pairs: five statements, however many there are."""
    pairs = _pairs(connection, query)
    wanted = pairs[: query.limit]
    asked = {
        "pairs": msgspec.json.encode(wanted).decode(),
        "since": query.since,
        "until": query.until,
        "now": now,
    }
    found = [Account() for _ in wanted]
    _read_plans(connection, asked, found)
    _read_slots(connection, query, asked, found)
    for key, outcome, cause, on_demand, count in connection.execute(SQL["accounted_runs"], asked):
        found[key].add_tally(outcome, cause, on_demand=bool(on_demand), count=count)
    for key, outcome, first, last, count, reason, cause in connection.execute(
        SQL["accounted_spans"], asked
    ):
        found[key].add_span(outcome, first, last, count=count, reason=reason, cause=cause)
    return page(wanted, found, more=len(pairs) > query.limit)


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
    connection: sqlite3.Connection, asked: dict[str, object], found: list[Account]
) -> None:
    for key, tags, plan, since, until in connection.execute(SQL["accounted_plans"], asked):
        found[key].tags = msgspec.json.decode(tags, type=Tags)
        found[key].plans.append(PlanEpoch(plan=plan, since=since, until=until))


def _read_slots(
    connection: sqlite3.Connection,
    query: AccountQuery,
    asked: dict[str, object],
    found: list[Account],
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
                "asked": filter_text(presence.asked),
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
        Presence(session=session, asked=filter_of(asked), since=first, until=last)
        for session, asked, first, last in rows
    ]
