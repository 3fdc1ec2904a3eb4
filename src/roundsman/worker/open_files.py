"""The limit of open files, which sessions run into first."""

import resource
from typing import Final

from roundsman import logs

log = logs.get(__name__)

PER_SESSION: Final = 4
"""Its connection, its result, and two intermediate files if these are large."""
BESIDE: Final = 200
"""For the controller, uploads, processes, logs."""


def make_room(sessions: int) -> int:
    """Raise this process' limit as far as so many open sessions need it and the system lets it.

    Answers for how many there is room, and warns when these are fewer.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = sessions * PER_SESSION + BESIDE
    if soft == resource.RLIM_INFINITY or soft >= needed:
        return sessions
    allowed = needed if hard == resource.RLIM_INFINITY else min(needed, hard)
    if allowed > soft:
        resource.setrlimit(resource.RLIMIT_NOFILE, (allowed, hard))
    if allowed >= needed:
        return sessions
    room = max(1, (max(allowed, soft) - BESIDE) // PER_SESSION)
    log.warning(
        "worker.few_open_files",
        limit=max(allowed, soft),
        needed=needed,
        sessions=room,
        remedy="raise the hard limit of open files (systemd: LimitNOFILE=), or set fewer sessions",
    )
    return room
