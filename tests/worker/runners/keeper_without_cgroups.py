"""A keeper as on a machine that gives it no cgroup."""

from roundsman.worker.runners import process_machine, process_server
from roundsman.worker.runners.process_machine import Machine

if __name__ == "__main__":
    # To the type checker a function is no variable that may be set.
    setattr(process_machine, "_cgroups", lambda: Machine(no_cgroup="not here"))  # noqa: B010
    process_server.main()
