"""Ends of leases.

Most are done by one statement for all of them. What concerns the failures of a device is decided
in `roundsman.ledger.holds`, so those are done one after the other, while the device's slots are
held.
"""

from collections.abc import Sequence

import msgspec

from roundsman.ledger.interface import Finish, FinishAnswer, ResultKey
from roundsman.ledger.postgresql import holds, queue, results, runs
from roundsman.ledger.postgresql.database import Database
from roundsman.ledger.postgresql.locks import Lock, shared
from roundsman.ledger.postgresql.statements import Link, load
from roundsman.ledger.spans import NewId, span_run
from roundsman.schedules.plans import times_of
from roundsman.wire.run import Run

SQL = load("finishes")


async def finish(
    database: Database, finishes: Sequence[Finish], *, now: float, new_id: NewId
) -> list[FinishAnswer]:
    """End leases; for each, whether it took effect."""
    together = _together(finishes)
    ended = await database.do(lambda link: _end(link, finishes, together, now, new_id))
    answers = dict.fromkeys(ended, FinishAnswer.KEPT)
    rest = [place for place in range(len(finishes)) if place not in answers]
    if rest:
        one_by_one = [finishes[place] for place in rest]
        answered = await database.transact(
            lambda link: _one_by_one(link, one_by_one, now=now, new_id=new_id)
        )
        answers.update(zip(rest, answered, strict=True))
    return [answers[place] for place in range(len(finishes))]


def _together(finishes: Sequence[Finish]) -> list[int]:
    """The places of those that neither concern a device's failures nor each other."""
    alone = {ending.key.device for ending in finishes if ending.breaker is not None}
    seen: set[tuple[str, str]] = set()
    places = []
    for place, ending in enumerate(finishes):
        slot = (ending.key.device, ending.key.job)
        if ending.key.device not in alone and slot not in seen:
            places.append(place)
        seen.add(slot)
    return places


async def _end(
    link: Link, finishes: Sequence[Finish], places: Sequence[int], now: float, new_id: NewId
) -> list[int]:
    """End those of these places whose leases hold; which did."""
    if not places:
        return []
    endings, written, places_of_runs = [], [], []
    for place in places:
        ending = finishes[place]
        endings.append(
            {
                "place": place,
                "device": ending.key.device,
                "job": ending.key.job,
                "epoch": ending.key.epoch,
                "next_due": ending.next_due,
                "retry_at": ending.retry_at,
                "tried": int(ending.run is not None),
                "plan": ending.plan,
                "result": results.encode(ending.result),
            }
        )
        of_it = _runs_of(ending, now, new_id)
        written += of_it
        places_of_runs += [place] * len(of_it)
    ended: list[int] = await SQL["finish"].column(
        link,
        endings=msgspec.json.encode(endings).decode(),
        runs=runs.as_json(written),
        places=places_of_runs,
        old_before=queue.old_before(now),
    )
    await queue.let_in(link, sorted({finishes[place].key.device for place in ended}), now)
    return ended


def _runs_of(ending: Finish, now: float, new_id: NewId) -> list[Run]:
    """The run, if there is one, and its spans."""
    run, key = ending.run, ending.key
    into = None if run is None else run.run_id
    return [
        *([] if run is None else [run]),
        *(
            span_run(new_id(), key.device, key.job, span, into=into, now=now)
            for span in ending.spans
        ),
    ]


async def _one_by_one(
    link: Link, finishes: Sequence[Finish], *, now: float, new_id: NewId
) -> list[FinishAnswer]:
    await shared(link, Lock.CONFIGURATION)
    await queue.lock_devices(link, sorted({ending.key.device for ending in finishes}))
    return [await _finish(link, ending, now, new_id) for ending in finishes]


async def _finish(link: Link, ending: Finish, now: float, new_id: NewId) -> FinishAnswer:
    key = ending.key
    slot_id = await SQL["end_lease"].value(link, device=key.device, job=key.job, epoch=key.epoch)
    if slot_id is None:
        return await _refuse(link, ending)
    await holds.note(link, ending, now)
    if not await _move(link, slot_id, ending):
        # Its plan was replaced meanwhile, when all before was accounted for.
        ending = msgspec.structs.replace(ending, spans=())
        [(plan, since)] = await SQL["plan_of"].rows(link, slot_id=slot_id)
        next_due = times_of(plan).next_after(since)
        await _move(link, slot_id, msgspec.structs.replace(ending, plan=plan, next_due=next_due))
    await queue.requeue(link, [slot_id], now)
    await queue.let_in(link, [key.device], now)
    if not ending.answered:
        await holds.hold(link, key.device, now)
    await runs.add(link, _runs_of(ending, now, new_id))
    return FinishAnswer.KEPT


async def _move(link: Link, slot_id: int, ending: Finish) -> bool:
    """Have the slot wait for its next due time or attempt; false when that is not its plan."""
    known = {
        "slot_id": slot_id,
        "epoch": ending.key.epoch,
        "result": results.encode(ending.result),
    }
    if ending.retry_at is not None:
        tried = int(ending.run is not None)
        await SQL["try_again"].rows(link, retry_at=ending.retry_at, tried=tried, **known)
        return True
    moved = await SQL["move_on"].row(link, next_due=ending.next_due, plan=ending.plan, **known)
    return moved is not None


async def _refuse(link: Link, ending: Finish) -> FinishAnswer:
    run = ending.run
    if run is None:
        return FinishAnswer.STALE
    if run.digest is not None:
        key = ResultKey(device=run.device, job=run.job, due=run.due, digest=run.digest)
        [kept] = await runs.repeats(link, [key])
        if any(same.epoch == ending.key.epoch for same in kept):
            return FinishAnswer.REPEATED
    await runs.add_stale(link, run)
    return FinishAnswer.STALE
