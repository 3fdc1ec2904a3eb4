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

Where the device's platform is known (`manners`), its questions are answered, its pagers are turned
and their remnants removed, its prompts are told from other lines, and its privileged mode is
reached.

The patience is a wait for silence. It is only needed where a line is not exactly the prompt: output
without a line end before the prompt, or another prompt because the command changed the mode; and
before questions are answered.
"""

import asyncio
import re
from collections import deque
from contextlib import suppress
from dataclasses import dataclass
from typing import Final, NamedTuple

from roundsman.worker.sessions.channel import WINDOW_COLUMNS, Channel
from roundsman.worker.sessions.errors import (
    ClosedEarlyError,
    EnableError,
    PromptError,
    TooLargeError,
)
from roundsman.worker.sessions.events import Came, Hear, Learned, Purpose, Sent, nobody
from roundsman.worker.sessions.login import Answers, TerminalLogin
from roundsman.worker.sessions.manners import LinePattern, Manners
from roundsman.worker.sessions.terminal import LineRenderer, Strike
from roundsman.worker.sessions.transcript import Span, Transcript

DEFAULT_PROMPT_ENDS: Final = (b"#", b">", b"$", b"%")
"""What a prompt ends with where nothing is configured."""

_HOST: Final = re.compile(rb"[\w.@-]+")

_LONGEST_PREFACE: Final = 3
"""Lines that may come with each prompt, before it: `{master}`, `[edit]`."""


@dataclass(frozen=True, kw_only=True)
class Patience:
    """For how long nothing may come before a line that could be a prompt is taken for one."""

    first: float = 0.25
    """Seconds. Devices that write do not pause as long at a line that ends like a prompt."""
    repeated: float = 2.0
    """Seconds, once output has been disturbed by asking too soon."""
    greeting: float = 30.0
    """For how many seconds nothing may come before the first prompt."""


_LONGEST_BEFORE: Final = 1024
"""Bytes of each line before it that are looked at for a question."""


class _Line(NamedTuple):
    """A line that came."""

    start: int
    """Where it begins in the transcript."""
    text: bytes
    """Without trailing blanks."""


class _Question(NamedTuple):
    """An empty line that was sent, or may be, to see whether a line is the prompt."""

    line: _Line
    """The line being written."""
    prompt: bytes
    """The prompt that it ends with, if it is one."""
    certain: bool
    """Whether the line is the prompt as learned, and nothing else."""

    @property
    def output_ends(self) -> int:
        """Where the output before the prompt ends in the transcript."""
        return self.line.start + len(self.line.text) - len(self.prompt)


class _Ended(NamedTuple):
    """The proven end of an output."""

    at: int
    """Where in the transcript."""
    line: _Line
    """The line with the prompt that came first."""
    prompt: bytes
    preface: tuple[bytes, ...]


class Shell:
    """A shell on a device, logged in. One command at a time."""

    def __init__(
        self,
        channel: Channel,
        transcript: Transcript,
        *,
        patience: Patience | None = None,
        manners: Manners | None = None,
        hear: Hear = nobody,
    ) -> None:
        """Speak over `channel`; all that comes, drawn as text, goes to `transcript`."""
        self._channel = channel
        self._transcript = transcript
        self._patience = patience or Patience()
        self._manners = manners or Manners()
        self._hear = hear
        self._answers = Answers(self._manners)
        self._pagers_wipe: bool | None = None  # whether pagers wipe their line; none: not known
        self._screen = LineRenderer()
        self._finished: deque[_Line] = deque(maxlen=2 * _LONGEST_PREFACE + 2)  # the last lines
        self._answered: _Line | None = None  # the last question that was answered
        self._echoes = False  # whether the device has echoed yet
        self.prompt = b""  # without trailing blanks; empty before it is learned
        self._preface: tuple[bytes, ...] = ()  # lines that come before each prompt

    @property
    def prompt_text(self) -> str:
        """The prompt, for messages."""
        return repr(self.prompt.decode("utf-8", "replace"))

    def give_up(self) -> None:
        """Add the unfinished line to the transcript. The shell is of no use afterwards."""
        with suppress(TooLargeError):
            self._transcript.write(self._screen.line)

    async def learn_prompt(
        self, ends_with: str | None = None, login: TerminalLogin | None = None
    ) -> None:
        """Wait for the first prompt after login and learn it exactly.

        `login` is what answers if the device asks for user and password in the terminal.
        """
        asked: list[_Line] = []
        while True:
            line = self._line()
            preface = self._repeated(asked[-1]) if asked else None
            if preface == () and len(asked) == 1:
                break
            if await self._answer(login):
                continue
            ends = _ends((login and login.prompt_ends_with) or ends_with)
            new = line != self._answered and line not in asked[-1:]
            likely = new and self._likely(line.text, ends)
            # Only the first such line is answered at once. If the greeting went on after it, the
            # answer is still on its way, and what looks like it may be part of the greeting.
            at_once = likely and not asked and not (login and login.awaited)
            if not at_once and await self._receive_greeting(likely, login) is not None:
                continue
            if preface is not None:
                break  # and after this silence nothing is on its way any more
            self._ask()
            asked.append(line)
        self.prompt, self._preface = line.text, preface
        self._hear(Learned(self.prompt))

    def _likely(self, line: bytes, ends: tuple[bytes, ...] | None) -> bool:
        """Whether a line may be the first prompt."""
        if self._manners.knows_prompts and not self._manners.is_prompt(line):
            return False
        if ends is None and self._manners.knows_prompts:
            return True
        return line.endswith(ends or DEFAULT_PROMPT_ENDS)

    async def _receive_greeting(self, likely: bool, login: TerminalLogin | None) -> bytes | None:
        """Take what comes next before the first prompt; none after a silence, if it may be that."""
        silence = self._patience.first if likely else self._patience.greeting
        if likely and login is not None and login.awaited:
            silence = self._patience.repeated  # an empty line would be taken for a user name
        finished = await self._receive(silence)
        if finished is None and not likely:
            raise PromptError(f"no prompt came, and nothing else for {silence:g} s")
        self._answers.check_greeting(finished or b"", self._line().text, login)
        return finished

    async def enable(self, secret: bytes | None) -> None:
        """Reach the privileged mode, if the platform has one and this is not it already."""
        enable, enabled = self._manners.platform.enable, self._manners.enabled
        if enable is None or enabled is None or enabled.is_all_of(self.prompt):
            return
        self._answers.enable_with(secret)
        await self.run(enable.command, expected=enabled)
        self._answers.enabled()
        self._hear(Learned(self.prompt))
        if not enabled.is_all_of(self.prompt):
            raise EnableError(
                f"{enable.command!r} led to the prompt {self.prompt_text}, which does not match "
                f"{enable.prompt!r}",
                remedy="check the enable secret of the device's credentials, and its platform",
            )

    async def run(
        self,
        command: str,
        *,
        ends_with: str | None = None,
        enter: bool = True,
        expected: LinePattern | None = None,
    ) -> Span:
        """Run one command; return where in the transcript its output is.

        Neither the echo nor a prompt is part of it. `ends_with` is how the prompt after it must
        end; any is accepted when absent. Without `enter` the text is sent alone. `expected` is the
        prompt of the mode to which the command leads, if that is known.
        """
        ends = _ends(ends_with)
        for silence, patient in ((self._patience.first, False), (self._patience.repeated, True)):
            self._send(command.encode() + (self._manners.enter if enter else b""), Purpose.COMMAND)
            start = await self._skip_echo(command if enter else None)
            ended, disturbed = await self._prove_end(ends, silence, expected, patient=patient)
            self.prompt, self._preface = ended.prompt, ended.preface
            if not disturbed:
                return Span(start, max(start, ended.at))
        raise PromptError(
            f"the end of the output of {command!r} cannot be told: it holds the prompt "
            f"{self.prompt_text} as a line of its own, and pauses there"
        )

    async def leave(self) -> None:
        """Log out. What comes now shows whether the last output had really ended."""
        for number, command in enumerate(self._manners.platform.logout):
            self._send(command.encode() + self._manners.enter, Purpose.COMMAND)
            if number == 0:
                with suppress(ClosedEarlyError):
                    await self._skip_echo(command)

    async def _prove_end(
        self,
        ends: tuple[bytes, ...] | None,
        silence: float,
        expected: LinePattern | None,
        *,
        patient: bool,
    ) -> tuple[_Ended, bool]:
        """Read to the end; and say whether an empty line may have been echoed into the output."""
        asked: list[_Question] = []
        unsure = False  # whether what may have been a pager's line was left in the output
        while True:
            if (ended := self._ended(asked)) is not None:
                disturbed = len(asked) > 1 or ended.line != asked[0].line or unsure
                # After a disturbance only silence shows that every answer has come.
                if not disturbed or await self._receive(silence) is None:
                    return ended, disturbed
                continue
            question = self._question(ends, expected)
            if not (question and question.certain):
                if (turned := await self._turn_page(patient=patient)) is not None:
                    unsure |= turned is False
                    continue
                if not question and await self._answer(None):
                    continue
            if question and asked and asked[-1].line == question.line:
                question = None  # asked already
            at_once = question and question.certain and not asked and not patient
            waits = silence if question else None
            if question and (at_once or await self._receive(waits) is None):
                self._check_not_overdrawn()
                self._ask()
                asked.append(question)
            elif not question:
                await self._receive()

    async def _turn_page(self, *, patient: bool) -> bool | None:
        """If a pager waits, go on; whether its line was removed, or none if there is no pager."""
        line = self._line()
        pager = self._manners.pager(line.text)
        if pager is None:
            return None
        surely = patient or not self._pagers_wipe
        if surely and await self._receive(self._patience.first) is not None:
            return True  # it went on: it was text
        self._screen.strike(Strike.SURELY if surely else Strike.IF_WIPED)
        self._send(pager.key.encode(), Purpose.PAGE)
        while self._screen.struck is None:
            silence = None if surely else self._patience.repeated
            if await self._receive(silence) is None:
                self._send(pager.key.encode(), Purpose.PAGE)  # the one before had come too soon
        if self._screen.struck:
            self._pagers_wipe = True
        return self._screen.struck or surely

    async def _answer(self, login: TerminalLogin | None) -> bool:
        """If the device asks something, answer it; whether it did, or anything came meanwhile."""
        line = self._line()
        if not line.text or not self._answers.asked(self._text_before(), line.text, login):
            return False
        if line == self._answered:
            return False  # and the answer is on its way
        finished = await self._receive(self._patience.first)
        if finished is None:
            answer = self._answers.answer(self._text_before(), line.text, login)
            self._send(answer, Purpose.ANSWER)
            self._answered = line
        elif not self.prompt:
            self._answers.check_greeting(finished, self._line().text, login)
        return True

    def _text_before(self) -> bytes:
        """The last finished lines."""
        return b"".join(line.text[-_LONGEST_BEFORE:] + b"\n" for line in self._finished)

    def _question(
        self, ends: tuple[bytes, ...] | None, expected: LinePattern | None
    ) -> _Question | None:
        """Whether to ask about the line being written."""
        line = self._line()
        if expected is not None and expected.is_all_of(line.text):
            return _Question(line, line.text, certain=True)
        if line.text.endswith(self.prompt) and (ends is None or self.prompt.endswith(ends)):
            fresh = not self._screen.continued and not self._screen.overdrawn
            certain = line.text == self.prompt and fresh
            return _Question(line, self.prompt, certain)
        if self._other_mode(line.text, ends):
            return _Question(line, line.text, certain=False)
        return None

    def _check_not_overdrawn(self) -> None:
        """Refuse a prompt that replaced what stood before it on its line.

        Line editors of Unix write their prompt, return to the left and write it again: over output
        without a line end.
        """
        if self._screen.overdrawn:
            raise PromptError(
                f"the prompt {self.prompt_text} was drawn over the last line of the output, which "
                "had no line end",
                remedy="have the command end its output with a line end",
            )

    def _other_mode(self, line: bytes, ends: tuple[bytes, ...] | None) -> bool:
        """Whether a line may be the prompt of another mode."""
        if self._manners.is_prompt(line):
            return ends is None or line.endswith(ends)
        return line.endswith(ends or DEFAULT_PROMPT_ENDS) and self._same_host(line)

    def _same_host(self, line: bytes) -> bool:
        """Whether a line could be our device's prompt in another mode: it begins alike."""
        ours, theirs = _HOST.match(self.prompt), _HOST.match(line)
        return (ours and ours[0]) == (theirs and theirs[0])

    def _ended(self, asked: list[_Question]) -> _Ended | None:
        """The end of the output, if the prompt came once more after we asked."""
        if not asked:
            return None
        question, now = asked[-1], self._line().text
        if now == question.line.text:
            # The line as a whole came again: the prompt of before may have grown to its left.
            question = question._replace(prompt=now)
        elif now != question.prompt:
            return None
        line: _Line | None = question.line
        preface: tuple[bytes, ...] | None = self._preface
        if question.prompt == self.prompt:
            line = self._line_before_preface()
        else:
            preface = self._repeated(question.line)
        if line is None or preface is None or line.start < asked[0].line.start:
            return None
        if line == question.line:
            return _Ended(self._output_end(question, preface), line, question.prompt, preface)
        if line.text == self.prompt:  # the answer to an earlier question came late
            late = _Question(line, self.prompt, certain=True)
            return _Ended(self._output_end(late, preface), line, self.prompt, preface)
        return None

    def _line_before_preface(self) -> _Line | None:
        """Of the finished lines the last, apart from those that belong to the next prompt."""
        lines = list(self._finished)
        count = len(self._preface)
        preface = lines[len(lines) - count :]
        if len(lines) <= count or tuple(line.text for line in preface) != self._preface:
            return None
        return lines[-count - 1]

    def _output_end(self, question: _Question, preface: tuple[bytes, ...]) -> int:
        """Where the output ends: before the prompt, and before what comes with each prompt."""
        before = [line for line in self._finished if line.start < question.line.start]
        own = before[len(before) - len(preface) :]
        if own and tuple(line.text for line in own) == preface:
            return own[0].start
        return question.output_ends

    def _repeated(self, line: _Line) -> tuple[bytes, ...] | None:
        """If the line came, was ended, and now stands there again: the few lines in between."""
        between = [later.text for later in self._finished if later.start > line.start]
        if line not in self._finished or len(between) > _LONGEST_PREFACE:
            return None
        return tuple(between) if self._line().text == line.text else None

    async def _skip_echo(self, sent: str | None) -> int:
        """Read to the end of the echo; return where in the transcript the output begins.

        `sent` is none for text without a line end, whose echo may look like anything.
        """
        position = self._transcript.size
        column = len(self._screen.line)  # where a device without echo begins to write
        while True:
            silent = not self._echoes and self._waits()
            finished = await self._receive(self._patience.repeated if silent else None)
            if finished is None:
                return position + column  # no echo, and no output
            for line in finished.splitlines(keepends=True):
                text = line.rstrip()
                if text.startswith(self.prompt) and self._is_echo(text, sent):
                    self._echoes = True
                    return position + len(line)
                if self._echoes:
                    raise self._went_on()
                if text != self.prompt and text not in self._preface:
                    return position + column
                # The prompt alone: a device without echo ended its line.
                position += len(line)
                column = 0

    def _waits(self) -> bool:
        """Whether the device waits for us, as far as can be told from its line."""
        line = self._line().text
        return line == self.prompt or (
            self._manners.pager(line) is not None or self._answers.asked(b"", line, None)
        )

    def _is_echo(self, line: bytes, sent: str | None) -> bool:
        """Whether a line is the prompt and what was sent, as a line editor may show it."""
        if sent is None or not sent.isprintable():
            return True
        if len(self.prompt) + 1 + len(sent.encode()) >= WINDOW_COLUMNS:
            return True  # scrolled within its line: drawn in ways of which no rule is left
        shown, typed = line.removeprefix(self.prompt).split(), sent.encode().split()
        # Some editors complete words: "show conf" is echoed as "show configuration". Others leave
        # out the end of what was sent.
        return 0 < len(shown) <= len(typed) and all(
            ours.startswith(theirs) or theirs.startswith(ours)
            for theirs, ours in zip(shown, typed, strict=False)
        )

    def _went_on(self) -> PromptError:
        return PromptError(
            f"the device went on writing after its prompt {self.prompt_text} had come twice: the "
            "output before cannot be told from what followed"
        )

    def _ask(self) -> None:
        self._send(self._manners.enter, Purpose.PROBE)

    def _send(self, data: bytes, purpose: Purpose) -> None:
        self._hear(Sent(data, purpose))
        self._channel.write(data)

    def _line(self) -> _Line:
        """The line being written."""
        return _Line(self._transcript.size, self._screen.line.rstrip())

    async def _receive(self, silence: float | None = None) -> bytes | None:
        """Take what comes next; return the lines it finished, or none after a silence (seconds)."""
        if silence is None:
            data = await self._channel.read()
        else:
            try:
                async with asyncio.timeout(silence):
                    data = await self._channel.read()
            except TimeoutError:
                return None
        if not data:
            raise ClosedEarlyError("the device closed the session before its prompt came")
        self._hear(Came(data))
        finished = self._screen.feed(data)
        if finished:
            self._note(finished)
            self._transcript.write(finished)
        return finished

    def _note(self, finished: bytes) -> None:
        """Remember the last of the finished lines."""
        start = len(finished)
        noted: list[_Line] = []
        while start and len(noted) < (self._finished.maxlen or 0):
            end, start = start, finished.rfind(b"\n", 0, start - 1) + 1
            noted.append(_Line(self._transcript.size + start, finished[start:end].rstrip()))
        self._finished.extend(reversed(noted))


def _ends(ends_with: str | None) -> tuple[bytes, ...] | None:
    """What is configured, trailing blanks aside."""
    text = (ends_with or "").rstrip().encode()
    return (text,) if text else None
