"""Prompts: runs commands in a device's shell, and proves that it read each output to its end.

What is proven, and how (docs/adr/0009-sessions.md has the reasons, and what cannot be seen):

1. After login a line comes that ends as the prompt should. An empty line is sent. When the same
   line comes again, it is the prompt: host name and all, known exactly from here on.
2. A command's output has ended when the prompt stands alone on the last line, an empty line was
   sent after it was seen, and the prompt came once more. Lines that merely look like a prompt
   do not end anything.
3. Before the next command, and before leaving, nothing but the echo of what is sent may come.

If output went on after all (it held the very line that is the prompt), the empty line may have
been echoed into the midst of it: that output is dropped, and the command is run again with more
patience.

The patience is a wait for silence. It is only needed where a line is not exactly the prompt: output
without a line end before the prompt, or another prompt because the command changed the mode.
"""

import asyncio
import re
from contextlib import suppress
from dataclasses import dataclass
from typing import Final, NamedTuple

from roundsman.worker.sessions.channel import WINDOW_COLUMNS, Channel
from roundsman.worker.sessions.errors import ClosedEarlyError, PromptError
from roundsman.worker.sessions.terminal import LineRenderer
from roundsman.worker.sessions.transcript import Span, Transcript

_ENTER: Final = b"\n"
_LEAVE: Final = b"exit"

DEFAULT_PROMPT_ENDS: Final = (b"#", b">", b"$", b"%")
"""What a prompt ends with where nothing is configured."""

_HOST: Final = re.compile(rb"[\w.@-]+")


@dataclass(frozen=True, kw_only=True)
class Patience:
    """For how long nothing may come before a line that could be a prompt is taken for one."""

    first: float = 0.25
    """Seconds. Devices that write do not pause as long at a line that ends like a prompt."""
    repeated: float = 2.0
    """Seconds, once output has been disturbed by asking too soon."""


class _Candidate(NamedTuple):
    """The line being written, which may be a prompt."""

    start: int
    """Where it begins in the transcript."""
    line: bytes
    """As it reads, without trailing blanks."""
    prompt: bytes
    """The prompt that it ends with, if it is one; without trailing blanks."""
    exact: bool
    """Whether the line is the prompt as learned, and nothing else."""

    @property
    def end_of_output(self) -> int:
        """Where the output before the prompt ends in the transcript."""
        return self.start + len(self.line) - len(self.prompt)


