"""What this machine gives a keeper to hold processes by, and what it lacks."""

import contextlib
import ctypes
import os
import signal
from pathlib import Path
from typing import Final

import msgspec

from roundsman.wire.control import Bound
from roundsman.worker.runners.beneath import has_openat2
from roundsman.worker.runners.process_cgroup import CGROUP_PREFIX

_NO_NEW_PRIVILEGES: Final = 38
_CHILD_SUBREAPER: Final = 36
_COUNTED: Final = (
    "counted ten times a second, then ended; up to ten times as many by the kernel meanwhile, "
    "but for root's (RLIMIT_NPROC)"
)
CONTROLLERS: Final = ("memory", "cpu", "pids")


class Machine(msgspec.Struct, frozen=True, kw_only=True):
    """What is there."""

    cgroup: Path | None = None
    """Folder in which each process gets a cgroup of its own; none: there is no such place."""
    controllers: frozenset[str] = frozenset()
    """Those that are in force in it."""
    home: int | None = None
    """The open `cgroup.procs` of the cgroup that this process itself is in; none: not writable."""
    no_cgroup: str = ""
    """Why there is none."""

    def bounds(self) -> tuple[Bound, ...]:
        """All of it in words, for the worker's details."""
        root = os.geteuid() == 0
        memory = "memory" in self.controllers
        tasks = "pids" in self.controllers
        return (
            Bound(
                name="whole tree",
                given=self.cgroup is not None,
                how="a cgroup of its own"
                if self.cgroup is not None
                else f"by its session, its parents and its id in the environment: {self.no_cgroup}",
            ),
            Bound(
                name="memory",
                given=memory,
                how="of the whole tree" if memory else "of each process by itself (RLIMIT_AS)",
            ),
            Bound(
                name="tasks",
                given=tasks,
                how="by the kernel" if tasks else _COUNTED,
            ),
            Bound(
                name="processors",
                given="cpu" in self.controllers,
                how="of the whole tree"
                if "cpu" in self.controllers
                else "not held: no cgroup with processors",
            ),
            Bound(name="processor time", given=True, how="of each process by itself (RLIMIT_CPU)"),
            Bound(
                name="other users",
                given=root,
                how="as the policy says" if root else "the worker does not run as root",
            ),
            Bound(
                name="scripts opened in one step",
                given=has_openat2(),
                how="openat2" if has_openat2() else "part by part: this kernel has no openat2",
            ),
        )


def prepare() -> Machine:
    """Make this process one that holds others; what it starts inherits the rest.

    It gets the orphans of what it starts, nobody below it gains privileges, and no signal is
    ignored by inheritance.
    """
    for number in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}:
        with contextlib.suppress(OSError, ValueError):
            if signal.getsignal(number) is signal.SIG_IGN:
                signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    libc = ctypes.CDLL(None, use_errno=True)
    for option in (_NO_NEW_PRIVILEGES, _CHILD_SUBREAPER):
        if libc.prctl(option, 1, 0, 0, 0) != 0:
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    try:
        return _cgroups()
    except OSError as error:
        return Machine(no_cgroup=f"no cgroup of version 2 can be made here ({error.strerror})")


def _cgroups() -> Machine:
    """Make a cgroup for this keeper where it may: in one that was handed to it, or at the root."""
    mount, own = _mount(), _own_path()
    if mount is None or own is None:
        return Machine(no_cgroup="cgroups of version 2 are not mounted")
    base = mount / own.lstrip("/")
    if own != "/" and not _is_delegated(base):
        return Machine(no_cgroup=f"the cgroup {own} is not delegated to the worker")
    if not (base / "cgroup.procs").exists():
        return Machine(no_cgroup="its cgroup is not visible here")
    folder = base / f"{CGROUP_PREFIX}{os.getpid()}"
    folder.mkdir()
    if not (folder / "cgroup.kill").exists():
        folder.rmdir()
        return Machine(no_cgroup="this kernel has no cgroup.kill")
    controllers = _hand_down(base, own) and _hand_down(folder, own)
    return Machine(cgroup=folder, controllers=frozenset(controllers or ()), home=_open_home(mount))


def _open_home(mount: Path) -> int | None:
    own = (_unified() or "/").lstrip("/")  # it may have been moved into a leaf by now
    with contextlib.suppress(OSError):
        return os.open(mount / own / "cgroup.procs", os.O_WRONLY)
    return None


def _hand_down(folder: Path, own: str) -> list[str]:
    """Put controllers in force for the groups below; answers which are."""
    control = folder / "cgroup.subtree_control"
    available = (folder / "cgroup.controllers").read_text().split()
    for name in CONTROLLERS:
        if name not in available:
            continue
        with contextlib.suppress(OSError):  # said by what is in force afterwards
            try:
                control.write_text(f"+{name}")
            except OSError:
                # Controllers are handed down only by groups that hold no processes themselves.
                _move_into_leaf(folder, own)
                control.write_text(f"+{name}")
    return [name for name in CONTROLLERS if name in control.read_text().split()]


def _move_into_leaf(folder: Path, own: str) -> None:
    if own == "/":
        raise PermissionError  # everybody's: not ours to move
    leaf = folder / "worker"
    leaf.mkdir(exist_ok=True)
    for pid in (folder / "cgroup.procs").read_text().split():
        (leaf / "cgroup.procs").write_text(pid)


def _is_delegated(folder: Path) -> bool:
    """Whether systemd has left this cgroup to us (`Delegate=yes`)."""
    for name in ("trusted.delegate", "user.delegate"):
        with contextlib.suppress(OSError):
            if os.getxattr(folder, name) == b"1":
                return True
    return False


def _mount() -> Path | None:
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        first, _, second = line.partition(" - ")
        if second.startswith("cgroup2 "):
            return Path(first.split()[4])
    return None


def _own_path() -> str | None:
    """Where this process was put, whoever has moved it into a leaf since."""
    path = _unified()
    return None if path is None else path.removesuffix("/worker") or "/"


def _unified() -> str | None:
    for line in Path("/proc/self/cgroup").read_text().splitlines():
        if line.startswith("0::"):
            return line[3:]
    return None
