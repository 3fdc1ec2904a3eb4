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

from contextlib import suppress
from dataclasses import dataclass
from typing import Final

from roundsman.worker.sessions.channel import Channel
from roundsman.worker.sessions.echo import Echoes
from roundsman.worker.sessions.ending import Ended, Proof, Question, repeated
from roundsman.worker.sessions.errors import ClosedEarlyError, EnableError, PromptError
from roundsman.worker.sessions.events import Hear, Learned, Purpose, nobody
from roundsman.worker.sessions.lines import Line, Lines
from roundsman.worker.sessions.login import Answers, TerminalLogin
from roundsman.worker.sessions.manners import LinePattern, Manners
from roundsman.worker.sessions.paging import Pages
from roundsman.worker.sessions.prompt import Ends, Prompt, same_but_numbers
from roundsman.worker.sessions.transcript import Span, Transcript


@dataclass(frozen=True, kw_only=True)
class Patience:
    """For how long nothing may come before a line that could be a prompt is taken for one."""

    first: float = 0.25
    """Seconds. Devices that write do not pause as long at a line that ends like a prompt."""
    repeated: float = 2.0
    """Seconds, once output has been disturbed by asking too soon."""
    waking: float = 5.0
    """Seconds without anything before the first prompt after which Enter is pressed, where nothing
    is asked: consoles show nothing before that, and a banner without a line end hides the prompt
    on its line. A few times: an Enter that came too soon hides it, too."""
    greeting: float = 30.0
    """For how many seconds nothing may come before the first prompt."""


