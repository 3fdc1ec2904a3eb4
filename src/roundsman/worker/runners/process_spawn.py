"""Starting a program with all that has to be so before its first instruction.

Two ways. The plain one is `posix_spawn`, by `vfork`: the quickest there is, since nothing of this
process is copied. What it starts is in the cgroup that this process is in; so this process, which
has one thread, steps into the new cgroup, starts, and steps out again. Nobody is ever moved who
could have forked before.

Limits of the process itself, limits of its cgroup (which would hold for this process too while it
is in it) and another user are set between `clone3` and `exec`, in a copy of this process; `clone3`
puts the copy into its cgroup at once.

This process has no new privileges and no ignored signals; so what it starts has neither.
"""

import ctypes
import errno
import functools
import os
import resource
import signal
import struct
from collections.abc import Mapping
from typing import Final, NoReturn

import msgspec

_CLONE3: Final = 435  # the same number on every architecture
_INTO_CGROUP: Final = 0x200000000
_ERROR: Final = struct.Struct("<i")
_MYSELF: Final = b"0"  # as cgroup.procs understands it
_IGNORED_BY_PYTHON: Final = (signal.SIGPIPE, signal.SIGXFSZ)


class User(msgspec.Struct, frozen=True, kw_only=True):
    """Whom a program runs as."""

    name: str
    home: str
    uid: int
    gid: int
    groups: tuple[int, ...]


class Program(msgspec.Struct, frozen=True, kw_only=True):
    """What is started, and how."""

    executable: str
    argv: tuple[str, ...]
    environment: Mapping[str, str]
    folder: str
    stdin: int
    stdout: int
    stderr: int
    cgroup: str | None = None
    """Its folder."""
    home: int | None = None
    """The open `cgroup.procs` to step out to from there; none: this process must not step in."""
    rlimits: tuple[tuple[int, int, int], ...] = ()
    """Resource, soft and hard limit."""
    user: User | None = None


def spawn(program: Program) -> int:
    """Start it at the head of a session of its own; answers its process id.

    Raises `OSError` when it cannot be executed.
    """
    if program.rlimits or program.user is not None:
        return _spawn_prepared(program)
    if program.cgroup is None:
        return _spawn_plainly(program)
    if program.home is None:
        return _spawn_prepared(program)
    return _spawn_inside(program, program.cgroup, program.home)


def _spawn_inside(program: Program, cgroup: str, home: int) -> int:
    entry = os.open(f"{cgroup}/cgroup.procs", os.O_WRONLY)
    try:
        os.write(entry, _MYSELF)
    finally:
        os.close(entry)
    pid = None
    try:
        pid = _spawn_plainly(program)
    finally:
        try:
            os.write(home, _MYSELF)
        except OSError:  # one that shares its cgroup with this process could not be stopped alone
            if pid is not None:
                os.kill(pid, signal.SIGKILL)
                os.waitpid(pid, 0)
            raise
    return pid


def _spawn_plainly(program: Program) -> int:
    before = os.open(".", os.O_PATH | os.O_DIRECTORY)
    try:
        os.chdir(program.folder)
        return os.posix_spawn(
            program.executable,
            program.argv,
            program.environment,
            file_actions=[
                (os.POSIX_SPAWN_DUP2, program.stdin, 0),
                (os.POSIX_SPAWN_DUP2, program.stdout, 1),
                (os.POSIX_SPAWN_DUP2, program.stderr, 2),
            ],
            setsid=True,
            setsigmask=(),
            setsigdef=_IGNORED_BY_PYTHON,
        )
    finally:
        os.fchdir(before)
        os.close(before)


class _CloneArguments(ctypes.Structure):
    _fields_ = [
        (name, ctypes.c_uint64)
        for name in (
            *("flags", "pidfd", "child_tid", "parent_tid", "exit_signal", "stack"),
            *("stack_size", "tls", "set_tid", "set_tid_size", "cgroup"),
        )
    ]


def _spawn_prepared(program: Program) -> int:
    failed, tell = os.pipe()  # closed by a successful exec: then there is nothing to read
    blocked = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    try:
        pid = _clone(program.cgroup)
        if pid == 0:
            _become(program, tell)
    except OSError:
        os.close(failed)
        raise
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
        os.close(tell)
    try:
        number = os.read(failed, _ERROR.size)
    finally:
        os.close(failed)
    if number:
        os.waitpid(pid, 0)
        (code,) = _ERROR.unpack(number)
        raise OSError(code, os.strerror(code))
    return pid


def _clone(cgroup: str | None) -> int:
    """As `fork`, into a cgroup where one is given."""
    if cgroup is None:
        return os.fork()
    folder = os.open(cgroup, os.O_RDONLY | os.O_DIRECTORY)
    try:
        asked = _CloneArguments(flags=_INTO_CGROUP, exit_signal=signal.SIGCHLD, cgroup=folder)
        # As a Python function: nothing else of Python runs in between, in either process.
        pid = _python_libc().syscall(_CLONE3, ctypes.byref(asked), ctypes.c_size_t(88))
    finally:
        os.close(folder)
    if pid < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return int(pid)


@functools.cache
def _python_libc() -> ctypes.PyDLL:
    return ctypes.PyDLL(None, use_errno=True)


def _become(program: Program, tell: int) -> NoReturn:
    """In the new process: set all up and execute, or tell why not and end."""
    try:
        os.setsid()
        for number in _IGNORED_BY_PYTHON:
            signal.signal(number, signal.SIG_DFL)
        for descriptor, standard in (
            (program.stdin, 0),
            (program.stdout, 1),
            (program.stderr, 2),
        ):
            os.dup2(descriptor, standard)
        for which, soft, hard in program.rlimits:
            resource.setrlimit(which, (soft, hard))
        os.chdir(program.folder)  # wherever it is: others may not pass through all that is above
        if program.user is not None:
            os.setgroups(program.user.groups)
            os.setgid(program.user.gid)
            os.setuid(program.user.uid)
        signal.pthread_sigmask(signal.SIG_SETMASK, ())
        os.execve(program.executable, program.argv, program.environment)  # noqa: S606 - no shell
    except OSError as error:
        os.write(tell, _ERROR.pack(error.errno or errno.EINVAL))
    except BaseException:  # noqa: BLE001 - whatever it is, this copy of the process must not go on
        os.write(tell, _ERROR.pack(errno.EINVAL))
    finally:
        os._exit(127)
