"""`/api/v1/audit/slots`: planned due times beside what became of them."""

from typing import Annotated, Final

from litestar import Router, get
from litestar.di import NamedDependency
from litestar.params import QueryParameter

from roundsman.controller.accounts import Wanted
from roundsman.controller.api.guards import READERS
from roundsman.controller.api.parameters import LAST_INSTANT, After, Limit
from roundsman.controller.service import Controller
from roundsman.wire.accounts import DaySum, SlotAudit, SlotTotals
from roundsman.wire.page import Page

From = Annotated[
    int | None,
    QueryParameter(
        name="from",
        ge=0,
        le=LAST_INSTANT,
        description="Due times from this instant on, Unix seconds; absent: a day before `to`.",
    ),
]
To = Annotated[
    int | None,
    QueryParameter(
        name="to",
        ge=0,
        le=LAST_INSTANT,
        description="Due times before this instant, Unix seconds; absent: up to now.",
    ),
]
OfDevice = Annotated[str | None, QueryParameter(description="Only those of this device.")]
OfJob = Annotated[str | None, QueryParameter(description="Only those of this job.")]
OfTag = Annotated[
    str | None, QueryParameter(description="Only those whose device had this tag in that time.")
]


@get("/slots/totals", summary="Planned due times and their outcomes, of all slots together")
async def get_audited_totals(
    *,
    controller: NamedDependency[Controller],
    since: From = None,
    until: To = None,
    device: OfDevice = None,
    job: OfJob = None,
    tag: OfTag = None,
) -> SlotTotals:
    """Every due time is planned by a schedule, and has one outcome or is open."""
    wanted = Wanted(since=since, until=until, device=device, job=job, tag=tag)
    return await controller.accounts.totals(wanted)


@get("/slots", summary="Planned due times and their outcomes, by device and job")
async def list_audited_slots(
    *,
    controller: NamedDependency[Controller],
    since: From = None,
    until: To = None,
    device: OfDevice = None,
    job: OfJob = None,
    tag: OfTag = None,
    differing: Annotated[
        bool, QueryParameter(description="Only those where the two differ.")
    ] = False,
    after: After = None,
    limit: Limit = 100,
) -> Page[SlotAudit]:
    """Also of slots that are gone since. The schedules are those of the time in question."""
    wanted = Wanted(since=since, until=until, device=device, job=job, tag=tag)
    return await controller.accounts.slots(wanted, differing=differing, after=after, limit=limit)


@get("/days", summary="Sums of runs that are kept no longer, by day and job")
async def list_audited_days(
    *,
    controller: NamedDependency[Controller],
    since: From = None,
    until: To = None,
    job: OfJob = None,
    after: After = None,
    limit: Limit = 100,
) -> Page[DaySum]:
    """What is left of them: `controller.history` says how long runs are kept."""
    return await controller.accounts.days(since, until, job, after=after, limit=limit)


ROUTES: Final = Router(
    "/audit",
    guards=[READERS],
    tags=["slots"],
    route_handlers=[get_audited_totals, list_audited_slots, list_audited_days],
)
