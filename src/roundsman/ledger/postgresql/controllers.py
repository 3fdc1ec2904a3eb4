"""The register of controllers, and which of them leads."""

import msgspec

from roundsman.ledger.interface import Leadership, NotLeadingError, RegisteredController
from roundsman.ledger.postgresql.migrations import migrations
from roundsman.ledger.postgresql.statements import Link, load

SQL = load("controllers")
_record = msgspec.json.Decoder(RegisteredController)


async def note(link: Link, controller: RegisteredController) -> None:
    """Enter what a controller says of itself, and which schema it knows."""
    record = {**msgspec.to_builtins(controller), "schema": migrations()[-1][0]}
    await SQL["note_controller"].rows(
        link,
        controller_id=controller.controller_id,
        address=controller.address,
        seen_at=controller.seen_at,
        record=msgspec.json.encode(record).decode(),
    )


async def every(link: Link) -> list[RegisteredController]:
    """Every controller, by when it started."""
    records = map(_record.decode, await SQL["controllers"].column(link))
    return sorted(records, key=lambda each: (each.started_at, each.controller_id))


async def remove(link: Link, controller_id: str) -> None:
    """Strike one off; it leads no more."""
    await SQL["remove_controller"].rows(link, controller_id=controller_id)
    await SQL["let_go"].rows(link, controller_id=controller_id)


async def lead(
    link: Link, controller_id: str, *, term: int | None, now: float, until: float
) -> Leadership:
    """Go on to lead, or take over if nobody leads; who leads then."""
    row = await SQL["go_on"].row(link, controller_id=controller_id, term=term, until=until)
    if row is not None:
        return msgspec.convert(dict(row), Leadership)
    leads = await _leadership(link)
    if leads.until > now:
        return leads
    await SQL["hold_term"].rows(link)
    row = await SQL["take_over"].row(link, controller_id=controller_id, now=now, until=until)
    if row is None:
        return await _leadership(link)
    await SQL["begin_term"].rows(link, term=row["term"])
    return msgspec.convert(dict(row), Leadership)


async def _leadership(link: Link) -> Leadership:
    [row] = await SQL["leadership"].rows(link)
    return msgspec.convert(dict(row), Leadership)


async def must_be_term(link: Link, term: int | None) -> None:
    """Return when it is, for the rest of the transaction. Raises `NotLeadingError`."""
    if term is not None and await SQL["under"].row(link, term=term) is None:
        raise NotLeadingError(f"expected to lead in term {term}, and another controller does")


async def call_to_reload(link: Link) -> int:
    """One more call upon all to read their configuration; which."""
    return int(await SQL["call_to_reload"].value(link))
