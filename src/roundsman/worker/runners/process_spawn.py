"""Starting a program with all that has to be so before its first instruction.

Two ways. The plain one is the standard library's, by `vfork`: the quickest there is. What must hold
from the start beyond that (a cgroup, limits, another user) is set between `clone3` and `exec`, in a
copy of this small process, which has one thread. `clone3` puts the copy into its cgroup at
once: moved there later, it might have forked before, and moving takes the kernel milliseconds.

This process has no new privileges and no ignored signals; so what it starts has neither.
"""

import ctypes
import errno
import functools
import os
import resource
import signal
import struct
import subprocess
from collections.abc import Mapping
from typing import Final, NoReturn

import msgspec

_CLONE3: Final = 435  # the same number on every architecture
_INTO_CGROUP: Final = 0x200000000
_ERROR: Final = struct.Struct("<i")


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
    descriptors: tuple[int, ...] = ()
    """Passed on under their numbers, beside the standard streams."""
    cgroup: int | None = None
    """An open folder of it."""
    rlimits: tuple[tuple[int, int, int], ...] = ()
    """Resource, soft and hard limit."""
    user: User | None = None


def spawn(program: Program) -> int:
    """Start it at the head of a session of its own; answers its process id.

    Raises `OSError` when it cannot be executed.
    """
    if program.cgroup is None and not program.rlimits and program.user is None:
        return _spawn_plainly(program)
    return _spawn_prepared(program)


def _spawn_plainly(program: Program) -> int:
    popen = subprocess.Popen(
        program.argv,
        executable=program.executable,
        cwd=program.folder,
        env=program.environment,
        stdin=program.stdin,
        stdout=program.stdout,
        stderr=program.stderr,
        start_new_session=True,
        pass_fds=program.descriptors,
    )
    popen.returncode = 0  # waited for elsewhere: nothing is left for the object to do
    return popen.pid


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


def _clone(cgroup: int | None) -> int:
    """As `fork`, into a cgroup where one is given."""
    if cgroup is None:
        return os.fork()
    asked = _CloneArguments(flags=_INTO_CGROUP, exit_signal=signal.SIGCHLD, cgroup=cgroup)
    # As a Python function: nothing else of Python runs in between, in either process.
    pid = _python_libc().syscall(_CLONE3, ctypes.byref(asked), ctypes.c_size_t(88))
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
        for number in (signal.SIGPIPE, signal.SIGXFSZ):  # ignored by Python itself
            signal.signal(number, signal.SIG_DFL)
        for descriptor, standard in (
            (program.stdin, 0),
            (program.stdout, 1),
            (program.stderr, 2),
        ):
            os.dup2(descriptor, standard)
        for descriptor in program.descriptors:
            os.set_inheritable(descriptor, True)
        for which, soft, hard in program.rlimits:
            resource.setrlimit(which, (soft, hard))
        if program.user is not None:
            os.setgroups(program.user.groups)
            os.setgid(program.user.gid)
            os.setuid(program.user.uid)
        os.chdir(program.folder)
        signal.pthread_sigmask(signal.SIG_SETMASK, ())
        os.execve(program.executable, program.argv, program.environment)  # noqa: S606 - no shell
    except OSError as error:
        os.write(tell, _ERROR.pack(error.errno or errno.EINVAL))
    except BaseException:  # noqa: BLE001 - whatever it is, this copy of the process must not go on
        os.write(tell, _ERROR.pack(errno.EINVAL))
    finally:
        os._exit(127)
