"""`/api/v1/workers`: enrolment, heartbeats, who there is."""

from typing import Final

from litestar import Router, delete, get, post
from litestar.di import NamedDependency
from litestar.params import RequestBody

from roundsman.config.records import Role
from roundsman.controller.access import Principal
from roundsman.controller.api.auditing import Audited, about
from roundsman.controller.api.guards import (
    ADMINISTRATORS,
    READERS,
    WORKERS,
    Allow,
    CallerRequest,
)
from roundsman.controller.api.parameters import After, Limit, WorkerId
from roundsman.controller.service import Controller
from roundsman.secret import Secret
from roundsman.wire.audit import AuditAction
from roundsman.wire.page import Page
from roundsman.wire.worker import (
    EnrolAnswer,
    EnrolRequest,
    HeartbeatAnswer,
    HeartbeatRequest,
    Worker,
)


def _address(request: CallerRequest) -> str | None:
    return request.client.host if request.client is not None else None


@post(
    "/",
    guards=[WORKERS],
    middleware=[Audited(AuditAction.ENROL_WORKER)],
    summary="Enrol a worker",
    # The one answer that carries a secret: the new worker's token, in the clear, once.
    type_encoders={Secret: lambda secret: secret.reveal()},
)
async def enrol_worker(
    request: CallerRequest,
    data: RequestBody[EnrolRequest],
    controller: NamedDependency[Controller],
    principal: NamedDependency[Principal],
) -> EnrolAnswer:
    """Give a new worker its lasting id and a token of its own.

    The token is shown this once; only its digest is kept. Tags of the enrolling token narrow the
    new worker's token for good. The own token of an enrolled worker cannot enrol.
    """
    enrolled = await controller.workers.enrol(data, by=principal, address=_address(request))
    about(request.scope, worker_id=enrolled.worker_id)
    return enrolled


@post(
    "/{worker_id:str}/heartbeat",
    guards=[Allow(Role.WORKER)],
    summary="Say that a worker lives, and renew its leases",
    status_code=200,
)
async def send_heartbeat(
    request: CallerRequest,
    worker_id: WorkerId,
    data: RequestBody[HeartbeatRequest],
    controller: NamedDependency[Controller],
    principal: NamedDependency[Principal],
) -> HeartbeatAnswer:
    """For the worker itself alone, with its own token; the answer names the leases it has lost."""
    return await controller.workers.heartbeat(
        worker_id, data, by=principal, address=_address(request)
    )


@get("/", guards=[READERS], summary="Every worker, by name")
async def list_workers(
    controller: NamedDependency[Controller], after: After = None, limit: Limit = 100
) -> Page[Worker]:
    """With whether its control channel is open now, and when it was last seen."""
    return await controller.workers.page(after=after, limit=limit)


@get("/{worker_id:str}", guards=[READERS], summary="One worker")
async def get_worker(worker_id: WorkerId, controller: NamedDependency[Controller]) -> Worker:
    """Likewise, and within which bounds its machine can keep processes."""
    return await controller.workers.get(worker_id)


@delete(
    "/{worker_id:str}",
    guards=[ADMINISTRATORS],
    middleware=[Audited(AuditAction.REMOVE_WORKER)],
    summary="Remove a worker",
)
async def remove_worker(
    worker_id: WorkerId,
    controller: NamedDependency[Controller],
    principal: NamedDependency[Principal],
) -> None:
    """Revoke its token at once and forget it.

    What it holds runs out and is offered again; its history stays.
    """
    await controller.workers.remove(worker_id, by=principal)


ROUTES: Final = Router(
    "/workers",
    route_handlers=[enrol_worker, send_heartbeat, list_workers, get_worker, remove_worker],
    tags=["workers"],
)
