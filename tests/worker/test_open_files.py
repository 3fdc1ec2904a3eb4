"""The limit of open files, in processes of their own: it belongs to the process."""

import subprocess
import sys

PROGRAM = """
import resource, sys
from roundsman.worker import open_files
soft, hard, sessions = map(int, sys.argv[1:])
resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
print(open_files.make_room(sessions), resource.getrlimit(resource.RLIMIT_NOFILE)[0])
"""


def _make_room(*, soft: int, hard: int, sessions: int) -> tuple[str, str]:
    """What is answered, the limit then, and what was logged."""
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(soft), str(hard), str(sessions)],
        check=True,
        capture_output=True,
        text=True,
    )
    *logged, answer = done.stdout.splitlines()
    return answer, "\n".join(logged) + done.stderr


def test_the_soft_limit_is_raised_as_far_as_needed() -> None:
    assert _make_room(soft=256, hard=4096, sessions=500) == ("500 2200", "")


def test_a_limit_that_suffices_stays() -> None:
    assert _make_room(soft=3000, hard=4096, sessions=500) == ("500 3000", "")


def test_too_low_a_hard_limit_is_told_and_heeded() -> None:
    answer, logged = _make_room(soft=256, hard=1000, sessions=500)
    assert answer == "200 1000"
    assert "worker.few_open_files" in logged
