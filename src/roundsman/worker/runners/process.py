"""Commands on demand, as the worker sees them: asked for here, run by its keeper.

What runs belongs to the keeper, a process that outlives this one. What is known here is a copy of
what the keeper says; the output is read from the disk.
"""

import asyncio
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Final
from weakref import WeakValueDictionary

import msgspec

from roundsman import __version__, logs
from roundsman.clock import Clock
from roundsman.errors import NotFoundError
from roundsman.secret import Secret
from roundsman.wire.control import Bound, ProcessChanged, StartProcess, StopFinished
from roundsman.wire.process import OutputChunk, ProcessState
from roundsman.worker.policy import OnStop, Policy
from roundsman.worker.runners import process_link
from roundsman.worker.runners.process_link import KeeperLink
from roundsman.worker.runners.process_masking import MOST_SECRETS
from roundsman.worker.runners.process_messages import (
    Acknowledge,
    Changed,
    Configure,
    Grew,
    Mask,
    Start,
    State,
    Stop,
    Stopped,
    ToRunner,
    Watch,
)
from roundsman.worker.runners.process_output import OutputFile

log = logs.get(__name__)

JOB_NOT_FOUND: Final = "job not found"
STOPPED_EARLY: Final = "stopped before it was started"
STOPPING: Final = "this worker is stopping"

_REMEMBER_STOPS: Final = 1000
_MESSAGE_BYTES: Final = 512 * 1024  # half of what the channel's messages may have


