"""`/api/v1`: slots, runs and processes, as the ledger has them."""

from typing import Annotated, Final

from litestar import Router, get
from litestar.di import NamedDependency
from litestar.openapi.datastructures import ResponseSpec
from litestar.params import PathParameter, QueryParameter
from litestar.response import File

from roundsman.controller.api.auditing import Audited
from roundsman.controller.api.guards import READERS
from roundsman.controller.api.parameters import After, Device, Job, Limit, RunId, Since, Until
from roundsman.controller.service import Controller
from roundsman.wire.audit import AuditAction
from roundsman.wire.page import Page
from roundsman.wire.process import Process, ProcessState
from roundsman.wire.run import Outcome, Run, Slot, SlotState

OfDevice = Annotated[str | None, QueryParameter(description="Only those of this device.")]
OfJob = Annotated[str | None, QueryParameter(description="Only those of this job.")]
OfWorker = Annotated[str | None, QueryParameter(description="Only those of the worker of this id.")]
ProcessId = Annotated[str, PathParameter(description="Id of a process, `job_id` to `/start`.")]


@get("/slots", tags=["slots"], summary="Slots, by device and job")
async def list_slots(
    *,
    controller: NamedDependency[Controller],
    device: OfDevice = None,
    job: OfJob = None,
    tag: Annotated[
        str | None, QueryParameter(description="Only those whose device has this tag.")
    ] = None,
    slot_state: Annotated[
        SlotState | None, QueryParameter(name="state", description="Only those that stand so now.")
    ] = None,
    worker_id: OfWorker = None,
    after: After = None,
    limit: Limit = 100,
) -> Page[Slot]:
    """When each is due next, and who holds it until when."""
    return await controller.history.slots(
        device=device,
        job=job,
        tag=tag,
        state=slot_state,
        worker_id=worker_id,
        after=after,
        limit=limit,
    )


@get("/slots/{device:str}/{job:str}", tags=["slots"], summary="One slot")
async def get_slot(device: Device, job: Job, controller: NamedDependency[Controller]) -> Slot:
    """When it is due next, and who holds it until when."""
    return await controller.history.slot(device, job)


@get("/runs", tags=["runs"], summary="Runs, newest first")
async def list_runs(
    *,
    controller: NamedDependency[Controller],
    device: OfDevice = None,
    job: OfJob = None,
    outcome: Annotated[
        Outcome | None, QueryParameter(description="Only those that ended so.")
    ] = None,
    worker_id: OfWorker = None,
    since: Since = None,
    until: Until = None,
    after: After = None,
    limit: Limit = 100,
) -> Page[Run]:
    """What became of executions: every due time has exactly one outcome."""
    return await controller.history.runs(
        device=device,
        job=job,
        outcome=outcome,
        worker_id=worker_id,
        since=since,
        until=until,
        after=after,
        limit=limit,
    )


@get("/runs/{run_id:str}", tags=["runs"], summary="One run")
async def get_run(run_id: RunId, controller: NamedDependency[Controller]) -> Run:
    """One row of the history."""
    return await controller.history.run(run_id)


@get(
    "/runs/{run_id:str}/transcript",
    tags=["runs"],
    summary="What a failed run left behind",
    responses={
        200: ResponseSpec(
            str, media_type="text/plain", description="The output.", generate_examples=False
        )
    },
)
async def get_run_transcript(run_id: RunId, controller: NamedDependency[Controller]) -> File:
    """The end of what the device said, secrets masked; of a run that shrank, its whole result."""
    path = await controller.history.transcript(run_id)
    return File(
        path,
        filename=f"{run_id}.txt",
        media_type="text/plain",
        content_disposition_type="inline",
        # Whatever a device wrote is text, also to a browser that would rather see a page.
        headers={
            "X-Content-Type-Options": "nosniff",
            "Content-Security-Policy": "default-src 'none'; sandbox",
        },
    )


@get(
    "/runs/{run_id:str}/recording",
    tags=["runs"],
    summary="A failed run's session as a recorded dialogue",
    responses={
        200: ResponseSpec(
            bytes,
            media_type="application/gzip",
            description="The file, compressed.",
            generate_examples=False,
        )
    },
)
async def get_run_recording(run_id: RunId, controller: NamedDependency[Controller]) -> File:
    """What was sent and what came, escape sequences and all, its secrets hidden."""
    return File(
        await controller.history.recording(run_id),
        filename=f"{run_id}.yaml.gz",
        media_type="application/gzip",
        headers={"X-Content-Type-Options": "nosniff"},
    )


@get(
    "/processes",
    middleware=[Audited(AuditAction.READ_PROCESS, refusals_only=True)],
    tags=["processes"],
    summary="Processes, newest first",
)
async def list_processes(
    *,
    controller: NamedDependency[Controller],
    worker_id: OfWorker = None,
    process_state: Annotated[
        ProcessState | None,
        QueryParameter(name="state", description="Only those that stand so now."),
    ] = None,
    batch_id: Annotated[
        str | None, QueryParameter(description="Only those of the batch of this id.")
    ] = None,
    after: After = None,
    limit: Limit = 100,
) -> Page[Process]:
    """Commands that were started on workers."""
    return await controller.history.processes(
        worker_id=worker_id, state=process_state, batch_id=batch_id, after=after, limit=limit
    )


@get(
    "/processes/{process_id:str}",
    middleware=[Audited(AuditAction.READ_PROCESS, refusals_only=True)],
    tags=["processes"],
    summary="One process",
)
async def get_process(process_id: ProcessId, controller: NamedDependency[Controller]) -> Process:
    """Where it stands, how it ended, and what its latest stop has proven.

    While its worker is away, this is the last that was known, and `age_seconds` says how old it is.
    """
    return await controller.fleet.find(process_id)


ROUTES: Final = Router(
    "/",
    guards=[READERS],
    route_handlers=[
        list_slots,
        get_slot,
        list_runs,
        get_run,
        get_run_transcript,
        get_run_recording,
        list_processes,
        get_process,
    ],
)
