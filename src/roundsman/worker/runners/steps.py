"""Steps: the commands of a job, each with what is expected of its output."""

from collections.abc import Iterator
from typing import Final, NamedTuple

from roundsman.wire.job import Command, Job, JobType
from roundsman.wire.run import FailureClass
from roundsman.worker.patterns import Effort, Pattern, PatternError
from roundsman.worker.runners.interface import RunFailedError
from roundsman.worker.sessions.errors import CommandError, UnverifiedError
from roundsman.worker.sessions.transcript import Span, Transcript

_END_BYTES: Final = 4096
"""The end of an output is looked for in its last so many bytes."""


class Step(NamedTuple):
    """One command with its expectations, ready to run."""

    command: Command
    expect: tuple[Pattern, ...]
    expect_not: tuple[Pattern, ...]
    end: Pattern | None

    @property
    def expects(self) -> bool:
        """Whether anything is expected of the output."""
        return bool(self.expect or self.expect_not or self.end)


def read_steps(job: Job, title: str) -> list[Step]:
    """The commands of a job with their patterns; of a job for files, none."""
    if job.type is JobType.FILE:
        if job.file_set is None or not job.file_set.files:
            raise RunFailedError(f"{title}: the job names no files", FailureClass.INVALID)
        return []
    if job.command_set is not None and job.command_set.commands:
        commands = job.command_set.commands
    else:
        commands = tuple(
            Command(command=line) for line in (job.command.inline if job.command else ())
        )
    if not commands:
        raise RunFailedError(f"{title}: the job names no commands", FailureClass.INVALID)
    try:
        return [
            Step(
                c,
                tuple(map(Pattern.of, c.expect)),
                tuple(map(Pattern.of, c.expect_not)),
                Pattern.of(rf"(?:{c.end})\s*\Z") if c.end else None,
            )
            for c in commands
        ]
    except PatternError as error:
        raise RunFailedError(f"{title}: {error.text}", FailureClass.COMMAND) from None


def check(step: Step, transcript: Transcript, output: Span, effort: Effort) -> None:
    """Hold an output against what is expected of it.

    Raises `CommandError`, `UnverifiedError`, and `NotQuickError` when the effort was too little.
    """
    name = step.command.command
    try:
        if step.expect and not any(
            p.found_in(transcript.read(output), effort) for p in step.expect
        ):
            wanted = " or ".join(repr(pattern.text) for pattern in step.expect)
            raise CommandError(f"the output of {name!r} does not match {wanted}")
        for pattern in step.expect_not:
            if pattern.found_in(transcript.read(output), effort):
                raise CommandError(
                    f"the output of {name!r} matches {pattern.text!r}, which it must not"
                )
        if step.end and not step.end.found_in(_end_of(transcript, output), effort):
            raise UnverifiedError(
                f"the output of {name!r} does not end with {step.command.end!r}, so that it is "
                "not certain to be whole"
            )
    except PatternError as error:
        raise CommandError(
            f"the output of {name!r} cannot be checked: {error.text}", remedy=error.remedy
        ) from None


def _end_of(transcript: Transcript, output: Span) -> Iterator[bytes]:
    """The last lines of an output."""
    start = max(output.start, output.end - _END_BYTES)
    text = b"".join(transcript.read(Span(start, output.end)))
    yield text if start == output.start else text[text.find(b"\n") + 1 :]
