"""A process' tree: its leader and all that it started, watched, signalled, and proven gone.

A group's number is its leader's process id, which the kernel gives to another process once the
leader is reaped and the group is empty. So the leader stays unreaped until nobody is left: as
long as that zombie holds the number, a signal can reach nobody else. Whoever has left the group
is found by the cgroup, which nobody leaves. Without one: by session, by parents, by having been
seen in the tree before, and by the id in the environment of orphans, who come to this process.
"""

import asyncio
import contextlib
import os
import signal
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Final

import msgspec

from roundsman.wire.process import StopProof
from roundsman.worker.runners import kernel_files
from roundsman.worker.runners.process_cgroup import Cgroup

ID_VARIABLE: Final = "ROUNDSMAN_PROCESS_ID"  # by this a restarted worker knows its own again

_QUICK_LOOKS: Final = 20
_GATHERING_SECONDS: Final = 0.25  # how long ends are gathered before one look at /proc for all
_FIRST_PAUSE_SECONDS: Final = 0.002  # between two looks while killed ones vanish; it doubles
_LAST_PAUSE_SECONDS: Final = 5.0  # up to this, where somebody stays

# Go's words for signals, which the published contract's clients read; others are `signal N`.
_PF_EXITING: Final = 0x4  # of the flags in /proc/PID/stat

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
    parent: int
    group: int
    session: int
    threads: int
    start_ticks: int
    """When it started, in clock ticks since boot: with the pid it names the process for good."""


def members() -> list[Member]:
    """Every process that is not dead already; zombies are."""
    pids = [int(entry.name) for entry in os.scandir("/proc") if entry.name.isdigit()]
    return [member for pid in pids if (member := member_of(pid)) is not None]


def member_of(pid: int) -> Member | None:
    """That process; none when it is gone or a zombie."""
    member, dead = _look_at(pid)
    return None if dead else member


def _look_at(pid: int) -> tuple[Member | None, bool]:
    """That process, and whether it is dead; none when it is gone."""
    try:
        stat = kernel_files.read(f"/proc/{pid}/stat")
    except OSError:
        return None, True
    # After the name, which may hold spaces and parentheses: state, parent, group, …; proc(5).
    fields = stat[stat.rindex(b")") + 2 :].split()
    parent, group, session = map(int, fields[1:4])
    threads, start_ticks = int(fields[17]), int(fields[19])
    # One whose first thread has ended looks like a zombie while others go on.
    dead = fields[0] in b"ZX" and threads <= 1
    return Member(pid, parent, group, session, threads, start_ticks), dead


def tasks_of(uid: int) -> int:
    """How many processes and threads a user has."""
    tasks = 0
    for member in members():
        with contextlib.suppress(FileNotFoundError):
            if Path(f"/proc/{member.pid}").stat().st_uid == uid:
                tasks += member.threads
    return tasks


def is_exiting(pid: int) -> bool:
    """Whether it is past its last instruction, though its connections may be closed later."""
    try:
        stat = kernel_files.read(f"/proc/{pid}/stat")
    except OSError:
        return True
    return bool(int(stat[stat.rindex(b")") + 2 :].split()[6]) & _PF_EXITING)


def reap_orphans(leaders: Iterable[int]) -> None:
    """Take the dead ones of whom nobody else is the parent any more; leaders are kept."""
    for pid in _children() - set(leaders):
        if _look_at(pid)[1]:
            with contextlib.suppress(ChildProcessError):
                os.waitpid(pid, os.WNOHANG)


def _children() -> set[int]:
    """Those of this process, which has one thread; dead ones too."""
    own = os.getpid()
    try:
        return set(map(int, kernel_files.read(f"/proc/self/task/{own}/children").split()))
    except FileNotFoundError:  # a kernel that was built without it
        pids = [int(entry.name) for entry in os.scandir("/proc") if entry.name.isdigit()]
        looks = [_look_at(pid)[0] for pid in pids]
        return {member.pid for member in looks if member is not None and member.parent == own}


class Exit(msgspec.Struct, frozen=True, kw_only=True):
    """How a leader ended: one of both."""

    status: int | None = None
    signal: str | None = None
    number: int = 0
    """Of that signal."""


