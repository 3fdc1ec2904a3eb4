"""Finished runs on disk, from the moment they end until the controller keeps them.

Two files a run, in one folder: `<id>.data`, written while the run goes on, and `<id>.json`, its
record, which appears whole or not at all. A run counts as finished when the record's name is on
the disk, and then survives whatever ends the process. Data without a record is a run cut short:
it is discarded on opening, and its lease expires.
"""

import asyncio
import os
from collections.abc import Callable, Collection
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import BinaryIO, Final
from uuid import uuid4

import msgspec

from roundsman import logs
from roundsman.client.worker import Completion
from roundsman.errors import UnavailableError
from roundsman.wire import codec
from roundsman.wire.execution import LeaseKey
from roundsman.worker import durable
from roundsman.worker.runners.interface import ResultFile, ResultTooLargeError
from roundsman.worker.settings import OutboxSettings
from roundsman.worker.waiting import see_through

log = logs.get(__name__)

FLUSHERS: Final = 4
"""Threads that wait for the disk: some, since disks flush several files at once, but few, and not
the event loop's own, in which host names are looked up."""
REJECTED_COUNT: Final = 1000
REJECTED_BYTES: Final = 256 << 20
"""What is set aside is bounded like all else; the oldest goes first."""


class OutboxFullError(UnavailableError):
    """No room on disk for what a run brings back: it is given up, and will be offered again."""

    code = "outbox.full"


