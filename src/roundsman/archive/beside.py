"""Programs beside the writer: of low priority, and ended with the controller that started them.

A controller that is killed leaves nobody who would end them. A compaction that went on would add
all that the repository holds once more, and the next life of the controller begins another.

    python -m roundsman.archive.beside CONTROLLER PROGRAM ARGUMENT ...

becomes that program; CONTROLLER is the number of the process that starts it.
"""

import ctypes
import os
import signal
import sys
from typing import Final

_NICE: Final = 10
_PR_SET_PDEATHSIG: Final = 1


def begin(controller: int) -> None:
    """Be such a program from now on."""
    os.nice(_NICE)
    end_with(controller)


def end_with(parent: int) -> None:
    """End when the parent does. Beyond Linux, whose kernel sees to it, it is not ended so."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:  # it ended before the kernel was asked
            sys.exit("the controller is gone")


if __name__ == "__main__":
    begin(int(sys.argv[1]))
    os.execvp(sys.argv[2], sys.argv[2:])  # noqa: S606 - what the controller runs, without a shell
