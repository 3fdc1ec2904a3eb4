"""Groups that an earlier life of this worker left running: found again, proven ours, killed.

Nobody is signalled on the strength of a number alone. A process is ours when it is the recorded
leader (same process id, same start time, same life of the machine), or when it bears the id of
our process in its environment and belongs to that leader's group. Each is then signalled through
a descriptor that names this very process, whatever becomes of its number.
"""

import asyncio
import contextlib
import functools
import os
import signal
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from roundsman.worker.runners.process_group import ID_VARIABLE, Member, member_of, members
from roundsman.worker.runners.process_records import ProcessRecord

_ROUNDS: Final = 20  # looks at /proc: enough for what forks while it is being killed
_PAUSE_SECONDS: Final = 0.05


@functools.cache
def boot_id() -> str:
    """In which life of the machine this is."""
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


def has_leftovers(record: ProcessRecord, everybody: Sequence[Member]) -> bool:
    """Whether somebody of a recorded group is among the processes of this machine."""
    return record.boot_id == boot_id() and any(_is_ours(member, record) for member in everybody)


async def kill_leftovers(record: ProcessRecord) -> tuple[int, ...]:
    """Kill what is left of a recorded group; answers who is still there, by process id."""
    if record.boot_id != boot_id():
        return ()
    left: tuple[int, ...] = ()
    for _ in range(_ROUNDS):
        ours = [member for member in members() if _is_ours(member, record)]
        left = tuple(member.pid for member in ours)
        if not left:
            break
        for member in ours:
            _kill(member)
        await asyncio.sleep(_PAUSE_SECONDS)
    return left


def _is_ours(member: Member, record: ProcessRecord) -> bool:
    if record.pid is not None and member.group != record.pid:
        return False
    if member.pid == record.pid and member.start_ticks == record.start_ticks:
        return True
    bearing = f"{ID_VARIABLE}={record.change.process_id}".encode()
    try:
        return bearing in Path(f"/proc/{member.pid}/environ").read_bytes().split(b"\0")
    except OSError:  # gone since, or another user's
        return False


def _kill(member: Member) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        descriptor = os.pidfd_open(member.pid)
        try:
            if member_of(member.pid) == member:
                signal.pidfd_send_signal(descriptor, signal.SIGKILL)
        finally:
            os.close(descriptor)