class ProcessTree:
    """One tree, from the start of its leader until nobody is left in it."""

    def __init__(self, process_id: str, pid: int, cgroup: Cgroup | None) -> None:
        """Watch over what `pid` starts, the head of its own session; in `cgroup`, if it has one."""
        self.process_id = process_id
        self.pid = pid
        self.cgroup = cgroup
        self.halted: dict[int, int] = {}
        """Those who stand still until they are killed, with their start."""
        self.stopped = False
        """Whether it was told to end."""
        self.killed = False
        self.leader_ended = False
        self.empty_looks = 0
        self.proof: StopProof | None = None
        self.gone = asyncio.Event()
        self._seen: dict[int, int] = {}  # process ids with their start, by earlier looks

    @property
    def method(self) -> str:
        """How it is looked for."""
        return "subreaper" if self.cgroup is None else "cgroup"

    def exit(self) -> Exit | None:
        """How the leader ended, without reaping it; none while it runs."""
        info = os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        if info is None:
            return None
        self.leader_ended = True
        if info.si_code == os.CLD_EXITED:
            return Exit(status=info.si_status)
        return Exit(signal=signal_word(info.si_status), number=info.si_status)

    def terminate(self, everybody: Sequence[Member]) -> None:
        """SIGTERM to everybody in it; those that are stopped are let go on to hear it."""
        self.stopped = True
        for member in self.left(everybody):
            send_signal(member, signal.SIGTERM)
            send_signal(member, signal.SIGCONT)

    def kill(self) -> None:
        """SIGKILL to everybody in it, at once; the kernel lets nobody be forked past it."""
        if self.gone.is_set():
            return
        self.stopped = self.killed = True
        if self.cgroup is not None:
            self.cgroup.kill()
        # Everybody left may have become another user: then the look at /proc says who they are.
        with contextlib.suppress(PermissionError, ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)

    def end(self, left: Sequence[Member]) -> bool:
        """Once killed: have those who left the group stand still, and kill them once all do.

        Who stands still forks nobody; one killed at once makes room for another's child. Answers
        whether somebody was new.
        """
        new = [m for m in left if self.halted.get(m.pid) != m.start_ticks]
        if self.cgroup is not None:
            new = []  # the kernel has killed them all at once
        for member in new:
            send_signal(member, signal.SIGSTOP)
        self.halted.update((member.pid, member.start_ticks) for member in new)
        for member in () if new else left:
            send_signal(member, signal.SIGKILL)
        return bool(new)

    def left(self, everybody: Sequence[Member]) -> tuple[Member, ...]:
        """Who of it is still there."""
        inside = set(self.cgroup.members()) if self.cgroup is not None else set()
        ours = {
            member.pid: member
            for member in everybody
            if self.pid in (member.group, member.session)
            or member.pid in inside
            or self._seen.get(member.pid) == member.start_ticks
            or (self.cgroup is None and member.parent == _OWN and self._bears_id(member.pid))
        }
        more = self.cgroup is None
        while more:
            new = [m for m in everybody if m.parent in ours and m.pid not in ours]
            ours.update((member.pid, member) for member in new)
            more = bool(new)
        self._seen = {member.pid: member.start_ticks for member in ours.values()}
        return tuple(ours.values())

    def note(self, member: Member) -> None:
        """Somebody of it was seen, whoever he will be the child of."""
        self._seen[member.pid] = member.start_ticks

    def is_empty(self) -> bool | None:
        """Whether nobody is left, where the kernel says so by itself; none: /proc has to tell."""
        return None if self.cgroup is None else self.cgroup.is_empty()

    def give_up(self) -> bool:
        """Whether nobody is left, as `is_empty`, at the least expense; a cgroup goes with it."""
        return self.cgroup is not None and (self.cgroup.give_up() or self.cgroup.is_empty())

    def proven(self, everybody: Sequence[Member]) -> StopProof:
        """What is seen of it now."""
        left = self.left(everybody)
        return StopProof(
            method=self.method,
            group_empty=all(member.group != self.pid for member in left),
            cgroup_empty=self.is_empty(),
            tree_empty=not left,
            left=tuple(sorted(member.pid for member in left)),
        )

    def release(self) -> None:
        """Reap the leader, and whoever of the group was handed to this process: it is empty."""
        with contextlib.suppress(ChildProcessError):
            while os.waitpid(-self.pid, os.WNOHANG)[0]:
                pass
        if self.cgroup is not None:
            self.cgroup.remove()
        self.proof = StopProof(
            method=self.method,
            group_empty=True,
            cgroup_empty=None if self.cgroup is None else True,
            tree_empty=True,
        )
        self.gone.set()

    def _bears_id(self, pid: int) -> bool:
        return self.process_id in _borne_ids(pid)


_OWN: Final = os.getpid()


