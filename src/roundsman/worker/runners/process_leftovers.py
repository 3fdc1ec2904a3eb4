"""Trees that a keeper left that was itself killed: found again, proven ours, killed.

Who is in a process' cgroup is of its tree. Otherwise nobody is signalled on the strength of a
number alone: one is ours when it is the recorded leader (same process id, same start time, same
life of the machine), or bears our process' id in its environment. Each is then signalled through a
descriptor that names this very process, whatever becomes of its number.
"""

import asyncio
import functools
import os
import signal
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from roundsman.worker.runners import kernel_files
from roundsman.worker.runners.process_cgroup import CGROUP_PREFIX, Cgroup
from roundsman.worker.runners.process_records import ProcessRecord
from roundsman.worker.runners.process_tree import (
    ID_VARIABLE,
    Member,
    is_exiting,
    member_of,
    members,
    send_signal,
)

_ROUNDS: Final = 100  # looks at /proc, some 5 s: who is killed vanishes later on a busy machine
_PAUSE_SECONDS: Final = 0.05


@functools.cache
def boot_id() -> str:
    """In which life of the machine this is."""
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


def is_kept(record: ProcessRecord) -> bool:
    """Whether another keeper that is still there has this process."""
    pid, start_ticks = record.keeper
    if record.boot_id != boot_id() or pid == os.getpid():
        return False
    keeper = member_of(pid)
    return keeper is not None and keeper.start_ticks == start_ticks and not is_exiting(pid)


def has_leftovers(record: ProcessRecord, everybody: Sequence[Member]) -> bool:
    """Whether somebody of a recorded tree is among the processes of this machine."""
    return record.boot_id == boot_id() and bool(_ours(record, everybody))


async def kill_leftovers(record: ProcessRecord) -> tuple[int, ...]:
    """Kill what is left of a recorded tree; answers who is still there, by process id."""
    if record.boot_id != boot_id():
        return ()
    left: tuple[int, ...] = ()
    for _ in range(_ROUNDS):
        ours = _ours(record, members())
        left = tuple(member.pid for member in ours)
        if not left:
            break
        if record.cgroup:
            Cgroup(Path(record.cgroup)).kill()
        for member in ours:
            send_signal(member, signal.SIGKILL)
        await asyncio.sleep(_PAUSE_SECONDS)
    return left


def sweep_cgroups(own: Path | None) -> None:
    """Remove the empty cgroups of keepers that were killed, beside this one's."""
    for folder in () if own is None else own.parent.glob(f"{CGROUP_PREFIX}*"):
        pid = folder.name.removeprefix(CGROUP_PREFIX)
        if folder != own and pid.isdigit() and member_of(int(pid)) is None:
            Cgroup(folder).remove()


def _ours(record: ProcessRecord, everybody: Sequence[Member]) -> list[Member]:
    inside = set(Cgroup(Path(record.cgroup)).members()) if record.cgroup else set()
    return [member for member in everybody if member.pid in inside or _is_ours(member, record)]


def _is_ours(member: Member, record: ProcessRecord) -> bool:
    if member.pid == record.pid and member.start_ticks == record.start_ticks:
        return True
    bearing = f"{ID_VARIABLE}={record.change.process_id}".encode()
    try:
        return bearing in kernel_files.read(f"/proc/{member.pid}/environ").split(b"\0")
    except OSError:  # gone since, or another user's
        return False
