"""The proof that an output has ended: the prompt came, an empty line was sent, it came again."""

from typing import NamedTuple

from roundsman.worker.sessions.lines import Line, Lines
from roundsman.worker.sessions.manners import LinePattern, Manners
from roundsman.worker.sessions.prompt import LONGEST_PREFACE, Ends, Prompt, same_but_numbers


class Question(NamedTuple):
    """An empty line that was sent, or may be, to see whether a line is the prompt."""

    line: Line
    """The line being written."""
    prompt: bytes
    """The prompt that it ends with, if it is one."""
    certain: bool
    """Whether the line is the prompt as learned, and nothing else."""

    @property
    def output_ends(self) -> int:
        """Where the output before the prompt ends in the transcript."""
        return self.line.start + len(self.line.text) - len(self.prompt)


class Ended(NamedTuple):
    """The proven end of an output."""

    at: int
    """Where in the transcript."""
    line: Line
    """The line with the prompt that came first."""
    prompt: Prompt


class Proof:
    """Looks at the lines of one output for its end."""

    def __init__(
        self,
        lines: Lines,
        prompt: Prompt,
        manners: Manners,
        ends: Ends,
        expected: LinePattern | None,
    ) -> None:
        """`ends` is how the prompt after it must end, `expected` that of the mode it leads to."""
        self._lines = lines
        self._prompt = prompt
        self._manners = manners
        self._ends = ends
        self._expected = expected

    def question(self) -> Question | None:
        """What to ask about the line being written, if it may be the prompt."""
        line, screen = self._lines.current, self._lines.screen
        if self._expected is not None and self._expected.is_all_of(line.text):
            return Question(line, line.text, certain=True)
        prompt = self._prompt.at_end_of(line.text)
        if prompt and self._ends.allow(prompt):
            fresh = not screen.continued and not screen.overdrawn
            return Question(line, prompt, certain=line.text == prompt and fresh)
        if self._is_of_other_mode(line.text):
            return Question(line, line.text, certain=False)
        return None

    def _is_of_other_mode(self, line: bytes) -> bool:
        if self._manners.is_prompt(line):
            return self._ends.allow(line)
        if not self._ends.fit(line):
            return False
        # The same with other numbers: prompts may show the time.
        return self._prompt.is_on_same_host(line) or same_but_numbers(line, self._prompt.text)

    def ended(self, asked: list[Question]) -> Ended | None:
        """The end of the output, if the prompt came once more after we asked."""
        if not asked:
            return None
        question, now = asked[-1], self._lines.current.text
        if now == question.line.text:
            # The line as a whole came again: the prompt of before may have grown to its left.
            question = question._replace(prompt=now)
        elif now != question.prompt and not self._is_prompt_twice(now, question.prompt):
            return None
        if not self._prompt.is_all_of(question.prompt):
            preface = repeated(self._lines, question.line)
            if preface is None or question.line.start < asked[0].line.start:
                return None
            return self._ended_at(question, preface)
        found = self._line_before_preface()
        if found is None or found[0].start < asked[0].line.start:
            return None
        line, preface = found
        if line == question.line:
            return self._ended_at(question, preface)
        if self._prompt.is_all_of(line.text):  # the answer to an earlier question came late
            return self._ended_at(Question(line, line.text, certain=True), preface)
        return None

    def _is_prompt_twice(self, one: bytes, other: bytes) -> bool:
        return self._prompt.is_all_of(one) and self._prompt.is_all_of(other)

    def _ended_at(self, question: Question, preface: tuple[bytes, ...]) -> Ended:
        prompt = self._prompt.changed(question.prompt, preface)
        return Ended(self._output_end(question, prompt), question.line, prompt)

    def _line_before_preface(self) -> tuple[Line, tuple[bytes, ...]] | None:
        """Of the finished lines the last, apart from those that belong to the next prompt."""
        lines = list(self._lines.finished)
        count = len(self._prompt.preface)
        preface = tuple(line.text for line in lines[len(lines) - count :])
        if len(lines) <= count or not self._prompt.is_preface(preface):
            return None
        return lines[-count - 1], preface

    def _output_end(self, question: Question, prompt: Prompt) -> int:
        """Where the output ends: before the prompt, and before what comes with each prompt."""
        before = [line for line in self._lines.finished if line.start < question.line.start]
        own = before[len(before) - len(prompt.preface) :]
        if own and prompt.is_preface([line.text for line in own]):
            return own[0].start
        return question.output_ends


def repeated(lines: Lines, line: Line, *, numbers_aside: bool = False) -> tuple[bytes, ...] | None:
    """If a line came, was ended, and now stands there again: the few lines in between."""
    between = [later.text for later in lines.finished if later.start > line.start]
    if line not in lines.finished or len(between) > LONGEST_PREFACE:
        return None
    now = lines.current.text
    same = now == line.text or (numbers_aside and same_but_numbers(now, line.text))
    return tuple(between) if same else None
