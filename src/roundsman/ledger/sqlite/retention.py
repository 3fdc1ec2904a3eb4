"""Runs that are kept no longer: added to the sums of their days, and taken away."""

import math
import sqlite3

from roundsman.ledger.sqlite.statements import load
from roundsman.wire.accounts import DaySum
from roundsman.wire.run import Cause, Outcome

SQL = load("retention")


def beyond(connection: sqlite3.Connection, most: int) -> float | None:
    """Before when those were recorded that are beyond so many; none: there are not so many."""
    row = connection.execute(SQL["newest_recorded"], {"most": most}).fetchone()
    # Those recorded at that very instant are beyond it too.
    return None if row is None else math.nextafter(row[0], math.inf)


def prune(connection: sqlite3.Connection, *, before: float, limit: int) -> int:
    """Take the oldest runs of before an instant away; how many."""
    asked = {"before": before, "limit": limit}
    (last_due,) = connection.execute(SQL["last_due_of_oldest"], asked).fetchone()
    connection.execute(SQL["remove_presences"], {"before": before})
    if last_due is None:
        return 0
    connection.execute(SQL["sum_oldest"], asked)
    removed = connection.execute(SQL["remove_oldest"], asked).rowcount
    connection.execute(SQL["keep_since"], {"since": last_due + 1})
    connection.execute(SQL["remove_ended_plans"], {"limit": limit})
    return removed


def kept_since(connection: sqlite3.Connection) -> int:
    """From when on due times are accounted for one by one."""
    (since,) = connection.execute(SQL["kept_since"]).fetchone()
    return int(since)


def daily(connection: sqlite3.Connection, since: int, until: int, job: str | None) -> list[DaySum]:
    """The sums of some days."""
    rows = connection.execute(SQL["daily"], {"since": since, "until": until, "job": job})
    return [
        DaySum(
            day=day,
            job=job,
            outcome=Outcome(outcome),
            cause=Cause(cause) if cause else None,
            on_demand=bool(on_demand),
            count=count,
        )
        for day, job, outcome, cause, on_demand, count in rows
    ]
