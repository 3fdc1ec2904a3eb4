"""Pauses: which slots are held back, and what becomes of them afterwards."""

from collections.abc import Sequence

import msgspec

from roundsman.ledger.interface import Pause, PauseKind, ResumedSlot, Resumption
from roundsman.ledger.postgresql import holds, queue, runs
from roundsman.ledger.postgresql.locks import Lock, alone
from roundsman.ledger.postgresql.statements import Link, load
from roundsman.ledger.spans import NewId, span_run

SQL = load("pauses")


async def add(link: Link, pause: Pause) -> bool:
    """Hold back a device or a job; false when it was held already."""
    await alone(link, Lock.CONFIGURATION)
    if await SQL["add_pause"].row(link, **msgspec.structs.asdict(pause)) is None:
        return False
    await _mark(link, pause.kind, pause.name, pause.since)
    await _hold(link, pause.kind, pause.name, pause.since)
    return True


async def to_resume(link: Link, kind: PauseKind, name: str) -> list[ResumedSlot] | None:
    """What lifting a pause sets free; none when there is no such pause."""
    if await SQL["is_paused"].row(link, kind=kind, name=name) is None:
        return None
    rows = await SQL[f"freed_by_{kind}"].rows(link, name=name)
    return [msgspec.convert(dict(row), ResumedSlot) for row in rows]


async def resume(
    link: Link,
    kind: PauseKind,
    name: str,
    resumptions: Sequence[Resumption],
    *,
    now: float,
    new_id: NewId,
) -> bool:
    """Lift a pause and move its slots on; false when not held."""
    await alone(link, Lock.CONFIGURATION)
    if await SQL["remove_pause"].row(link, kind=kind, name=name) is None:
        return False
    slot_ids = await _mark(link, kind, name, now)
    moved = await SQL["move_on"].column(
        link,
        kind=kind,
        name=name,
        devices=[resumption.device for resumption in resumptions],
        jobs=[resumption.job for resumption in resumptions],
        epochs=[resumption.epoch for resumption in resumptions],
        plans=[resumption.plan for resumption in resumptions],
        next_dues=[resumption.next_due for resumption in resumptions],
    )
    await queue.requeue(link, slot_ids, now)
    taken = [resumptions[place - 1] for place in sorted(moved)]
    await runs.add(
        link,
        [
            span_run(new_id(), item.device, item.job, span, into=None, now=now)
            for item in taken
            for span in item.spans
        ],
    )
    await _hold(link, kind, name, now)
    return True


async def _mark(link: Link, kind: PauseKind, name: str, now: float) -> list[int]:
    slot_ids = await SQL[f"slots_of_{kind}"].column(link, name=name)
    await SQL["mark"].rows(link, slot_ids=slot_ids)
    await queue.requeue(link, slot_ids, now)
    return slot_ids


async def _hold(link: Link, kind: PauseKind, name: str, now: float) -> None:
    """Arrange anew what is held back and touched by a pause that began or ended."""
    devices = await holds.SQL[f"held_of_{kind}"].column(link, name=name)
    await queue.lock_devices(link, devices)
    for device in devices:
        await holds.hold(link, device, now)


async def in_force(link: Link) -> list[Pause]:
    """Every pause."""
    return [msgspec.convert(dict(row), Pause) for row in await SQL["pauses"].rows(link)]
