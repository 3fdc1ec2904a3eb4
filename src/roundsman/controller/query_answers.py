"""Answers to queries that need no look at the ledger."""

from collections import OrderedDict
from typing import Final, TypeAlias

from roundsman.wire.process import Process, ProcessState, QueryAnswer

MOST: Final = 10_000

Key: TypeAlias = tuple[str, str]
"""Ids of a worker and of its process."""


class QueryAnswers:
    """Those of ended processes, for good; those of running ones, until something is written of one.

    The latter only where one controller writes all of it.
    """

    def __init__(self, *, alone: bool) -> None:
        """Nothing is known yet; `alone`: no other controller writes to the ledger."""
        self._alone = alone
        self._answers: OrderedDict[Key, QueryAnswer] = OrderedDict()  # old first
        self._running: dict[str, Key] = {}
        self.writes = 0
        """How often something was written of any process."""

    def get(self, key: Key) -> QueryAnswer | None:
        """The answer, if it is known."""
        return self._answers.get(key)

    def of(self, process: Process, *, as_of: int) -> QueryAnswer:
        """What a process' row answers; kept, if nothing was written since so many writes."""
        error_text = process.error_text
        answer = QueryAnswer(done=process.done, error=bool(error_text), error_text=error_text)
        key = (process.worker_id, process.process_id)
        runs = process.state is ProcessState.RUNNING and self._alone and as_of == self.writes
        if process.done or runs:
            self._answers[key] = answer
            if runs:
                self._running[process.process_id] = key
            if len(self._answers) > MOST:
                (_, oldest), _ = self._answers.popitem(last=False)
                self._running.pop(oldest, None)
        return answer

    def changed(self, process_id: str) -> None:
        """Something was written of a process."""
        self.writes += 1
        if (key := self._running.pop(process_id, None)) is not None:
            self._answers.pop(key, None)