def send_signal(member: Member, number: signal.Signals) -> None:
    """A signal to that very process, whatever becomes of its number."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        descriptor = os.pidfd_open(member.pid)
        try:
            now = member_of(member.pid)
            # Its parent and its group may be others by now: the first to be told may have gone.
            if now is not None and now.start_ticks == member.start_ticks:
                signal.pidfd_send_signal(descriptor, number)
        finally:
            os.close(descriptor)


def passing(trees: Iterable[ProcessTree]) -> list[Member]:
    """Orphans of those without a cgroup that may have gone before a look at everybody is over.

    Each leaves another one behind. Those of a killed tree stand still from now on.
    """
    by_id = {tree.process_id: tree for tree in trees if tree.cgroup is None}
    found: list[Member] = []
    looked_at: set[int] = set()
    quick = Path(f"/proc/self/task/{_OWN}/children").exists()  # else it is a look at everybody
    for _ in range(_QUICK_LOOKS if by_id and quick else 0):
        for pid in _children() - looked_at:
            looked_at.add(pid)
            tree = next((by_id[id_] for id_ in _borne_ids(pid) if id_ in by_id), None)
            if tree is None:
                continue
            if tree.killed:
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    os.kill(pid, signal.SIGSTOP)  # a child's number is its own until it is reaped
            if (member := member_of(pid)) is not None:
                tree.note(member)
                found.append(member)
    return found


def _borne_ids(pid: int) -> list[str]:
    try:
        environment = kernel_files.read(f"/proc/{pid}/environ").split(b"\0")
    except OSError:  # gone since, or another user's
        return []
    bearing = f"{ID_VARIABLE}=".encode()
    return [
        each[len(bearing) :].decode("ascii", "replace")
        for each in environment
        if each.startswith(bearing)
    ]


class TreeReaper:
    """Looks at /proc, once for all trees handed to it, until each is empty; then releases it."""

    def __init__(
        self,
        on_gone: Callable[[ProcessTree], None] = lambda _: None,
        on_left: Callable[[ProcessTree, StopProof], None] = lambda _, __: None,
    ) -> None:
        """`on_gone` hears of each that was released.

        `on_left` hears of each whose leader ended by itself, at each look that finds somebody.
        """
        self._on_gone = on_gone
        self._on_left = on_left
        self._trees: set[ProcessTree] = set()
        self._timer: asyncio.TimerHandle | None = None
        self._pause = _FIRST_PAUSE_SECONDS
        self._rested_at = 0.0

    def add(self, tree: ProcessTree) -> None:
        """Take a tree whose leader has ended."""
        if tree.give_up():
            self._trees.discard(tree)
            self._release(tree)
        elif tree.killed:
            self.hurry(tree)
        else:
            self._trees.add(tree)
            self._pause = _GATHERING_SECONDS
            self._look_in(_GATHERING_SECONDS)

    def hurry(self, tree: ProcessTree) -> None:
        """Somebody waits for this one: look now, and again soon."""
        if tree.gone.is_set():
            return
        self._trees.add(tree)
        self._pause = _FIRST_PAUSE_SECONDS
        self._look_in(0)

    def close(self) -> None:
        """Stop looking; trees with somebody left in them are given up."""
        if self._timer is not None:
            self._timer.cancel()
        self._trees.clear()

    def _release(self, tree: ProcessTree) -> None:
        tree.release()
        self._on_gone(tree)

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
        everybody = members()
        everybody += passing(self._trees)
        forking = False
        for tree in list(self._trees):
            proof = tree.proven(everybody)
            if tree.killed:
                forking |= tree.end(tree.left(everybody))
            tree.proof = proof
            if proof.left and tree.leader_ended and not tree.stopped:
                self._on_left(tree, proof)
            busy = proof.left or not tree.leader_ended or tree.is_empty() is False
            tree.empty_looks = 0 if busy else tree.empty_looks + 1
            # One look may miss somebody who forked while it was taken; the killed fork no more.
            sure = tree.killed or tree.is_empty()
            if tree.empty_looks > (0 if sure else 1):
                self._trees.discard(tree)
                self._release(tree)
        # Looking takes at most half of the time, however many processes the machine has; but those
        # who fork would use the other half.
        self._rested_at = loop.time() if forking else 2 * loop.time() - began
        if self._trees:
            self._look_in(0 if forking else self._pause)
            self._pause = min(self._pause * 2, _LAST_PAUSE_SECONDS)


def start_ticks(pid: int) -> int | None:
    """When a process started, in clock ticks since boot; none when it is gone or a zombie."""
    member = member_of(pid)
    return None if member is None else member.start_ticks
