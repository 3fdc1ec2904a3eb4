"""`POST /start`: from the moment at which something was begun, it is answered here."""

import msgspec

from roundsman import logs
from roundsman.controller.api import errors, fleet
from roundsman.controller.api.bodies import parse
from roundsman.controller.api.guards import ADMINISTRATORS
from roundsman.controller.api.short_way import Call, Said
from roundsman.controller.audit import asked
from roundsman.controller.service import Controller
from roundsman.errors import RoundsmanError
from roundsman.wire.audit import AuditAction, AuditOutcome
from roundsman.wire.process import StartAnswer, StartRequest

log = logs.get(__name__)


async def answer(controller: Controller, call: Call) -> Said | None:
    """What became of the start, if the caller may start something and its worker is there."""
    try:
        principal = await ADMINISTRATORS.admit(controller, call.headers)
        wanted = parse(call.body, StartRequest)
    except RoundsmanError:
        return None
    principal = msgspec.structs.replace(principal, address=call.address)
    try:
        started = await controller.fleet.start(wanted, by=principal)
    except RoundsmanError:
        return None  # nothing was begun
    except Exception as error:  # the caller is answered, whatever it is
        log.error("http.fault", method="POST", path="/start", exc_info=error)
        audit = controller.audit
        await audit.write(
            audit.entry(
                AuditAction.START_PROCESS,
                AuditOutcome.FAILED,
                by=principal,
                reason=errors.FAULT.error,
                code=errors.FAULT.code,
                worker_id=wanted.worker_id,
                asked=asked(wanted.command, (wanted.path,)),
            )
        )
        return Said({"error": errors.FAULT.error}, 500)
    if started.error is None:
        return Said(StartAnswer(job_id=started.process_id), 201)
    status, headers = fleet.explain(started.error)
    return Said({"error": started.error.sentence}, status, headers)
