"""What is kept no longer, and what is left of it."""

from roundsman.ledger.interface import AccountQuery, Ledger, Presence, Span
from roundsman.testing.ledger_conformance.helpers import (
    NOW,
    OTHER,
    claim,
    end_of,
    history,
    planned,
    run_of,
)
from roundsman.wire.accounts import DaySum
from roundsman.wire.run import Cause, Outcome

DAY = 86_400
TODAY = NOW // DAY * DAY
MANY = 1000


class Retention:
    """What is kept no longer, and what is left of it."""

    async def _five_days(self, ledger: Ledger) -> None:
        """A run a day, one of which stands for two times more."""
        await ledger.sync_slots([planned("d", due=NOW)], NOW - 1)
        for number in range(5):
            at = NOW + number * DAY
            (leased,) = await claim(ledger, now=at)
            missed = Span(
                outcome=Outcome.MISSED,
                first_due=at + 3600,
                last_due=at + 7200,
                count=2,
                cause=Cause.NO_WORKER,
            )
            spans = (missed,) if number == 1 else ()
            run = run_of(leased, f"run-{number}", at=at)
            await ledger.finish([end_of(leased, run, next_due=at + DAY, spans=spans)], at)

    async def test_old_runs_become_the_sums_of_their_days(self, ledger: Ledger) -> None:
        await self._five_days(ledger)
        assert await ledger.accounted_since() == 0
        assert await ledger.prune(before=NOW + 2 * DAY, limit=MANY) == 3
        assert [run.due for run in reversed(await history(ledger))] == [
            NOW + number * DAY for number in (2, 3, 4)
        ]
        well = DaySum(
            day=TODAY,
            job="backup",
            outcome=Outcome.SUCCEEDED,
            cause=None,
            on_demand=False,
            count=1,
        )
        found = await ledger.daily(0, NOW + 9 * DAY, None)
        assert [(each.day, each.outcome, each.count) for each in found] == [
            (TODAY, Outcome.SUCCEEDED, 1),
            (TODAY + DAY, Outcome.MISSED, 2),
            (TODAY + DAY, Outcome.SUCCEEDED, 1),
        ]
        assert found[0] == well
        assert await ledger.daily(TODAY + 1, TODAY + DAY, None) == []
        assert await ledger.daily(0, TODAY + 1, "backup") == [well]
        assert await ledger.daily(0, TODAY + 1, "check") == []
        assert await ledger.accounted_since() == NOW + DAY + 7200 + 1
        assert await ledger.prune(before=NOW + 2 * DAY, limit=MANY) == 0

    async def test_beyond_a_number_the_oldest_go_a_few_at_a_time(self, ledger: Ledger) -> None:
        await self._five_days(ledger)
        assert [await ledger.recorded_beyond(most) for most in (MANY, 6)] == [None, None]
        beyond = await ledger.recorded_beyond(2)
        assert beyond is not None
        assert await ledger.prune(before=0, limit=3) == 0
        assert await ledger.prune(before=beyond, limit=3) == 3
        assert await ledger.prune(before=beyond, limit=3) == 1
        assert await ledger.prune(before=beyond, limit=3) == 0
        assert await ledger.recorded_beyond(2) is None
        assert [run.run_id for run in await history(ledger)] == ["run-4", "run-3"]
        found = await ledger.daily(0, NOW + 9 * DAY, None)
        assert sum(each.count for each in found) == 5

    async def test_plans_and_presences_of_that_time_go_too(self, ledger: Ledger) -> None:
        await ledger.note_presences([Presence(session="s", asked=None, since=NOW, until=NOW + 5)])
        await self._five_days(ledger)
        await ledger.sync_slots([planned("d", due=None, plan=OTHER)], NOW + 5 * DAY)
        await ledger.prune(before=NOW + 9 * DAY, limit=MANY)
        assert await ledger.presences(0, NOW + DAY) == []
        since = await ledger.accounted_since()
        query = AccountQuery(since=since, until=NOW + 9 * DAY)
        [account] = (await ledger.accounts(query, NOW + 9 * DAY)).items
        assert account.tallies == ()
