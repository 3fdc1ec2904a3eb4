"""What is kept of a session: the scrubbed result, or the failure with its evidence."""

import asyncio
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from typing import IO, Final, TypeVar
from weakref import WeakValueDictionary

from roundsman.wire.device import Credentials
from roundsman.wire.job import DetectedSecrets
from roundsman.wire.run import FailureClass
from roundsman.worker.detectors.scan import mask, search
from roundsman.worker.patterns import (
    THOROUGH,
    Effort,
    NotQuickError,
    PatternError,
    QuickEffort,
)
from roundsman.worker.recording import as_yaml, dialogue_of
from roundsman.worker.runners.interface import ResultFile, ResultTooLargeError, RunFailedError
from roundsman.worker.scrubbers import Scrubbers, replace_literal
from roundsman.worker.sessions.errors import SecretsError, SessionError
from roundsman.worker.sessions.manners import Manners
from roundsman.worker.sessions.tape import Tape
from roundsman.worker.sessions.transcript import BLOCK, Span, Transcript

EVIDENCE_BYTES: Final = 1 << 20
"""Of a failed run at most the last so many bytes are kept."""

QUICK_BYTES: Final = 1 << 16
"""Up to so many bytes, which hold most configurations, patterns are applied at once."""

SLOW_SECONDS: Final = 600.0
"""For how long a job counts as slow. What made it so may have been a single device."""

_EXCERPT_CHARACTERS: Final = 200
_MASK: Final = b"********"

_T = TypeVar("_T")


class PatternThreads:
    """Threads for applying patterns that may take long.

    Each job is in at most one of them, so that one bad pattern holds up neither the sessions nor
    the patterns of other jobs.
    """

    def __init__(self) -> None:
        self._threads = ThreadPoolExecutor(max_workers=4, thread_name_prefix="patterns")
        self._jobs: WeakValueDictionary[str, JobPatterns] = WeakValueDictionary()
        self._slow: dict[str, float] = {}

    def of(self, job: str) -> "JobPatterns":
        """What applies the patterns of the job of that name."""
        return self._jobs.setdefault(job, JobPatterns(job, self._threads, self._slow))

    def close(self) -> None:
        """Let go of the threads, without waiting for them."""
        self._threads.shutdown(wait=False, cancel_futures=True)


class JobPatterns:
    """Applies the patterns of one job: at once to small texts, in a thread to others.

    To hand a text to a thread and back takes longer than to scrub a usual configuration. A job
    whose patterns did not keep to a quick effort has its texts in a thread for the time being.
    """

    def __init__(self, job: str, threads: ThreadPoolExecutor, slow: dict[str, float]) -> None:
        """`slow` says of each job until when it counts as such, by the event loop's clock."""
        self._job = job
        self._threads = threads
        self._slow = slow
        self._turn = asyncio.Lock()

    async def apply(self, work: Callable[[Effort], _T], size: int) -> _T:
        """What `work`, on a text of that many bytes, returns or raises; it may be begun twice."""
        loop = asyncio.get_running_loop()
        if size <= QUICK_BYTES and self._slow.get(self._job, 0) <= loop.time():
            try:
                return work(QuickEffort())
            except NotQuickError:
                self._slow[self._job] = loop.time() + SLOW_SECONDS
        async with self._turn:
            return await loop.run_in_executor(self._threads, partial(work, THOROUGH))


