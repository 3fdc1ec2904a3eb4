"""What is known of the results of slots: one column of JSON, which only the controller reads."""

import msgspec

from roundsman.ledger.interface import KeptResult
from roundsman.ledger.postgresql.statements import Link, load

SQL = load("results")

_decoder: "msgspec.json.Decoder[KeptResult]" = msgspec.json.Decoder(KeptResult)


def encode(result: KeptResult | None) -> str | None:
    """A record as its column."""
    return None if result is None else msgspec.json.encode(result).decode()


def decode(column: str | None) -> KeptResult | None:
    """A column as its record."""
    return None if column is None else _decoder.decode(column)


async def of(link: Link, device: str, job: str) -> KeptResult | None:
    """What is known of a slot's result."""
    return decode(await SQL["result_of"].value(link, device=device, job=job))


async def accept(
    link: Link, run_id: str, *, version: str, changed: bool, by: str, now: float
) -> bool:
    """What the run brought into quarantine is its slot's result; false when it is not there."""
    row = await SQL["result_of_run"].row(link, run_id=run_id)
    known = None if row is None else decode(row["result"])
    if row is None or known is None or known.quarantined is None:
        return False
    if known.quarantined.run_id != run_id:
        return False
    result = encode(KeptResult(extent=known.quarantined.extent))
    await SQL["keep_result"].rows(link, slot_id=row["slot_id"], result=result)
    await SQL["accept_run"].rows(
        link, run_id=run_id, version=version, changed=changed, by=by, now=now
    )
    return True
