"""The floor of a start: what a program makes of it that does nothing else.

`python -m bench.isolated_starts SECONDS` starts `true` again and again as a keeper does (a cgroup
of its own where there is one, a session, pipes, a folder for temporary files, its end awaited),
keeps no record, and tells nobody. It prints starts per second, and milliseconds of processor time
for each.
"""

import os
import resource
import sys
import time
from pathlib import Path

from roundsman.worker.runners import process_machine
from roundsman.worker.runners.process_machine import Machine
from roundsman.worker.runners.process_spawn import Program, spawn
from roundsman.worker.runners.process_temporary import TemporaryFolders


def _one(machine: Machine, temporary: TemporaryFolders) -> None:
    folder = temporary.choose()
    temporary.make(folder)
    cgroup = machine.cgroup and machine.cgroup / "one"
    if cgroup is not None:
        cgroup.mkdir()
    stdin = os.open(os.devnull, os.O_RDONLY)
    (stdout, into_stdout), (stderr, into_stderr) = os.pipe(), os.pipe()
    program = Program(
        executable="/bin/true",
        argv=("true", ""),
        environment={"LANG": "C.UTF-8", "TMPDIR": str(folder)},
        folder="/",
        stdin=stdin,
        stdout=into_stdout,
        stderr=into_stderr,
        cgroup=None if cgroup is None else str(cgroup),
        home=machine.home,
    )
    pid = spawn(program)
    os.close(into_stdout)
    os.close(into_stderr)
    os.waitpid(pid, 0)
    for descriptor in (stdout, stderr):
        os.read(descriptor, 1)
    for descriptor in (stdin, stdout, stderr):
        os.close(descriptor)
    if cgroup is not None:
        cgroup.rmdir()
    temporary.give_back(folder)


def main() -> None:
    """The command."""
    machine, temporary = process_machine.prepare(), TemporaryFolders()
    seconds, started, began = float(sys.argv[1]), 0, time.perf_counter()
    while time.perf_counter() - began < seconds:
        _one(machine, temporary)
        started += 1
    per_second = started / (time.perf_counter() - began)
    used = [resource.getrusage(w) for w in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    print(per_second, sum(one.ru_utime + one.ru_stime for one in used) * 1000 / started)
    temporary.close()
    if machine.cgroup is not None:
        Path(machine.cgroup).rmdir()


if __name__ == "__main__":
    main()
