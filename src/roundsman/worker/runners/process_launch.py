"""From what the policy allowed to a running process: pipes, cgroup, limits, environment."""

import functools
import os
import pwd
import resource
from pathlib import Path
from typing import Final

from roundsman.wire.process import ProcessLimits
from roundsman.worker.runners.process_cgroup import Cgroup
from roundsman.worker.runners.process_machine import Machine
from roundsman.worker.runners.process_policy import SEARCH_PATH, AllowedCommand, ProcessRefusedError
from roundsman.worker.runners.process_spawn import Program, User, spawn
from roundsman.worker.runners.process_tree import ID_VARIABLE, ProcessTree, tasks_of

ROOM_FOR_TASKS: Final = 10
"""So many times its `tasks` a user may have beyond those that were there, where no cgroup counts
them: the kernel then counts all of a user's, also of other commands, and root's not at all."""
CPU_GRACE_SECONDS: Final = 1  # from SIGXCPU, which says why it ended, to SIGKILL


def launch(
    process_id: str,
    command: AllowedCommand,
    standard_input: bytes,
    machine: Machine,
    temporary: Path,
) -> tuple[ProcessTree, tuple[int, int]]:
    """Start a command; answers its tree, and where its output comes out.

    `temporary` is its own folder. Raises `ProcessRefusedError` when it cannot be executed.
    """
    cgroup = _cgroup(process_id, command.limits, machine)
    (stdout, stdout_of_child), (stderr, stderr_of_child) = os.pipe(), os.pipe()
    handed_over = [stdout_of_child, stderr_of_child]
    stdin = _nothing()
    try:
        if standard_input:
            stdin = _file_of(standard_input)
            handed_over.append(stdin)
        if command.user is not None:
            for descriptor in handed_over:
                # It may open them again, by /dev/stdout or the like.
                os.fchown(descriptor, command.user.uid, command.user.gid)
            os.chown(temporary, command.user.uid, command.user.gid)
        pid = spawn(
            Program(
                executable=command.executable,
                argv=command.argv,
                environment={
                    **command.environment,
                    **_user(command.user),
                    "PATH": SEARCH_PATH,
                    "LANG": "C.UTF-8",
                    "TMPDIR": str(temporary),
                    ID_VARIABLE: process_id,
                },
                folder=command.folder,
                stdin=stdin,
                stdout=stdout_of_child,
                stderr=stderr_of_child,
                cgroup=None if cgroup is None else str(cgroup.folder),
                home=None if cgroup is None or cgroup.limited else machine.home,
                rlimits=_rlimits(
                    command.limits,
                    machine,
                    uid=os.getuid() if command.user is None else command.user.uid,
                ),
                user=command.user,
            )
        )
    except OSError as error:
        os.close(stdout)
        os.close(stderr)
        if cgroup is not None:
            cgroup.remove()
        text = f"could not start {command.argv[0]}: {error.strerror}"
        raise ProcessRefusedError(text) from error
    finally:
        for descriptor in handed_over:
            os.close(descriptor)
    os.set_blocking(stdout, False)
    os.set_blocking(stderr, False)
    return ProcessTree(process_id, pid, cgroup), (stdout, stderr)


def _cgroup(process_id: str, limits: ProcessLimits, machine: Machine) -> Cgroup | None:
    if machine.cgroup is None:
        return None
    cgroup = Cgroup(machine.cgroup / process_id)
    try:
        cgroup.create(limits, machine.controllers)
    except OSError as error:
        cgroup.remove()
        text = f"could not give it a cgroup of its own: {error.strerror}"
        raise ProcessRefusedError(text) from error
    return cgroup


def _rlimits(
    limits: ProcessLimits, machine: Machine, *, uid: int
) -> tuple[tuple[int, int, int], ...]:
    rlimits = []
    if limits.memory_bytes is not None and "memory" not in machine.controllers:
        rlimits.append((resource.RLIMIT_AS, limits.memory_bytes, limits.memory_bytes))
    if limits.cpu_seconds is not None:
        hard = limits.cpu_seconds + CPU_GRACE_SECONDS
        rlimits.append((resource.RLIMIT_CPU, limits.cpu_seconds, hard))
    if limits.tasks is not None and "pids" not in machine.controllers and uid != 0:
        room = tasks_of(uid) + limits.tasks * ROOM_FOR_TASKS
        _, hard = resource.getrlimit(resource.RLIMIT_NPROC)
        if hard != resource.RLIM_INFINITY:
            room = min(room, hard)
        rlimits.append((resource.RLIMIT_NPROC, room, room))
    return tuple(rlimits)


@functools.cache
def _nothing() -> int:
    """A descriptor from which nothing is read; the same for all, and no process' own."""
    return os.open(os.devnull, os.O_RDONLY)


def _file_of(data: bytes) -> int:
    """A descriptor from which exactly this is read."""
    descriptor = os.memfd_create("standard input")
    with open(descriptor, "wb", buffering=0, closefd=False) as file:
        file.write(data)
    os.lseek(descriptor, 0, os.SEEK_SET)
    return descriptor


def _user(user: User | None) -> dict[str, str]:
    if user is None:
        return _own_user()
    return {"HOME": user.home, "USER": user.name, "LOGNAME": user.name}


@functools.cache
def _own_user() -> dict[str, str]:
    try:
        user = pwd.getpwuid(os.getuid())
    except KeyError:  # a container's user without a name
        return {"HOME": "/"}
    return {"HOME": user.pw_dir, "USER": user.pw_name, "LOGNAME": user.pw_name}
