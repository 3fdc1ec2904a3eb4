"""What is kept of a session: the scrubbed result, or the failure with its evidence."""

import asyncio
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import IO, Final, Protocol, TypeVar
from weakref import WeakValueDictionary

from roundsman.wire.device import Credentials
from roundsman.wire.run import FailureClass
from roundsman.worker.patterns import PatternError
from roundsman.worker.runners.interface import ResultFile, ResultTooLargeError, RunFailedError
from roundsman.worker.scrubbers import Scrubbers, replace_literal
from roundsman.worker.sessions.errors import SessionError
from roundsman.worker.sessions.transcript import BLOCK, Span, Transcript

EVIDENCE_BYTES: Final = 1 << 20
"""Of a failed run at most the last so many bytes are kept."""

_EXCERPT_CHARACTERS: Final = 200
_MASK: Final = b"********"

_T = TypeVar("_T")


class InThread(Protocol):
    """Does work that may take long and block, elsewhere."""

    async def __call__(self, work: Callable[[], _T]) -> _T:
        """What `work` returns or raises."""
        ...


class PatternThreads:
    """Threads for applying patterns.

    Each job is in at most one of them, so that one bad pattern holds up neither the sessions nor
    the patterns of other jobs.
    """

    def __init__(self) -> None:
        self._threads = ThreadPoolExecutor(max_workers=4, thread_name_prefix="patterns")
        self._turns: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    def of(self, job: str) -> InThread:
        """What does work for the job of that name, in its turn."""

        async def in_thread(work: Callable[[], _T]) -> _T:
            turn = self._turns.setdefault(job, asyncio.Lock())
            async with turn:
                return await asyncio.get_running_loop().run_in_executor(self._threads, work)

        return in_thread

    def close(self) -> None:
        """Let go of the threads, without waiting for them."""
        self._threads.shutdown(wait=False, cancel_futures=True)


class Keeper:
    """Keeps what one session brought."""

    def __init__(
        self,
        title: str,
        scrubbers: Scrubbers,
        credentials: Credentials | None,
        in_thread: InThread,
    ) -> None:
        """`title` names job and device in failures."""
        self._title = title
        self._scrubbers = scrubbers
        self._credentials = credentials
        self.in_thread = in_thread

    async def keep(self, transcript: Transcript, spans: list[Span], result: ResultFile) -> None:
        """Write the scrubbed result; `RunFailedError` when that cannot be done."""
        text = (block for span in spans for block in transcript.read(span))
        if self._scrubbers:
            with result.scratch() as scrubbed:
                await self._scrub(text, scrubbed, result.max_bytes)
                await self._copy(_blocks(scrubbed), result)
        else:
            await self._copy(text, result)
        if not result.size:
            raise RunFailedError(
                f"{self._title}: ended well but brought nothing back", FailureClass.EMPTY
            )

    async def _scrub(self, text: Iterable[bytes], scrubbed: IO[bytes], max_bytes: int) -> None:
        def work() -> None:
            size = 0
            for block in self._scrubbers.apply(text):
                size += len(block)
                if size > max_bytes:
                    raise ResultTooLargeError(max_bytes)
                scrubbed.write(block)

        try:
            await self.in_thread(work)
        except PatternError as error:
            raise RunFailedError(
                f"{self._title}: scrubber: {error.text}", FailureClass.SCRUBBER
            ) from None

    @staticmethod
    async def _copy(text: Iterable[bytes], result: ResultFile) -> None:
        try:
            for block in text:
                result.write(block)
                await asyncio.sleep(0)  # others may go on between blocks
        except ResultTooLargeError:
            result.clear()
            raise

    async def failure(
        self, error: SessionError, transcript: Transcript, result: ResultFile
    ) -> RunFailedError:
        """The failure that a session's error is, with what came as evidence in `result`."""
        evidence = await self._evidence(transcript, min(EVIDENCE_BYTES, result.max_bytes))
        with suppress(ResultTooLargeError):  # no room on the disk: the failure counts more
            result.write(evidence)
        text = f"{self._title}: {error.text}"
        if excerpt := _excerpt(evidence):
            text += f"; the last that came was {excerpt}"
        if error.remedy:
            text += f"; {error.remedy}"
        return RunFailedError(text, error.failure_class)

    async def _evidence(self, transcript: Transcript, count: int) -> bytes:
        """The end of what came, without credentials and scrubbed; nothing if that is impossible."""

        def work() -> bytes:
            text: Iterable[bytes] = [transcript.last_lines(count)]
            for secret in self._secrets():
                text = replace_literal(text, secret, _MASK)
            return b"".join(self._scrubbers.apply(text))[-count:]

        try:
            return await self.in_thread(work)
        except PatternError:
            return b""

    def _secrets(self) -> Iterator[bytes]:
        if self._credentials is not None:
            known = self._credentials
            for secret in (known.password, known.passphrase, known.enable):
                if secret:
                    yield secret.reveal().encode()


def _blocks(file: IO[bytes]) -> Iterator[bytes]:
    file.seek(0)
    while block := file.read(BLOCK):
        yield block


def _excerpt(evidence: bytes) -> str:
    """The last of what came, fit for a sentence."""
    text = evidence[-_EXCERPT_CHARACTERS:].decode("utf-8", "replace").strip()
    return repr(text) if text else ""