class ProcessRunner:
    """Every process of this worker that runs, or whose end the controller does not keep yet.

    `on_change` hears of each end, in order; the control channel sets it.
    """

    def __init__(
        self, policy: Policy, *, folder: Path, clock: Clock, tags: tuple[str, ...] = ()
    ) -> None:
        """Start what `policy` allows on a worker that serves `tags`.

        Records and outputs are in `folder`, this worker's alone, and the keeper's socket beside it.
        """
        self._configure = Configure(policy=policy, tags=tags)
        self._folder = folder.absolute()
        self._clock = clock
        self._links: dict[KeeperLink, None] = {}
        self._newest: KeeperLink | None = None
        self._open: dict[str, ProcessChanged] = {}  # by id, old first
        self._unacknowledged: set[str] = set()
        self._of: dict[str, KeeperLink] = {}
        self._secrets: OrderedDict[Secret, None] = OrderedDict()
        self._starting: dict[str, asyncio.Future[ProcessChanged]] = {}
        self._stopping: dict[tuple[KeeperLink, str], list[asyncio.Future[StopFinished | None]]] = {}
        self._reading: dict[str, list[asyncio.Future[None]]] = {}
        self._outputs: WeakValueDictionary[str, OutputFile] = WeakValueDictionary()
        self._stopped_early: OrderedDict[str, None] = OrderedDict()
        self._closing = False
        self._launching = asyncio.Lock()
        self._relaunching: asyncio.Task[None] | None = None
        self.on_change: Callable[[ProcessChanged], None] = lambda _: None
        self.settled = asyncio.Event()
        """Set while every end is acknowledged."""
        self.settled.set()

    async def open(self) -> None:
        """Find the keeper that an earlier life of this worker had, or start one where needed."""
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        for link in await process_link.find(self._folder.parent, self._configure):
            self._take_up(link)
            if link.state.version == __version__:
                self._use(link)
        wanted = self._configure.policy.commands or any(self._folder.iterdir())
        if self._newest is None and wanted:
            await self._launch()

    @property
    def bounds(self) -> tuple[Bound, ...]:
        """What the machine gives processes, and what it lacks; nothing without a keeper."""
        return () if self._newest is None else self._newest.state.bounds

    async def close(self) -> None:
        """Refuse new ones; stop those that run or leave them, as the policy says."""
        self._closing = True
        if self._configure.policy.on_stop is OnStop.STOP:
            running = [key for key, change in self._open.items() if _runs(change)]
            for answer in await asyncio.gather(*map(self.stop, running)):
                if not answer.gone:
                    log.error("process.left", process_id=answer.process_id, left=answer.left)

    def kill(self) -> None:
        """As `close`, at once, waiting for nothing."""
        self._closing = True
        if self._configure.policy.on_stop is OnStop.STOP:
            for process_id, change in self._open.items():
                link = self._of.get(process_id)
                if _runs(change) and link is not None:
                    link.send(Stop(process_id=process_id, grace_seconds=0))

    async def detach(self) -> None:
        """Let go of the keeper. It goes on as long as it has processes."""
        self._closing = True
        if self._relaunching is not None:
            self._relaunching.cancel()
        for link in list(self._links):
            await link.close()
        self._links.clear()
        self._newest = None

    def mask(self, secrets: Iterable[Secret]) -> None:
        """Have these hidden in all outputs from now on."""
        new = tuple(secret for secret in secrets if secret not in self._secrets)
        if not new:
            return
        self._secrets.update(dict.fromkeys(new))
        while len(self._secrets) > MOST_SECRETS:
            self._secrets.popitem(last=False)
        for link in self._links:
            link.send(Mask(secrets=new))

    async def start(self, asked: StartProcess) -> ProcessChanged:
        """Start a command, or refuse it; answers its state. Known already: as it stands."""
        process_id = asked.process_id
        if (known := self._open.get(process_id)) is not None:
            return known
        if process_id in self._stopped_early:
            return self._refuse(process_id, STOPPED_EARLY)
        if self._closing:
            return self._refuse(process_id, STOPPING)
        if not self._configure.policy.commands:
            return self._refuse(process_id, f"command not allowed: {asked.command}")
        if self._newest is None:
            try:
                await self._launch()
            except OSError as error:
                return self._refuse(process_id, f"this worker cannot start it: {error.strerror}")
        link = self._newest
        if link is None or process_id in self._stopped_early:
            return self._refuse(process_id, STOPPED_EARLY if link else STOPPING)
        future = self._starting.get(process_id)
        if future is None:
            future = self._starting[process_id] = asyncio.get_running_loop().create_future()
            self._of[process_id] = link
            link.send(Start(asked=asked))
        return await asyncio.shield(future)

    def stop_early(self, process_id: str) -> None:
        """A stop is on its way: if the start is not done by now, it never will be."""
        if process_id not in self._of:
            self._stopped_early[process_id] = None
            while len(self._stopped_early) > _REMEMBER_STOPS:
                self._stopped_early.popitem(last=False)

    async def stop(self, process_id: str, grace_seconds: float | None = None) -> StopFinished:
        """End it with all that it started; answers what is proven, or who is left after a while.

        Its end is told before this answers. An ended process is stopped again: somebody of its
        tree may be left.
        """
        known = self._open.get(process_id)
        refused = known is not None and known.state is ProcessState.REFUSED
        if refused and process_id not in self._of:
            return StopFinished(process_id=process_id, gone=True)  # here, and by no keeper
        answers: list[StopFinished | None] = [None]
        while None in answers:  # again, when a keeper has gone meanwhile
            if self._relaunching is not None:
                await asyncio.wait({self._relaunching})
            # Of what is acknowledged any may have somebody left, also one that was replaced.
            link = self._of.get(process_id)
            asked = Stop(process_id=process_id, grace_seconds=grace_seconds)
            answers = await asyncio.gather(
                *(self._ask(one, asked) for one in ([link] if link else self._links))
            )
        for answer in answers:
            if answer is not None and answer.error is None:
                return answer
        self.stop_early(process_id)
        return StopFinished(process_id=process_id, gone=False, error=JOB_NOT_FOUND)

    def _ask(self, link: KeeperLink, stop: Stop) -> "asyncio.Future[StopFinished | None]":
        """What a keeper answers; none when it goes before it does."""
        future: asyncio.Future[StopFinished | None] = asyncio.get_running_loop().create_future()
        self._stopping.setdefault((link, stop.process_id), []).append(future)
        link.send(stop)
        return future

    def acknowledge(self, process_id: str) -> None:
        """The controller keeps how it ended."""
        change = self._open.get(process_id)
        if change is None or _runs(change):
            return
        del self._open[process_id]
        self._unacknowledged.discard(process_id)
        if not self._unacknowledged:
            self.settled.set()
        link = self._of.pop(process_id, None)
        if link is not None:
            link.send(Acknowledge(process_id=process_id))

    async def none_starting(self) -> None:
        """Wait until it is known of each start what became of it."""
        while self._starting:
            await asyncio.wait(list(self._starting.values()))

    def to_report(self) -> tuple[ProcessChanged, ...]:
        """The states of all that run, and every end that is not acknowledged."""
        return tuple(self._open.values())

    def read(
        self, process_id: str, *, after: int = 0, follow: bool = False
    ) -> AsyncIterator[tuple[OutputChunk, ...]]:
        """The output from the chunk after `after` on; with `follow`, until the process has ended.

        Raises `NotFoundError` for a process that is not, or no longer, known.
        """
        folder = self._folder / process_id
        if "/" in process_id or process_id in ("", "..") or not (folder / "record").exists():
            raise NotFoundError(JOB_NOT_FOUND)
        return self._read(process_id, folder / "output", after=after, follow=follow)

    async def _read(
        self, process_id: str, path: Path, *, after: int, follow: bool
    ) -> AsyncIterator[tuple[OutputChunk, ...]]:
        output = self._outputs.get(process_id)
        if output is None:
            output = self._outputs[process_id] = OutputFile.reopen(path)
        while True:
            running = self._running(process_id)
            output.refresh()
            while chunks := output.read(after, max_message_bytes=_MESSAGE_BYTES):
                after = chunks[-1].number
                yield chunks
                output.refresh()
            if not running or not follow:
                return
            if self._running(process_id):
                await self._growth(process_id, output.size)

    def _running(self, process_id: str) -> bool:
        change = self._open.get(process_id)
        return change is not None and _runs(change)

    async def _growth(self, process_id: str, size: int) -> None:
        future = asyncio.get_running_loop().create_future()
        waiting = self._reading.setdefault(process_id, [])
        waiting.append(future)
        link = self._of.get(process_id)  # none: its keeper has gone, its end will be told
        if len(waiting) == 1 and link is not None:
            link.send(Watch(process_id=process_id, size=size))
        await future

    # what the keeper says

    async def _launch(self) -> None:
        async with self._launching:
            if self._newest is None and not self._closing:
                link = await process_link.launch(self._folder.parent, self._folder, self._configure)
                self._take_up(link)
                self._use(link)

    def _use(self, link: KeeperLink) -> None:
        """Have this one start things from now on; the others end when nothing of theirs is left."""
        self._newest = link
        for other in self._links:
            if other is not link:
                other.send(msgspec.structs.replace(self._configure, replaced=True))

    async def _launch_again(self) -> None:
        try:
            await self._launch()
        except OSError as error:
            log.error("keeper.not_started", reason=error.strerror)  # the next start tries again

    def _take_up(self, link: KeeperLink) -> None:
        self._links[link] = None
        if self._secrets:
            link.send(Mask(secrets=tuple(self._secrets)))
        for bound in link.state.bounds:
            if not bound.given:
                log.warning("process.bound_lacking", bound=bound.name, how=bound.how)
        for change in link.state.open:
            known = self._open.get(change.process_id)
            self._of[change.process_id] = link
            self._note(change)
            if known is not None and known != change:
                self.on_change(change)
        link.receive(partial(self._take, link), lambda: self._lost(link))

    def _take(self, link: KeeperLink, message: ToRunner) -> None:
        match message:
            case Changed(change=change):
                self._of[change.process_id] = link  # it may have taken it up from another
                self._changed(change)
            case Stopped(answer=answer):
                for future in self._stopping.pop((link, answer.process_id), ()):
                    if not future.done():
                        future.set_result(answer)
            case Grew(process_id=process_id):
                self._wake(process_id)
            case State():
                pass  # only the first message is one

    def _changed(self, change: ProcessChanged) -> None:
        process_id = change.process_id
        self._note(change)
        if change.left_behind is not None:
            log.info("process.left_behind", process_id=process_id, left=change.left_behind.left)
        log.info(
            f"process.{change.state}",
            process_id=process_id,
            exit_status=change.exit_status,
            signal=change.signal,
            error=change.error,
            cause=change.cause,
        )
        starting = self._starting.pop(process_id, None)
        if starting is not None and not starting.done():
            starting.set_result(change)
        elif not _runs(change):
            self.on_change(change)

    def _lost(self, link: KeeperLink) -> None:
        """The keeper has gone: another one, which is started if there is none, tells the rest."""
        self._links.pop(link, None)
        if self._newest is link:
            self._newest = None
        for key in [key for key in self._stopping if key[0] is link]:
            for future in self._stopping.pop(key):
                if not future.done():
                    future.set_result(None)
        for process_id, starting in list(self._starting.items()):
            if self._of.get(process_id) is link and not starting.done():
                del self._starting[process_id]
                starting.set_result(self._refuse(process_id, "its keeper has gone"))
        had_any = link in self._of.values()
        self._of = {key: other for key, other in self._of.items() if other is not link}
        if self._newest is not None and not had_any:
            log.info("keeper.ended", version=link.state.version)  # of another release, as it should
        elif not self._closing:
            log.error("keeper.lost")
            self._relaunching = asyncio.create_task(self._launch_again(), name="keeper again")

    def _refuse(self, process_id: str, reason: str) -> ProcessChanged:
        log.info("process.refused", process_id=process_id, reason=reason)
        change = ProcessChanged(
            process_id=process_id, state=ProcessState.REFUSED, at=self._clock.now(), error=reason
        )
        self._of.pop(process_id, None)
        self._note(change)
        return change

    def _note(self, change: ProcessChanged) -> None:
        self._open[change.process_id] = change
        if not _runs(change):
            self._unacknowledged.add(change.process_id)
            self.settled.clear()
            self._wake(change.process_id)

    def _wake(self, process_id: str) -> None:
        for future in self._reading.pop(process_id, ()):
            if not future.done():
                future.set_result(None)


def _runs(change: ProcessChanged) -> bool:
    return change.state is ProcessState.RUNNING
