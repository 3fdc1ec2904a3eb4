"""Limits that no kernel holds: how long a process runs, is silent, and how many it becomes."""

import asyncio
from collections.abc import Callable, Sequence
from typing import Final

from roundsman.wire.process import ProcessLimits
from roundsman.worker.runners.process_running import Process
from roundsman.worker.runners.process_tree import Member, members

_TASKS_SECONDS: Final = 0.1  # between two counts: a fork bomb makes some hundreds meanwhile


class LimitWatch:
    """Watches one process, and says which limit it has reached."""

    def __init__(
        self,
        process: Process,
        limits: ProcessLimits,
        *,
        count_tasks: bool,
        on_limit: Callable[[Process, str, bool], None],
    ) -> None:
        """Watch from now on. `on_limit` hears of the limit in words, and whether it is urgent."""
        self._process = process
        self._limits = limits
        self._on_limit = on_limit
        self._timers: dict[str, asyncio.TimerHandle] = {}
        loop = asyncio.get_running_loop()
        if (wall := limits.wall_seconds) is not None:
            text = f"ran longer than {wall:g} seconds"
            self._timers["wall"] = loop.call_later(wall, self._reached, text, False)
        if (idle := limits.idle_seconds) is not None:
            self._timers["idle"] = loop.call_later(idle, self._check_idle, idle)
        if limits.tasks is not None and count_tasks:
            self._timers["tasks"] = loop.call_later(_TASKS_SECONDS, self._count)

    def cancel(self) -> None:
        """Watch no more."""
        for timer in self._timers.values():
            timer.cancel()

    def _check_idle(self, idle_seconds: float) -> None:
        """Again when it could be due, as it writes meanwhile."""
        loop = asyncio.get_running_loop()
        due = self._process.written_at + idle_seconds
        if loop.time() < due:
            self._timers["idle"] = loop.call_at(due, self._check_idle, idle_seconds)
        else:
            text = f"wrote nothing for {idle_seconds:g} seconds"
            self._reached(text, False)

    def _count(self) -> None:
        tree = self._process.tree
        if tree is None or tree.gone.is_set():
            return
        there: Sequence[Member] = tree.left(members())
        tasks = sum(member.threads for member in there)
        if self._limits.tasks is not None and tasks > self._limits.tasks:
            self._reached(f"became more than {self._limits.tasks} tasks", True)
        else:
            loop = asyncio.get_running_loop()
            self._timers["tasks"] = loop.call_later(_TASKS_SECONDS, self._count)

    def _reached(self, text: str, urgent: bool) -> None:
        if self._process.alive:
            self._on_limit(self._process, text, urgent)
