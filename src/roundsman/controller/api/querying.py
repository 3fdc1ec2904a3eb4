"""`POST /query`, which clients of the contract send again and again until it says done."""

from roundsman.controller.api.bodies import parse
from roundsman.controller.api.guards import READERS
from roundsman.controller.api.short_way import Call, Said
from roundsman.controller.service import Controller
from roundsman.errors import RoundsmanError
from roundsman.wire.process import ProcessRequest


async def answer(controller: Controller, call: Call) -> Said | None:
    """What the query says, if the caller may ask and all is well."""
    try:
        await READERS.admit(controller, call.headers)
        return Said(await controller.fleet.query(parse(call.body, ProcessRequest)))
    except RoundsmanError:
        return None
