"""Echoes: what a device shows of what was typed."""

from roundsman.worker.sessions.channel import WINDOW_COLUMNS
from roundsman.worker.sessions.errors import PromptError
from roundsman.worker.sessions.lines import Lines
from roundsman.worker.sessions.login import Answers
from roundsman.worker.sessions.manners import Manners
from roundsman.worker.sessions.prompt import Prompt
from roundsman.worker.sessions.transcript import Span


class Echoes:
    """Finds the echo of each line, where the device echoes."""

    def __init__(self, lines: Lines, manners: Manners, answers: Answers, patience: float) -> None:
        """`patience` is how long a device that may not echo is waited for, in seconds."""
        self._lines = lines
        self._manners = manners
        self._answers = answers
        self._patience = patience
        self._seen = False  # whether the device has echoed yet

    async def skip(self, sent: str | None, prompt: Prompt) -> int:
        """Read to the end of the echo; return where in the transcript the output begins.

        `sent` is none for text without a line end, whose echo may look like anything. Raises
        `PromptError` when something else comes: what was read before had not ended.
        """
        position = self._lines.position
        column = len(self._lines.screen.line)  # where a device without echo begins to write
        noticed = False  # whether a notice has taken the prompt's place before the echo
        # A device that has answered nothing at all is slow. Keys may well be answered by nothing.
        answered = sent is None
        while True:
            silent = answered and not self._seen and self._waits(prompt)
            finished = await self._lines.receive(self._patience if silent else None)
            if finished is None:
                return position + column  # no echo, and no output
            answered = True
            for line in finished.splitlines(keepends=True):
                text = line.rstrip()
                begins = prompt.at_start_of(text)
                if (begins or noticed) and _is_echo(text.removeprefix(begins), sent, len(begins)):
                    self._seen = True
                    return position + len(line)
                if self._manners.is_notice(text.removeprefix(begins)):
                    noticed = True
                elif self._seen and not (noticed and prompt.is_all_of(text)):
                    raise _went_on(prompt)
                elif not prompt.is_all_of(text) and not prompt.is_in_preface(text):
                    return position + column
                # The prompt alone: a device without echo ended its line.
                position += len(line)
                column = 0

    async def is_left_in(self, output: Span, sent: str, prompt: Prompt, *, patient: bool) -> bool:
        """Whether an output may begin with an echo, so that it has to be read again.

        Terminals that were busy when the line was typed echo it twice. A device that shows it again
        after a silence, which is waited for here, has printed it (`patient`): it was not busy. One
        that was not seen to echo may have echoed too late, or in a way that was not recognised:
        raises `PromptError` then, if that happens again.
        """
        typed = sent.strip().encode()
        line = self._lines.first_line_of(output, len(prompt.text) + WINDOW_COLUMNS).strip()
        if self._seen:
            repeated = line.removeprefix(prompt.at_start_of(line)).strip() == typed
        else:
            repeated = line.endswith(typed)
        if not typed or not repeated or (patient and self._seen):
            return False
        if patient:
            raise PromptError(
                f"the output of {sent!r} begins with the command itself, and no echo of it was "
                "seen before: which of both this is cannot be told"
            )
        while await self._lines.receive(self._patience) is not None:
            pass
        return True

    def _waits(self, prompt: Prompt) -> bool:
        """Whether the device waits for us, as far as can be told from its line."""
        line = self._lines.current.text
        return prompt.is_all_of(line) or (
            self._manners.pager(line) is not None or self._answers.asked(b"", line, None)
        )


def _is_echo(shown_text: bytes, sent: str | None, prompt_columns: int) -> bool:
    """Whether text after the prompt is what was sent, as a line editor may show it."""
    if sent is None or not sent.isprintable():
        return True
    if prompt_columns + 1 + len(sent.encode()) >= WINDOW_COLUMNS:
        return True  # scrolled within its line: drawn in ways of which no rule is left
    shown, typed = shown_text.split(), sent.encode().split()
    # Some editors complete words: "show conf" is echoed as "show configuration". Others leave
    # out the end of what was sent.
    return 0 < len(shown) <= len(typed) and all(
        ours.startswith(theirs) or theirs.startswith(ours)
        for theirs, ours in zip(shown, typed, strict=False)
    )


def _went_on(prompt: Prompt) -> PromptError:
    return PromptError(
        f"the device went on writing after its prompt {prompt} had come twice: the "
        "output before cannot be told from what followed"
    )