_MOST_WAKINGS: Final = 3


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
        self._hear = hear
        self._lines = Lines(channel, transcript, hear)
        self._patience = patience = patience or Patience()
        self._manners = manners = manners or Manners()
        self._answers = Answers(manners)
        self._pages = Pages(self._lines, manners, first=patience.first, repeated=patience.repeated)
        self._woken = 0  # how often Enter was pressed before the first prompt
        self._echoes = Echoes(self._lines, manners, self._answers, patience.repeated)
        self._answered: Line | None = None  # the last question that was answered
        self._prompt = Prompt()

    @property
    def prompt(self) -> bytes:
        """The prompt, without trailing blanks; empty before it is learned."""
        return self._prompt.text

    @property
    def prompt_text(self) -> str:
        """The prompt, for messages."""
        return str(self._prompt)

    def give_up(self) -> None:
        """Add the unfinished line to the transcript. The shell is of no use afterwards."""
        self._lines.give_up()

    async def learn_prompt(
        self, ends_with: str | None = None, login: TerminalLogin | None = None
    ) -> None:
        """Wait for the first prompt after login and learn it exactly.

        `login` is what answers if the device asks for user and password in the terminal.
        """
        asked: list[Line] = []
        while True:
            line = self._lines.current
            preface = repeated(self._lines, asked[-1]) if asked else None
            if preface == () and len(asked) == 1 and not self._woken:
                break
            if await self._answer(login):
                continue
            ends = Ends.of((login and login.prompt_ends_with) or ends_with)
            new = line != self._answered and line not in asked[-1:]
            likely = new and self._is_likely(line.text, ends)
            # Only the first such line is answered at once. If the greeting went on after it, the
            # answer is still on its way, and what looks like it may be part of the greeting.
            at_once = likely and not asked and not (login and login.awaited)
            if not at_once and await self._receive_greeting(likely, login) is not None:
                continue
            if preface is not None:
                break  # and after this silence nothing is on its way any more
            preface = self._varying(asked)
            if preface is not None:
                break
            self._ask()
            asked.append(line)
        self._prompt = Prompt(line.text, preface, varies=asked[-1].text != line.text)
        self._hear(Learned(self.prompt))

    def _varying(self, asked: list[Line]) -> tuple[bytes, ...] | None:
        """What comes with each prompt, if the last three lines were one but for its numbers."""
        if len(asked) < 2 or not same_but_numbers(asked[-2].text, asked[-1].text):
            return None
        return repeated(self._lines, asked[-1], numbers_aside=True)

    def _is_likely(self, line: bytes, ends: Ends) -> bool:
        """Whether a line may be the first prompt."""
        if self._manners.knows_prompts:
            return self._manners.is_prompt(line) and ends.allow(line)
        return ends.fit(line)

    async def _receive_greeting(self, likely: bool, login: TerminalLogin | None) -> bytes | None:
        """Take what comes next before the first prompt; none after a silence, if it may be that."""
        silence = self._patience.first if likely else self._patience.greeting
        if likely and login is not None and login.awaited:
            silence = self._patience.repeated  # an empty line would be taken for a user name
        wakes = not likely and self._may_wake()
        finished = await self._lines.receive(self._patience.waking if wakes else silence)
        if finished is None and wakes:
            self._ask()
            self._woken += 1
            return b""
        if finished is None and not likely:
            raise PromptError(f"no prompt came, and nothing else for {silence:g} s")
        self._answers.check_greeting(finished or b"", self._lines.current.text, login)
        return finished

    def _may_wake(self) -> bool:
        """Whether Enter may be pressed unasked: nothing is asked, and no answer is on its way."""
        line = self._lines.current
        waits = not line.text or Ends.of(None).fit(line.text)
        return waits and self._woken < _MOST_WAKINGS and line != self._answered

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
        ends = Ends.of(ends_with)
        for silence, patient in ((self._patience.first, False), (self._patience.repeated, True)):
            line = command.encode() + (self._manners.enter if enter else b"")
            self._lines.send(line, Purpose.COMMAND)
            start = await self._echoes.skip(command if enter else None, self._prompt)
            proof = Proof(self._lines, self._prompt, self._manners, ends, expected)
            ended, disturbed = await self._prove_end(proof, silence, patient=patient)
            typed_at, self._prompt = self._prompt, ended.prompt
            output = Span(start, max(start, ended.at))
            if not disturbed and not (
                enter and await self._echoes.is_left_in(output, command, typed_at, patient=patient)
            ):
                return output
        raise PromptError(
            f"the end of the output of {command!r} cannot be told: it holds the prompt "
            f"{self.prompt_text} as a line of its own, and pauses there"
        )

    async def leave(self) -> None:
        """Log out. What comes now shows whether the last output had really ended."""
        for number, command in enumerate(self._manners.platform.logout):
            self._lines.send(command.encode() + self._manners.enter, Purpose.COMMAND)
            if number == 0:
                with suppress(ClosedEarlyError):
                    await self._echoes.skip(command, self._prompt)

    async def _prove_end(
        self, proof: Proof, silence: float, *, patient: bool
    ) -> tuple[Ended, bool]:
        """Read to the end; and say whether an empty line may have been echoed into the output."""
        asked: list[Question] = []
        unsure = False  # whether what may have been a pager's line was left in the output
        while True:
            if (ended := proof.ended(asked)) is not None:
                disturbed = len(asked) > 1 or ended.line != asked[0].line or unsure
                # After a disturbance only silence shows that every answer has come.
                if not disturbed or await self._lines.receive(silence) is None:
                    return ended, disturbed
                continue
            question = proof.question()
            if not (question and question.certain):
                if (turned := await self._pages.turn(patient=patient)) is not None:
                    unsure |= turned is False
                    continue
                if not question and await self._answer(None):
                    continue
                if not question and await self._follow_notice():
                    unsure = True
                    continue
            if question and asked and asked[-1].line == question.line:
                question = None  # asked already
            at_once = question and question.certain and not asked and not patient
            waits = silence if question else None
            if question and (at_once or await self._lines.receive(waits) is None):
                self._check_not_overdrawn()
                self._ask()
                asked.append(question)
            elif not question:
                await self._lines.receive()

    async def _answer(self, login: TerminalLogin | None) -> bool:
        """If the device asks something, answer it; whether it did, or anything came meanwhile."""
        line, before = self._lines.current, self._lines.text_before()
        if not line.text or not self._answers.asked(before, line.text, login):
            return False
        if line == self._answered:
            return False  # and the answer is on its way
        finished = await self._lines.receive(self._patience.first)
        if finished is None:
            answer = self._answers.answer(before, line.text, login)
            self._lines.send(answer, Purpose.ANSWER)
            self._answered = line
        elif not self.prompt:
            self._answers.check_greeting(finished, self._lines.current.text, login)
        return True

    async def _follow_notice(self) -> bool:
        """If a notice took the prompt's place, ask for it again; whether anything came of it."""
        line = self._lines.current
        last = self._lines.finished[-1] if self._lines.finished else None
        if line.text or last is None or line == self._answered:
            return False
        text = last.text
        if not self._manners.is_notice(text.removeprefix(self._prompt.at_start_of(text))):
            return False
        if await self._lines.receive(self._patience.first) is None:
            self._ask()
            self._answered = line
        return True

    def _check_not_overdrawn(self) -> None:
        """Refuse a prompt that replaced what stood before it on its line.

        Line editors of Unix write their prompt, return to the left and write it again: over output
        without a line end.
        """
        if self._lines.screen.overdrawn:
            raise PromptError(
                f"the prompt {self._prompt} was drawn over the last line of the output, which "
                "had no line end",
                remedy="have the command end its output with a line end",
            )

    def _ask(self) -> None:
        self._lines.send(self._manners.enter, Purpose.PROBE)
