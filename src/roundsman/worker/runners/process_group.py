"""A process group and its leader: started, watched, killed, and proven gone.

A group's number is its leader's process id, which the kernel gives to another process once the
leader is reaped and the group is empty. So the leader stays unreaped until the group is seen to
be empty: as long as that zombie holds the number, a signal can reach nobody else.
"""

import asyncio
import contextlib
import functools
import os
import pwd
import signal
import subprocess
from collections.abc import Iterable
from pathlib import Path
from typing import Final

import msgspec

from roundsman.worker.runners.process_policy import SEARCH_PATH, AllowedCommand, ProcessRefusedError

ID_VARIABLE: Final = "ROUNDSMAN_PROCESS_ID"  # by this a restarted worker knows its own again

_GATHERING_SECONDS: Final = 0.25  # how long ends are gathered before one look at /proc for all
_FIRST_PAUSE_SECONDS: Final = 0.002  # between two looks while killed ones vanish; it doubles
_LAST_PAUSE_SECONDS: Final = 5.0  # up to this, where somebody stays

# Go's words for signals, which the published contract's clients read; others are `signal N`.
_SIGNAL_WORDS: Final[dict[int, str]] = {
    signal.SIGHUP: "hangup",
    signal.SIGINT: "interrupt",
    signal.SIGQUIT: "quit",
    signal.SIGILL: "illegal instruction",
    signal.SIGTRAP: "trace/breakpoint trap",
    signal.SIGABRT: "aborted",
    signal.SIGBUS: "bus error",
    signal.SIGFPE: "floating point exception",
    signal.SIGKILL: "killed",
    signal.SIGUSR1: "user defined signal 1",
    signal.SIGSEGV: "segmentation fault",
    signal.SIGUSR2: "user defined signal 2",
    signal.SIGPIPE: "broken pipe",
    signal.SIGALRM: "alarm clock",
    signal.SIGTERM: "terminated",
}


def signal_word(number: int) -> str:
    """What a signal is called in error texts.

    >>> signal_word(9), signal_word(34)
    ('killed', 'signal 34')
    """
    return _SIGNAL_WORDS.get(number, f"signal {number}")


class Member(msgspec.Struct, frozen=True):
    """A process as /proc shows it."""

    pid: int
    group: int
    start_ticks: int
    """When it started, in clock ticks since boot: with the pid it names the process for good."""


def members() -> list[Member]:
    """Every process that is not dead already; zombies are."""
    pids = [int(entry.name) for entry in os.scandir("/proc") if entry.name.isdigit()]
    return [member for pid in pids if (member := member_of(pid)) is not None]


