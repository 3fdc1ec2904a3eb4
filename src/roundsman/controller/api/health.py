"""`/healthz` and `/readyz`, without a credential: for supervisors and load balancers."""

from typing import Final

from litestar import Response, Router, get
from litestar.di import NamedDependency

from roundsman.controller.service import Controller, Readiness


@get("/healthz", summary="Whether the process lives", tags=["health"])
async def healthz() -> dict[str, str]:
    """Answers as long as the event loop turns."""
    return {"status": "ok"}


@get("/readyz", summary="Whether ledger and archive can keep results now", tags=["health"])
async def readyz(controller: NamedDependency[Controller]) -> Response[Readiness]:
    """200 when every part is ready, else 503; the body names each."""
    readiness = await controller.readiness()
    return Response(readiness, status_code=200 if readiness.ready else 503)


ROUTES: Final = Router("/", security=[{}], route_handlers=[healthz, readyz])
