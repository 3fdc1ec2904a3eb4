"""Which keeper has which record: after an upgrade an older one lives on beside the new one.

A record names the keeper that has it. What one leaves behind that has gone is claimed by exactly
one of those that are still there.
"""

import contextlib
import os
from asyncio import get_running_loop
from collections.abc import Callable, Container

import msgspec

from roundsman.worker.runners import process_leftovers, process_tree
from roundsman.worker.runners.process_records import ProcessRecord, ProcessRecords


class Claims:
    """One keeper's claims on the records of its worker."""

    def __init__(self, records: ProcessRecords, on_free: Callable[[], None]) -> None:
        """`on_free` hears when another keeper has gone whose records `take` passed over."""
        self.identity = (os.getpid(), process_tree.start_ticks(os.getpid()) or 0)
        """Process id and start, which name this keeper in its records."""
        self._records = records
        self._on_free = on_free
        self._others: dict[int, int] = {}  # process id to the descriptor that names the process

    def take(self, known: Container[str]) -> list[ProcessRecord]:
        """What no keeper has, old first, as it was left; it is this one's from now on.

        `known` are the ids of those that this one has already.
        """
        with self._records.locked():
            free = [
                record
                for record in self._records.load()
                if record.change.process_id not in known and not self._is_kept(record)
            ]
            for record in free:
                with contextlib.suppress(OSError):  # no room: it is taken all the same
                    self._records.write(self.own(record))
        return sorted(free, key=lambda record: record.change.at)

    def own(self, record: ProcessRecord) -> ProcessRecord:
        """The same as a record of this keeper."""
        boot_id = process_leftovers.boot_id()
        if record.boot_id != boot_id:  # its numbers mean nothing in this life of the machine
            record = msgspec.structs.replace(record, pid=None, start_ticks=None, cgroup="")
        return msgspec.structs.replace(record, keeper=self.identity, boot_id=boot_id)

    def close(self) -> None:
        """Watch nobody any more."""
        for pid in list(self._others):
            self._forget(pid)

    def _is_kept(self, record: ProcessRecord) -> bool:
        """Whether another keeper has it, which is watched from then on."""
        pid, _ = record.keeper
        if not process_leftovers.is_kept(record):
            return False
        if pid not in self._others:
            try:
                self._others[pid] = os.pidfd_open(pid)  # readable once it has ended
            except ProcessLookupError:  # just now
                return False
            get_running_loop().add_reader(self._others[pid], self._other_gone, pid)
        return True

    def _other_gone(self, pid: int) -> None:
        self._forget(pid)
        self._on_free()

    def _forget(self, pid: int) -> None:
        descriptor = self._others.pop(pid)
        get_running_loop().remove_reader(descriptor)
        os.close(descriptor)