class Keeper:
    """Keeps what one session brought."""

    def __init__(
        self,
        title: str,
        scrubbers: Scrubbers,
        credentials: Iterable[Credentials],
        patterns: JobPatterns,
        *,
        detected_secrets: DetectedSecrets = DetectedSecrets.REPORT,
    ) -> None:
        """`title` names job and device in failures."""
        self._title = title
        self._scrubbers = scrubbers
        self._credentials = tuple(credentials)
        self.patterns = patterns
        self._detected_secrets = detected_secrets

    async def keep(self, transcript: Transcript, spans: list[Span], result: ResultFile) -> None:
        """Write the scrubbed result; `RunFailedError` when that cannot be done, or may not be.

        It may not where something looks like a secret and the job refuses that.
        """
        if self._scrubbers:
            with result.scratch() as scrubbed:
                await self._scrub(transcript, spans, scrubbed, result.max_bytes)
                await self._look_for_secrets(partial(_blocks, scrubbed), transcript, result)
                await self._copy(_blocks(scrubbed), result)
        else:
            text = partial(_text, transcript, spans)
            await self._look_for_secrets(text, transcript, result)
            await self._copy(text(), result)
        if not result.size:
            raise RunFailedError(
                f"{self._title}: ended well but brought nothing back", FailureClass.EMPTY
            )

    async def _scrub(
        self, transcript: Transcript, spans: list[Span], scrubbed: IO[bytes], max_bytes: int
    ) -> None:
        def work(effort: Effort) -> None:
            size = 0
            scrubbed.seek(0)
            scrubbed.truncate()
            for block in self._scrubbers.apply(_text(transcript, spans), effort):
                size += len(block)
                if size > max_bytes:
                    raise ResultTooLargeError(max_bytes)
                scrubbed.write(block)

        try:
            await self.patterns.apply(work, sum(span.end - span.start for span in spans))
        except PatternError as error:
            raise RunFailedError(
                f"{self._title}: scrubber: {error.text}", FailureClass.SCRUBBER
            ) from None

    async def _look_for_secrets(
        self, text: Callable[[], Iterable[bytes]], transcript: Transcript, result: ResultFile
    ) -> None:
        if self._detected_secrets is DetectedSecrets.IGNORE:
            return
        found = await self.patterns.apply(lambda _: search(text()), transcript.size)
        result.detected_secrets = found
        if found and self._detected_secrets is DetectedSecrets.REFUSE:
            kinds = ", ".join(
                f"{one.detector} ({one.count}, first on line {one.line})" for one in found
            )
            error = SecretsError(
                f"in the scrubbed result there is what looks like secrets: {kinds}",
                remedy="add a scrubber, or set detected_secrets: report for the job",
            )
            raise await self.failure(error, transcript, result)

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

    async def record(self, tape: Tape, manners: Manners, result: ResultFile) -> None:
        """Give `result` the session as a recorded dialogue; none where it cannot be cleaned."""
        said = tape.said()
        if len(said) == 1 and not said[0].came:
            return

        def work(effort: Effort) -> str:
            dialogue = dialogue_of(
                said, enter=manners.enter, clean=lambda text: self._clean(text, effort)
            )
            return as_yaml(dialogue, in_shell=not manners.platform.exec)

        with suppress(PatternError):
            size = sum(len(turn.came) for turn in said)
            result.recording = await self.patterns.apply(work, size)

    def _clean(self, text: bytes, effort: Effort) -> bytes:
        """A text without credentials, scrubbed, and without what looks like a secret."""
        stream: Iterable[bytes] = [text]
        for secret in self._secrets():
            stream = replace_literal(stream, secret, _MASK)
        return mask(b"".join(self._scrubbers.apply(stream, effort)))

    async def _evidence(self, transcript: Transcript, count: int) -> bytes:
        """The end of what came, without credentials and what looks like a secret, and scrubbed.

        Nothing if that is impossible.
        """

        def work(effort: Effort) -> bytes:
            return self._clean(transcript.last_lines(count), effort)[-count:]

        try:
            return await self.patterns.apply(work, min(count, transcript.size))
        except PatternError:
            return b""

    def _secrets(self) -> Iterator[bytes]:
        for known in self._credentials:
            for secret in (known.password, known.passphrase, known.enable):
                if secret:
                    yield secret.reveal().encode()


def _text(transcript: Transcript, spans: list[Span]) -> Iterator[bytes]:
    """The parts, one after the other, each beginning a line of its own."""
    last = b"\n"
    for span in spans:
        if span.end > span.start and not last.endswith(b"\n"):
            yield b"\n"
        for block in transcript.read(span):
            yield block
            last = block


def _blocks(file: IO[bytes]) -> Iterator[bytes]:
    file.seek(0)
    while block := file.read(BLOCK):
        yield block


def _excerpt(evidence: bytes) -> str:
    """The last of what came, fit for a sentence."""
    text = evidence[-_EXCERPT_CHARACTERS:].decode("utf-8", "replace").strip()
    return repr(text) if text else ""
