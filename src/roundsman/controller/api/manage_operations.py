"""`/api/v1`: what a person asks for beside the schedule."""

from typing import Any, Final

from litestar import Request, Response, Router, get, post
from litestar.di import NamedDependency
from litestar.openapi.datastructures import ResponseSpec

from roundsman.controller.access import Principal
from roundsman.controller.api.auditing import Audited
from roundsman.controller.api.errors import sentence
from roundsman.controller.api.guards import ADMINISTRATORS, READERS
from roundsman.controller.api.parameters import After, Device, Job, Limit, RunId
from roundsman.controller.service import Controller
from roundsman.documents.problems import ConfigurationError
from roundsman.wire.audit import AuditAction
from roundsman.wire.manage import (
    AcceptAnswer,
    ConfigurationProblem,
    PauseAnswer,
    ReleaseAnswer,
    ReloadAnswer,
    ReloadRefused,
    ResumeAnswer,
    RunNowAnswer,
)
from roundsman.wire.page import Page
from roundsman.wire.pause import Pause, PauseKind
from roundsman.wire.process import ErrorAnswer


@post(
    "/devices/{device:str}/jobs/{job:str}/run",
    guards=[ADMINISTRATORS],
    middleware=[Audited(AuditAction.RUN_NOW)],
    summary="Run a job on a device now",
    status_code=202,
    responses={
        409: ResponseSpec(
            ErrorAnswer,
            description="The device or the job is paused; nothing was changed.",
            generate_examples=False,
        )
    },
)
async def run_now(
    device: Device,
    job: Job,
    controller: NamedDependency[Controller],
    principal: NamedDependency[Principal],
) -> RunNowAnswer:
    """Make the slot due now, beside its schedule; the next worker that asks for it runs it."""
    return await controller.operations.run_now(device, job, by=principal)


@post(
    "/runs/{run_id:str}/accept",
    guards=[ADMINISTRATORS],
    middleware=[Audited(AuditAction.ACCEPT_RUN)],
    summary="Store a result that waits in quarantine",
    status_code=200,
    responses={
        409: ResponseSpec(
            ErrorAnswer,
            description="It does not wait there, or no longer: a later result took its place.",
            generate_examples=False,
        )
    },
)
async def accept_run(
    run_id: RunId,
    controller: NamedDependency[Controller],
    principal: NamedDependency[Principal],
) -> AcceptAnswer:
    """Make it the latest version, with the times at which it was read."""
    return await controller.acceptance.accept(run_id, by=principal)


@get("/pauses", guards=[READERS], summary="Every pause in force")
async def list_pauses(
    controller: NamedDependency[Controller], after: After = None, limit: Limit = 100
) -> Page[Pause]:
    """By kind and name."""
    return await controller.operations.pauses(after=after, limit=limit)


@post(
    "/devices/{device:str}/pause",
    guards=[ADMINISTRATORS],
    middleware=[Audited(AuditAction.PAUSE_DEVICE)],
    summary="Hold a device back",
    status_code=200,
)
async def pause_device(
    device: Device,
    controller: NamedDependency[Controller],
    principal: NamedDependency[Principal],
) -> PauseAnswer:
    """None of its jobs is handed out until it is resumed; what runs goes on to its end."""
    return await controller.operations.pause(PauseKind.DEVICE, device, by=principal)


@post(
    "/devices/{device:str}/resume",
    guards=[ADMINISTRATORS],
    middleware=[Audited(AuditAction.RESUME_DEVICE)],
    summary="Let a device go on",
    status_code=200,
)
async def resume_device(
    device: Device,
    controller: NamedDependency[Controller],
    principal: NamedDependency[Principal],
) -> ResumeAnswer:
    """What fell due meanwhile is recorded as missed, with the reason `paused`."""
    return await controller.operations.resume(PauseKind.DEVICE, device, by=principal)


@post(
    "/devices/{device:str}/release",
    guards=[ADMINISTRATORS],
    middleware=[Audited(AuditAction.RELEASE_DEVICE)],
    summary="Close a device's breaker",
    status_code=200,
)
async def release_device(
    device: Device,
    controller: NamedDependency[Controller],
    principal: NamedDependency[Principal],
) -> ReleaseAnswer:
    """Its failures are forgotten, and what is due is handed out at once."""
    return await controller.operations.release(device, by=principal)


@post(
    "/jobs/{job:str}/pause",
    guards=[ADMINISTRATORS],
    middleware=[Audited(AuditAction.PAUSE_JOB)],
    summary="Hold a job back",
    status_code=200,
)
async def pause_job(
    job: Job,
    controller: NamedDependency[Controller],
    principal: NamedDependency[Principal],
) -> PauseAnswer:
    """It is handed out for no device until it is resumed; what runs goes on to its end."""
    return await controller.operations.pause(PauseKind.JOB, job, by=principal)


@post(
    "/jobs/{job:str}/resume",
    guards=[ADMINISTRATORS],
    middleware=[Audited(AuditAction.RESUME_JOB)],
    summary="Let a job go on",
    status_code=200,
)
async def resume_job(
    job: Job,
    controller: NamedDependency[Controller],
    principal: NamedDependency[Principal],
) -> ResumeAnswer:
    """What fell due meanwhile is recorded as missed, with the reason `paused`."""
    return await controller.operations.resume(PauseKind.JOB, job, by=principal)


def on_bad_configuration(
    _: Request[Any, Any, Any], error: ConfigurationError
) -> Response[ReloadRefused]:
    """Answer every problem of a configuration."""
    problems = tuple(
        ConfigurationProblem(
            code=problem.code,
            file=problem.file,
            line=problem.line,
            path=problem.path,
            text=problem.text,
            suggestion=problem.suggestion,
        )
        for problem in error.problems
    )
    refused = ReloadRefused(error=sentence(error), code=error.code, problems=problems)
    return Response(refused, status_code=422)


@post(
    "/reload",
    guards=[ADMINISTRATORS],
    middleware=[Audited(AuditAction.RELOAD)],
    summary="Read the configuration anew",
    status_code=200,
    exception_handlers={ConfigurationError: on_bad_configuration},
    responses={
        409: ResponseSpec(
            ErrorAnswer,
            description="The controller was not started from a configuration file.",
            generate_examples=False,
        ),
        422: ResponseSpec(
            ReloadRefused,
            description="The configuration is bad; the old one goes on serving.",
            generate_examples=False,
        ),
    },
)
async def reload_configuration(controller: NamedDependency[Controller]) -> ReloadAnswer:
    """Put in force what the configuration file says now; nothing that runs is disturbed."""
    return await controller.reloading.reload()


ROUTES: Final = Router(
    "/",
    tags=["operations"],
    route_handlers=[
        run_now,
        accept_run,
        list_pauses,
        pause_device,
        resume_device,
        release_device,
        pause_job,
        resume_job,
        reload_configuration,
    ],
)