class Shell:
    """A shell on a device, logged in. One command at a time."""

    def __init__(
        self, channel: Channel, transcript: Transcript, *, patience: Patience | None = None
    ) -> None:
        """Speak over `channel`; all that comes, drawn as text, goes to `transcript`."""
        self._channel = channel
        self._transcript = transcript
        self._patience = patience or Patience()
        self._screen = LineRenderer()
        self._last_line = b""  # the last finished line, without trailing blanks
        self._last_line_start = 0
        self._echoes = False  # whether the device has echoed yet
        self.prompt = b""  # without trailing blanks; empty before it is learned

    @property
    def prompt_text(self) -> str:
        """The prompt, for messages."""
        return _show(self.prompt)

    def give_up(self) -> None:
        """Add the unfinished line to the transcript. The shell is of no use afterwards."""
        self._transcript.write(self._screen.line)

    async def learn_prompt(self, ends_with: str | None) -> None:
        """Wait for the first prompt after login and learn it exactly."""
        ends = _ends(ends_with) or DEFAULT_PROMPT_ENDS
        asked: tuple[int, bytes] | None = None
        while True:
            here = self._transcript.size, self._line()
            repeated = asked is not None and here[1].endswith(ends) and here[1] == self._last_line
            if repeated and asked == (self._last_line_start, self._last_line):
                break
            # Only the first such line is answered at once. If the greeting went on after it, the
            # answer is still on its way, and what looks like it may be part of the greeting.
            if here[1].endswith(ends) and asked is None:
                self._channel.write(_ENTER)
                asked = here
            wait = self._patience.first if here[1].endswith(ends) and asked != here else None
            if await self._receive(wait) is None:
                if repeated:
                    break
                self._channel.write(_ENTER)
                asked = here
        self.prompt = self._line()

    async def run(self, command: str, *, ends_with: str | None = None, enter: bool = True) -> Span:
        """Run one command; return where in the transcript its output is.

        Neither the echo nor a prompt is part of it. `ends_with` is how the prompt after it must
        end; any is accepted when absent. Without `enter` the text is sent alone.
        """
        ends = _ends(ends_with)
        output, disturbed = await self._run_once(command, ends, self._patience.first, enter=enter)
        if not disturbed:
            return output
        output, disturbed = await self._run_once(
            command, ends, self._patience.repeated, enter=enter, patient=True
        )
        if disturbed:
            raise PromptError(
                f"the end of the output of {command!r} cannot be told: it holds the prompt "
                f"{_show(self.prompt)} as a line of its own, and pauses there"
            )
        return output

    async def leave(self) -> None:
        """Log out. What comes now shows whether the last output had really ended."""
        self._channel.write(_LEAVE + _ENTER)
        with suppress(ClosedEarlyError):
            await self._skip_echo(_LEAVE.decode())

    async def _run_once(
        self,
        command: str,
        ends: tuple[bytes, ...] | None,
        silence: float,
        *,
        enter: bool,
        patient: bool = False,
    ) -> tuple[Span, bool]:
        """The output, and whether an empty line may have been echoed into it."""
        self._channel.write(command.encode() + (_ENTER if enter else b""))
        start = await self._skip_echo(command if enter else None)
        asked: list[_Candidate] = []
        while (end := self._proven_end(asked)) is None:
            candidate = self._candidate(ends)
            if candidate and asked and asked[-1].start == candidate.start:
                candidate = None  # asked already
            at_once = candidate and candidate.exact and not asked and not patient
            if candidate and (at_once or await self._receive(silence) is None):
                self._channel.write(_ENTER)
                asked.append(candidate)
            elif not candidate:
                await self._receive()
        self.prompt = asked[-1].prompt
        disturbed = len(asked) > 1 or self._last_line_start != asked[0].start
        return Span(start, max(start, end)), disturbed

    def _candidate(self, ends: tuple[bytes, ...] | None) -> _Candidate | None:
        """What the line being written might be, if anything."""
        line = self._line()
        if line.endswith(self.prompt) and (ends is None or self.prompt.endswith(ends)):
            exact = line == self.prompt and not self._screen.continued
            return _Candidate(self._transcript.size, line, self.prompt, exact)
        if line.endswith(ends or DEFAULT_PROMPT_ENDS) and self._same_host(line):
            return _Candidate(self._transcript.size, line, line, exact=False)
        return None

    def _same_host(self, line: bytes) -> bool:
        """Whether a line could be our device's prompt in another mode: it begins alike."""
        ours, theirs = _HOST.match(self.prompt), _HOST.match(line)
        return (ours and ours[0]) == (theirs and theirs[0])

    def _proven_end(self, asked: list[_Candidate]) -> int | None:
        """Where the output ends, if the prompt came once more after we asked."""
        if not asked or self._line() != asked[-1].prompt:
            return None
        candidate = asked[-1]
        if self._last_line_start == candidate.start and self._last_line == candidate.line:
            return candidate.end_of_output
        if candidate.exact and self._last_line == candidate.prompt:
            return self._last_line_start  # an earlier question was answered late
        return None

    async def _skip_echo(self, sent: str | None) -> int:
        """Read to the end of the echo; return where in the transcript the output begins.

        `sent` is none for text without a line end, whose echo may look like anything.
        """
        position = self._transcript.size
        column = len(self._screen.line)  # where a device without echo begins to write
        while True:
            silent = not self._echoes and self._line() == self.prompt
            finished = await self._receive(self._patience.repeated if silent else None)
            if finished is None:
                return position + column  # no echo, and no output
            for line in finished.splitlines(keepends=True):
                text = line.rstrip()
                if text.startswith(self.prompt) and self._is_echo(text, sent):
                    self._echoes = True
                    return position + len(line)
                if text != self.prompt:
                    self._expect_no_echo()
                    return position + column
                # A prompt that was asked for twice, or the line end of a device without echo.
                position += len(line)
                column = 0

    def _is_echo(self, line: bytes, sent: str | None) -> bool:
        """Whether a line is the prompt and what was sent, as a line editor may show it."""
        if sent is None or not sent.isprintable():
            return True
        if len(self.prompt) + 1 + len(sent.encode()) >= WINDOW_COLUMNS:
            return True  # scrolled within its line: drawn in ways of which no rule is left
        shown, typed = line.removeprefix(self.prompt).split(), sent.encode().split()
        # Some editors complete words: "show conf" is echoed as "show configuration".
        return len(shown) == len(typed) and all(map(bytes.startswith, shown, typed))

    def _expect_no_echo(self) -> None:
        """Something other than the echo came: from a device that has echoed, a contradiction."""
        if self._echoes:
            raise PromptError(
                f"the device went on writing after its prompt {_show(self.prompt)} had come "
                "twice: the output before cannot be told from what followed"
            )
        self._echoes = False

    def _line(self) -> bytes:
        return self._screen.line.rstrip()

    async def _receive(self, silence: float | None = None) -> bytes | None:
        """Take what comes next; return the lines it finished, or none after a silence (seconds)."""
        try:
            async with asyncio.timeout(silence):
                data = await self._channel.read()
        except TimeoutError:
            return None
        if not data:
            raise ClosedEarlyError("the device closed the session before its prompt came")
        finished = self._screen.feed(data)
        if finished:
            last = finished.rfind(b"\n", 0, -1) + 1
            self._last_line = finished[last:].rstrip()
            self._last_line_start = self._transcript.size + last
            self._transcript.write(finished)
        return finished


def _ends(ends_with: str | None) -> tuple[bytes, ...] | None:
    """What is configured, trailing blanks aside."""
    text = (ends_with or "").rstrip().encode()
    return (text,) if text else None


def _show(prompt: bytes) -> str:
    return repr(prompt.decode("utf-8", "replace"))
