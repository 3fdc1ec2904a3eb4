"""The register of controllers, and which of them leads."""

import asyncio

import msgspec
import pytest

from roundsman.ledger.interface import (
    Leadership,
    Ledger,
    NotLeadingError,
    RegisteredController,
    SyncSummary,
)
from roundsman.testing.ledger_conformance.helpers import NOW, claim, history, names, planned

SECONDS = 6


def controller(controller_id: str = "c1", *, started_at: float = NOW) -> RegisteredController:
    """A controller that has just started."""
    return RegisteredController(
        controller_id=controller_id,
        home=f"home of {controller_id}",
        address="https://controller.example.net:9400",
        version="1.0",
        started_at=started_at,
        seen_at=started_at,
    )


async def lead(
    ledger: Ledger, controller_id: str, term: int | None, now: float = NOW
) -> Leadership:
    """Lead from now on, if nobody else does."""
    return await ledger.lead(controller_id, term=term, now=now, until=now + SECONDS)


class Controllers:
    """The register of controllers, and which of them leads."""

    async def test_controllers_are_known_by_what_they_said_last(self, ledger: Ledger) -> None:
        first, second = controller("c1", started_at=NOW), controller("c2", started_at=NOW - 5)
        await ledger.note_controller(first)
        await ledger.note_controller(second)
        later = msgspec.structs.replace(
            first,
            address=None,
            seen_at=NOW + 2.5,
            configuration="1f",
            calls=3,
            synced=SyncSummary(added=1),
            problem="it is gone",
        )
        await ledger.note_controller(later)
        assert await ledger.controllers() == [second, later]
        await ledger.remove_controller("c2")
        await ledger.remove_controller("c2")
        assert await ledger.controllers() == [later]

    async def test_one_leads_until_its_time_is_over(self, ledger: Ledger) -> None:
        first = await lead(ledger, "c1", None)
        assert (first.controller_id, first.until) == ("c1", NOW + SECONDS)
        assert await lead(ledger, "c2", None) == first
        assert await lead(ledger, "c1", None) == first  # without its term it is any other
        longer = await lead(ledger, "c1", first.term, NOW + 2)
        assert longer == msgspec.structs.replace(first, until=NOW + 2 + SECONDS)
        assert await lead(ledger, "c1", first.term, NOW) == longer  # never back
        assert await lead(ledger, "c2", None, longer.until - 0.1) == longer
        second = await lead(ledger, "c2", None, longer.until)
        assert (second.controller_id, second.term) == ("c2", first.term + 1)
        assert await lead(ledger, "c1", first.term, longer.until) == second

    async def test_whoever_is_late_leads_on_if_nobody_came(self, ledger: Ledger) -> None:
        first = await lead(ledger, "c1", None)
        assert (await lead(ledger, "c1", first.term, NOW + 999)).term == first.term

    async def test_whoever_signs_off_leads_no_more(self, ledger: Ledger) -> None:
        first = await lead(ledger, "c1", None)
        await ledger.remove_controller("c2")
        assert await lead(ledger, "c2", None) == first
        await ledger.remove_controller("c1")
        second = await lead(ledger, "c2", None)
        assert (second.controller_id, second.term) == ("c2", first.term + 1)

    async def test_of_many_at_once_one_leads(self, ledger: Ledger) -> None:
        asked = [lead(ledger, f"c{number}", None) for number in range(20)]
        answers = await asyncio.gather(*asked)
        [leading] = {each.controller_id for each in answers}
        assert {each.term for each in answers} == {answers[0].term}
        again = await asyncio.gather(
            *(lead(ledger, f"c{number}", None, NOW + SECONDS) for number in range(20))
        )
        assert {each.term for each in again} == {answers[0].term + 1}
        assert len({each.controller_id for each in again}) == 1
        assert leading

    async def test_nothing_is_written_under_a_term_that_is_over(self, ledger: Ledger) -> None:
        first = await lead(ledger, "c1", None)
        await ledger.sync_slots([planned("d")], NOW, term=first.term)
        second = await lead(ledger, "c2", None, NOW + SECONDS)
        with pytest.raises(NotLeadingError):
            await ledger.sync_slots([], NOW + SECONDS, term=first.term)
        with pytest.raises(NotLeadingError):
            await ledger.prune(before=NOW + 999, limit=10, term=first.term)
        assert names(await claim(ledger)) == ["d"]
        await ledger.sync_slots([], NOW + SECONDS, term=second.term)
        before = await history(ledger)
        assert before
        await ledger.prune(before=NOW + 9999, limit=10, term=second.term)
        assert await history(ledger) == []

    async def test_calls_to_reload_are_counted(self, ledger: Ledger) -> None:
        before = await lead(ledger, "c1", None)
        assert await ledger.call_to_reload() == before.calls + 1
        assert await ledger.call_to_reload() == before.calls + 2
        after = await lead(ledger, "c1", before.term)
        assert after == msgspec.structs.replace(before, calls=before.calls + 2)
        assert len(after.salt) >= 16