class Record(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What is kept of a finished run, beside its data."""

    completion: Completion
    """What the controller is told."""
    size: int | None = None
    """Bytes of data; none: there is no data file."""
    rejected: str | None = None
    """Once set aside: why the controller does not take it."""


_record = codec.decoder(Record)


class Entry(msgspec.Struct, frozen=True, kw_only=True):
    """One finished run in the outbox."""

    entry_id: str
    """Sorts by the time at which the run began."""
    record: Record
    data: Path | None
    """Its data file, if it has one."""

    @property
    def key(self) -> LeaseKey | None:
        """The lease under which it ran; none when a foreign controller handed it out."""
        done = self.record.completion
        if done.epoch is None:
            return None
        return LeaseKey(device=done.device, job=done.job, epoch=done.epoch)


class Spool:
    """The data file of a run that goes on."""

    def __init__(self, outbox: "Outbox", path: Path, file: BinaryIO, max_bytes: int) -> None:
        """Made by `Outbox.begin`."""
        self.path = path
        self.file = file
        self._full: OutboxFullError | None = None
        self._outbox = outbox
        self.result = ResultFile(
            file, max_bytes=max_bytes, scratch_folder=path.parent, on_growth=self._grow
        )

    def _grow(self, by: int) -> None:
        try:
            self._outbox.reserve(by, beside=self.result.size)
        except OutboxFullError as error:
            self._full = error
            raise

    @property
    def trouble(self) -> Exception | None:
        """Why the run is to be given up, whatever the runner makes of it: there was no room."""
        return self._full or self.result.broken


class Outbox:
    """See the module. One process uses it at a time: the state folder is locked."""

    def __init__(self, state: Path, settings: OutboxSettings) -> None:
        """Keep results under the state folder; `open` before any other use."""
        self._folder = state / "outbox"
        self._rejected = state / "rejected"
        self._settings = settings
        self._entries: dict[str, Entry] = {}
        self._spools: set[Spool] = set()
        self._bytes = 0
        self._threads = ThreadPoolExecutor(FLUSHERS, thread_name_prefix="outbox")
        self.on_change: Callable[[], None] = _ignore
        """Called after each change of what room there is."""
        self.on_finished: Callable[[Entry], None] = _ignore
        """Called with each run that was finished."""
        self.empty = asyncio.Event()
        """Set while nothing waits for the controller."""
        self.empty.set()

    def open(self) -> None:
        """Find what was finished before, and clear away what was not. Blocks."""
        for folder in (self._folder, self._rejected):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        for path in sorted(self._folder.glob("*.json")):
            self._take_up(path)
        known = {
            f"{entry_id}.{suffix}" for entry_id in self._entries for suffix in ("json", "data")
        }
        for path in self._folder.iterdir():
            if path.name not in known:
                log.warning("outbox.unfinished_discarded", file=path.name)
                path.unlink()
        self._changed()

    def close(self) -> None:
        """Wait for the disk."""
        self._threads.shutdown()

    @property
    def entries(self) -> Collection[Entry]:
        """Every finished run, oldest first."""
        return self._entries.values()

    def room(self) -> int:
        """How many more runs may begin; 0 when the limits are reached.

        The limit in bytes may be passed by no run, but it is not shared out beforehand: most
        results are a thousandth of what their job allows.
        """
        if self._bytes >= self._settings.max_bytes:
            return 0
        return max(0, self._settings.max_count - len(self._entries) - len(self._spools))

    def begin(self, max_bytes: int, now: float) -> Spool:
        """Make the data file of a run that may bring back so many bytes. Raises `OSError`."""
        # The time first: entries sort by their names, the oldest first.
        path = self._folder / f"{int(now * 1000):015d}-{uuid4()}.data"
        path.touch(mode=0o600, exist_ok=False)
        spool = Spool(self, path, path.open("wb"), max_bytes)
        self._spools.add(spool)
        return spool

    def reserve(self, by: int, *, beside: int) -> None:
        """A result that holds `beside` bytes wants to hold `by` more.

        Raises `OutboxFullError` when the others leave no room for it, `ResultTooLargeError` when
        there never will be any.
        """
        limit = self._settings.max_bytes
        if beside + by > limit:
            raise ResultTooLargeError(limit)
        if by > 0 and self._bytes + by > limit:
            raise OutboxFullError(f"the outbox holds {self._bytes} of at most {limit} bytes")
        self._bytes += by

    def discard(self, spool: Spool) -> None:
        """Forget a run that brought nothing to keep. Harmless after `finish`."""
        if spool not in self._spools:
            return
        self._let_go(spool)
        self._bytes -= spool.result.size
        spool.path.unlink(missing_ok=True)
        self._changed()

    async def finish(self, spool: Spool, completion: Completion, *, keep_data: bool) -> None:
        """Keep a run that has ended, on disk when this returns; without its data if so told.

        Not to be interrupted: a cancellation takes effect afterwards. Raises `OSError`; the run is
        then as little finished as before.
        """
        record = Record(completion=completion, size=spool.result.size if keep_data else None)
        await see_through(asyncio.create_task(self._finish(spool, record)))

    async def remove(self, entry: Entry) -> None:
        """The controller keeps it, or wants it no more: forget it here. Raises `OSError`."""
        await see_through(asyncio.create_task(self._take_out(entry, _unlink, self._folder)))

    async def set_aside(self, entry: Entry, reason: str) -> None:
        """The controller will never take it: keep it apart, for people. Raises `OSError`."""
        move = partial(_move, self._rejected, reason)
        await see_through(asyncio.create_task(self._take_out(entry, move, self._folder)))

    async def _finish(self, spool: Spool, record: Record) -> None:
        spool.result.close()
        await self._in_thread(partial(_store, spool, record))
        self._let_go(spool)
        keep_data = record.size is not None
        if not keep_data:
            self._bytes -= spool.result.size
        entry = Entry(
            entry_id=spool.path.stem, record=record, data=spool.path if keep_data else None
        )
        self._entries[entry.entry_id] = entry
        self._changed()
        self.on_finished(entry)

    async def _take_out(
        self, entry: Entry, from_folder: Callable[[Path, Entry], None], folder: Path
    ) -> None:
        await self._in_thread(partial(from_folder, folder, entry))
        if self._entries.pop(entry.entry_id, None) is not None:
            self._bytes -= entry.record.size or 0
            self._changed()

    def _take_up(self, path: Path) -> None:
        """Make an entry of a record found on disk, if it is one."""
        data = path.with_suffix(".data")
        try:
            record = _record.decode(path.read_bytes())
            if record.size is not None and data.stat().st_size != record.size:
                raise ValueError(f"{data.name} has not the {record.size} bytes that it should")
        except (ValueError, OSError) as error:
            log.error("outbox.damaged", file=path.name, reason=str(error))
            return
        entry = Entry(
            entry_id=path.stem, record=record, data=data if record.size is not None else None
        )
        self._entries[entry.entry_id] = entry
        self._bytes += record.size or 0

    def _let_go(self, spool: Spool) -> None:
        self._spools.discard(spool)
        spool.result.close()
        with suppress(OSError):  # what a full disk does not take was not to be kept either
            spool.file.close()

    def _changed(self) -> None:
        if self._entries:
            self.empty.clear()
        else:
            self.empty.set()
        self.on_change()

    async def _in_thread(self, work: Callable[[], None]) -> None:
        await asyncio.get_running_loop().run_in_executor(self._threads, work)


def _ignore(*_: object) -> None:
    """Nobody listens."""


def _store(spool: Spool, record: Record) -> None:
    """The data first, then the record: it is the record that says that all is there."""
    spool.file.flush()
    if record.size is None:
        spool.path.unlink()
    else:
        os.fsync(spool.file.fileno())
    durable.write(spool.path.with_suffix(".json"), codec.encode(record))


def _unlink(folder: Path, entry: Entry) -> None:
    """The record first: data alone is discarded on the next start, which is what is wanted."""
    (folder / f"{entry.entry_id}.json").unlink(missing_ok=True)
    if entry.data is not None:
        entry.data.unlink(missing_ok=True)


def _move(target: Path, reason: str, folder: Path, entry: Entry) -> None:
    record = msgspec.structs.replace(entry.record, rejected=reason)
    if entry.data is not None and entry.data.exists():
        copy = target / entry.data.name
        copy.unlink(missing_ok=True)  # from a move that was cut short
        os.link(entry.data, copy)
    durable.write(target / f"{entry.entry_id}.json", codec.encode(record))
    _unlink(folder, entry)
    _prune(target)


def _prune(folder: Path) -> None:
    """Keep what was set aside within its bounds: the oldest goes, and is named."""
    records = sorted(folder.glob("*.json"), reverse=True)
    size = 0
    for number, record in enumerate(records, start=1):
        data = record.with_suffix(".data")
        size += data.stat().st_size if data.exists() else 0
        if number > 1 and (number > REJECTED_COUNT or size > REJECTED_BYTES):
            log.warning("outbox.rejected_discarded", file=record.name)
            record.unlink()
            data.unlink(missing_ok=True)