def member_of(pid: int) -> Member | None:
    """That process; none when it is gone or a zombie."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_bytes()
    except OSError:
        return None
    # After the name, which may hold spaces and parentheses: state, parent, group, …; proc(5).
    fields = stat[stat.rindex(b")") + 2 :].split()
    if fields[0] in b"ZX":
        return None
    return Member(pid, int(fields[2]), int(fields[19]))


class Exit(msgspec.Struct, frozen=True, kw_only=True):
    """How a leader ended: one of both."""

    status: int | None = None
    signal: str | None = None


class ProcessGroup:
    """One group, from the start of its leader until nobody is left in it."""

    def __init__(self, leader: "subprocess.Popen[bytes]") -> None:
        """Watch over the group of `leader`, which was started as the head of its own session."""
        self._leader = leader
        self.pid = leader.pid
        self.killed = False
        self.empty_looks = 0
        self.gone = asyncio.Event()

    def exit(self) -> Exit | None:
        """How the leader ended, without reaping it; none while it runs."""
        info = os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        if info is None:
            return None
        if info.si_code == os.CLD_EXITED:
            return Exit(status=info.si_status)
        return Exit(signal=signal_word(info.si_status))

    def kill(self) -> None:
        """SIGKILL to everybody in it, at once; the kernel lets nobody be forked past it."""
        if self.gone.is_set():
            return
        self.killed = True
        # Everybody left may have become another user: then the look at /proc says who they are.
        with contextlib.suppress(PermissionError):
            os.killpg(self.pid, signal.SIGKILL)

    def left(self, everybody: Iterable[Member]) -> tuple[int, ...]:
        """Who of it is still there, by process id."""
        return tuple(member.pid for member in everybody if member.group == self.pid)

    def release(self) -> None:
        """Reap the leader, and whoever of the group was handed to this process: it is empty."""
        with contextlib.suppress(ChildProcessError):
            while os.waitpid(-self.pid, os.WNOHANG)[0]:
                pass
        self._leader.returncode = 0  # reaped here: nothing is left for the object to do
        self.gone.set()

    def abandon(self) -> None:
        """Let go of it as it is: this process ends."""
        self._leader.returncode = 0  # or the object would warn that nobody waited


class GroupReaper:
    """Looks at /proc, once for all groups handed to it, until each is empty; then releases it."""

    def __init__(self) -> None:
        """Nothing to do yet."""
        self._groups: set[ProcessGroup] = set()
        self._timer: asyncio.TimerHandle | None = None
        self._pause = _FIRST_PAUSE_SECONDS
        self._rested_at = 0.0

    def add(self, group: ProcessGroup) -> None:
        """Take a group whose leader has ended."""
        self._groups.add(group)
        if group.killed:
            self.hurry()
        else:
            self._pause = _GATHERING_SECONDS
            self._look_in(_GATHERING_SECONDS)

    def hurry(self) -> None:
        """Somebody waits for a killed group: look now, and again soon."""
        self._pause = _FIRST_PAUSE_SECONDS
        self._look_in(0)

    def close(self) -> None:
        """Stop looking; groups with somebody left in them are given up."""
        if self._timer is not None:
            self._timer.cancel()
        for group in self._groups:
            group.abandon()
        self._groups.clear()

    def _look_in(self, seconds: float) -> None:
        loop = asyncio.get_running_loop()
        when = max(loop.time() + seconds, self._rested_at)
        if self._timer is not None:
            if self._timer.when() <= when:
                return
            self._timer.cancel()
        self._timer = loop.call_at(when, self._look)

    def _look(self) -> None:
        loop = asyncio.get_running_loop()
        self._timer = None
        began = loop.time()
        taken = {member.group for member in members()}
        for group in list(self._groups):
            group.empty_looks = 0 if group.pid in taken else group.empty_looks + 1
            # One look may miss somebody who forked while it was taken; the killed fork no more.
            if group.empty_looks > (0 if group.killed else 1):
                self._groups.discard(group)
                group.release()
        # Looking takes at most half of the time, however many processes the machine has.
        self._rested_at = 2 * loop.time() - began
        if self._groups:
            self._look_in(self._pause)
            self._pause = min(self._pause * 2, _LAST_PAUSE_SECONDS)


def start_ticks(pid: int) -> int | None:
    """When a process started, in clock ticks since boot; none when it is gone or a zombie."""
    member = member_of(pid)
    return None if member is None else member.start_ticks


def start(
    process_id: str, command: AllowedCommand, standard_input: bytes
) -> tuple[ProcessGroup, tuple[int, int]]:
    """Start a command in a group of its own; answers the group, and where its output comes out.

    Raises `ProcessRefusedError` when it cannot be executed.
    """
    stdin = _file_of(standard_input)
    stdout, stdout_of_child = os.pipe()
    stderr, stderr_of_child = os.pipe()
    try:
        leader = subprocess.Popen(
            command.argv,
            executable=command.executable,
            cwd=command.folder,
            env=command.environment | _environment(process_id),
            stdin=stdin,
            stdout=stdout_of_child,
            stderr=stderr_of_child,
            start_new_session=True,
            pass_fds=command.descriptors,
        )
    except OSError as error:
        os.close(stdout)
        os.close(stderr)
        raise ProcessRefusedError(f"could not start {command.argv[0]}: {error.strerror}") from error
    finally:
        os.close(stdin)
        os.close(stdout_of_child)
        os.close(stderr_of_child)
    os.set_blocking(stdout, False)
    os.set_blocking(stderr, False)
    return ProcessGroup(leader), (stdout, stderr)


def _file_of(data: bytes) -> int:
    """A descriptor from which exactly this is read."""
    if not data:
        return os.open(os.devnull, os.O_RDONLY)
    descriptor = os.memfd_create("standard input")
    with open(descriptor, "wb", buffering=0, closefd=False) as file:
        file.write(data)
    os.lseek(descriptor, 0, os.SEEK_SET)
    return descriptor


def _environment(process_id: str) -> dict[str, str]:
    return {**_user(), "PATH": SEARCH_PATH, "LANG": "C.UTF-8", ID_VARIABLE: process_id}


@functools.cache
def _user() -> dict[str, str]:
    try:
        user = pwd.getpwuid(os.getuid())
    except KeyError:  # a container's user without a name
        return {"HOME": "/"}
    return {"HOME": user.pw_dir, "USER": user.pw_name, "LOGNAME": user.pw_name}
