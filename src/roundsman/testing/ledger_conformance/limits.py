"""How much may be going on at once, and what goes first."""

from roundsman.config.records import TagLimits
from roundsman.ledger.interface import (
    ClaimLimits,
    Ledger,
    Pause,
    PauseKind,
    Priority,
    SyncSummary,
    TagFilter,
)
from roundsman.testing.ledger_conformance.helpers import (
    LEASE,
    NOW,
    claim,
    end_of,
    key_of,
    names,
    planned,
    run_of,
)

THREE_JOBS = ("a", "b", "c")
ONE_EACH = ClaimLimits(sessions_per_device=1)


def tagged(sessions: int | None = None, starts: int | None = None) -> ClaimLimits:
    """Limits of what has the tag `x`."""
    return ClaimLimits(tags={"x": TagLimits(sessions=sessions, starts_per_minute=starts)})


class Limits:
    """How much may be going on at once, and what goes first."""

    async def test_two_jobs_of_a_device_never_run_at_once(self, ledger: Ledger) -> None:
        slots = [planned(name, job) for name in ("d", "e") for job in THREE_JOBS]
        await ledger.sync_slots(slots, NOW)
        first = await claim(ledger, limits=ONE_EACH)
        assert [(slot.device, slot.job) for slot in first] == [("d", "a"), ("e", "a")]
        assert await claim(ledger, limits=ONE_EACH) == []
        await ledger.finish([end_of(first[0])], NOW)
        second = await claim(ledger, limits=ONE_EACH)
        assert [(slot.device, slot.job) for slot in second] == [("d", "b")]
        two = ClaimLimits(sessions_per_device=2)
        more = await claim(ledger, limits=two)
        assert sorted((slot.device, slot.job) for slot in more) == [("d", "c"), ("e", "b")]

    async def test_room_that_a_device_cannot_take_goes_to_others(self, ledger: Ledger) -> None:
        slots = [planned("d", f"j{n}", due=NOW - 50 + n) for n in range(20)]
        await ledger.sync_slots([*slots, planned("e"), planned("f")], NOW)
        assert names(await claim(ledger, 3, limits=ONE_EACH)) == ["d", "e", "f"]

    async def test_a_lease_that_ran_out_holds_nobody_up(self, ledger: Ledger) -> None:
        await ledger.sync_slots([planned("d", "a"), planned("d", "b")], NOW)
        (first,) = await claim(ledger, limits=ONE_EACH)
        until = NOW + 2 * LEASE
        await ledger.renew([key_of(first)], worker_id=None, now=NOW + 1, until=until)
        assert await claim(ledger, now=until - 1, limits=ONE_EACH) == []
        (second,) = await claim(ledger, 1, now=until, limits=ONE_EACH)
        assert (second.device, second.due) == ("d", NOW)
        assert await claim(ledger, now=until, limits=ONE_EACH) == []

    async def test_what_a_limit_held_up_is_offered_after_a_pause_too(self, ledger: Ledger) -> None:
        await ledger.sync_slots([planned("d", "a"), planned("d", "b")], NOW)
        (first,) = await claim(ledger, limits=ONE_EACH)
        pause = Pause(kind=PauseKind.JOB, name="b", since=NOW, by="alice")
        await ledger.pause(pause)
        await ledger.finish([end_of(first)], NOW)
        assert await claim(ledger, limits=ONE_EACH) == []
        await ledger.resume(PauseKind.JOB, "b", [], NOW)
        assert len(await claim(ledger, limits=ONE_EACH)) == 1

    async def test_limits_outlive_a_restart_and_a_reload(self, ledger: Ledger) -> None:
        await ledger.sync_slots([planned("d", "a"), planned("d", "b")], NOW)
        assert len(await claim(ledger, limits=ONE_EACH)) == 1
        await ledger.close()
        await ledger.open()
        assert await claim(ledger, limits=ONE_EACH) == []
        await ledger.sync_slots([planned("d", job) for job in THREE_JOBS], NOW)
        assert await claim(ledger, limits=ONE_EACH) == []

    async def test_a_worker_has_so_many_at_once(self, ledger: Ledger) -> None:
        limits = ClaimLimits(sessions_per_worker=3)
        await ledger.sync_slots([planned(f"d{n}") for n in range(9)], NOW)
        mine = await claim(ledger, worker_id="w1", limits=limits)
        assert len(mine) == 3
        assert await claim(ledger, worker_id="w1", limits=limits) == []
        assert len(await claim(ledger, 2, worker_id="w2", limits=limits)) == 2
        assert len(await claim(ledger, 2, limits=limits)) == 2  # it is nobody in particular
        await ledger.finish([end_of(mine[0])], NOW)
        assert len(await claim(ledger, worker_id="w1", limits=limits)) == 1

    async def test_a_tag_has_so_many_at_once(self, ledger: Ledger) -> None:
        limits = tagged(sessions=3)
        both = [planned(f"b{n}", tags=["x", "y"]) for n in range(4)]
        slots = [*(planned(f"a{n}", tags=["x"]) for n in range(4)), *both]
        await ledger.sync_slots([*slots, planned("c", tags=["y"])], NOW)
        first = await claim(ledger, limits=limits)
        assert sum("x" in slot.tags for slot in first) == 3
        assert "c" in names(first)
        assert await claim(ledger, limits=limits) == []
        only = TagFilter(any_of=frozenset("x"))
        mine = next(slot for slot in first if "x" in slot.tags)
        await ledger.finish([end_of(mine)], NOW)
        assert len(await claim(ledger, tags=only, limits=limits)) == 1
        assert len(await claim(ledger, now=NOW + LEASE, limits=limits)) == 4

    async def test_a_tag_starts_so_many_a_minute(self, ledger: Ledger) -> None:
        """A tenth at once, then one after the other, whoever asks."""
        limits = tagged(starts=30)
        slots = [planned(f"a{n:02}", tags=["x"]) for n in range(40)]
        await ledger.sync_slots([*slots, planned("c")], NOW)
        assert len(await claim(ledger, limits=limits)) == 3 + 1
        assert await claim(ledger, now=NOW + 1.9, limits=limits) == []
        assert len(await claim(ledger, now=NOW + 2.1, limits=limits)) == 1
        await ledger.close()
        await ledger.open()
        assert await claim(ledger, now=NOW + 3, limits=limits) == []
        started = 0
        for second in range(3, 63):
            started += len(await claim(ledger, 1, now=NOW + second, limits=limits))
        assert started in (29, 30)
        assert len(await claim(ledger, now=NOW + 4, limits=limits)) <= 1  # the clock went back

    async def test_what_was_asked_for_goes_first(self, ledger: Ledger) -> None:
        slots = [planned(f"d{n}", due=NOW - 100 + n) for n in range(9)]
        await ledger.sync_slots([*slots, planned("e", due=NOW + 50)], NOW)
        await ledger.run_now("e", "backup", NOW)
        (first,) = await claim(ledger, 1)
        assert (first.device, first.on_demand) == ("e", True)
        await ledger.finish([end_of(first, run_of(first), next_due=NOW)], NOW)
        assert names(await claim(ledger, 1)) == ["d0"]

    async def test_priorities_go_before_age_but_for_a_quarter(self, ledger: Ledger) -> None:
        await ledger.sync_slots(
            [
                *(planned(f"l{n}", due=NOW - 100 + n, priority=Priority.LOW) for n in range(8)),
                *(planned(f"n{n}", due=NOW - 50 + n) for n in range(8)),
                *(planned(f"h{n}", due=NOW - 20 + n, priority=Priority.HIGH) for n in range(4)),
                planned("later", due=NOW + 5, priority=Priority.HIGH),
            ],
            NOW,
        )
        first = await claim(ledger, 8)
        assert names(first) == ["l0", "l1", "n0", "n1", "h0", "h1", "h2", "h3"]
        assert [slot.due for slot in first] == sorted(slot.due for slot in first)

    async def test_a_changed_priority_takes_effect(self, ledger: Ledger) -> None:
        await ledger.sync_slots([planned("a", due=NOW - 1), planned("b")], NOW)
        slots = [planned("a", due=NOW - 1), planned("b", priority=Priority.HIGH)]
        assert await ledger.sync_slots(slots, NOW) == SyncSummary(changed=1, kept=1)
        assert names(await claim(ledger, 1)) == ["b"]
