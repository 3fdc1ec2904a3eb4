"""What a platform's filters do to an output, and what the detectors find afterwards."""

import difflib
from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

import regex
from rich.console import Console

from roundsman.cli.lines import detail, step
from roundsman.platforms.load import Platform
from roundsman.wire.job import Job, Scrubber, ScrubberType
from roundsman.worker.detectors.scan import search
from roundsman.worker.scrubbers import Scrubbers

if TYPE_CHECKING:
    from collections.abc import Sequence

LINES: Final = 30
"""So many changed lines are shown."""
_SECONDS: Final = 5.0


def show_filters(console: Console, platform: Platform | None, job: Job, whole: bytes) -> None:
    """Show end marks, what each filter found, the changed lines, and what looks like a secret."""
    for command in job.command_set.commands if job.command_set else ():
        if command.end is not None:
            step(console, "end mark", f"{command.command}: {command.end!r} matched")
    text = whole
    if platform is not None:
        text = _show_kind(console, "noise", platform.noise, text)
        quiet = text
        text = _show_kind(console, "secrets", platform.secrets, text)
        _show_changes(console, whole, quiet, text)
    found = search([text])
    for one in found:
        what = f"{one.detector}: {one.count}, first on line {one.line} of the filtered result"
        step(console, "detector", what, style="yellow")
    if not found:
        step(console, "detectors", "nothing that looks like a secret is left")
    console.print()


def _show_kind(console: Console, kind: str, filters: "Sequence[Scrubber]", text: bytes) -> bytes:
    counts = []
    for rule in filters:
        counts.append(_count(rule, text))
        text = b"".join(Scrubbers([rule]).apply([text]))
    used = sum(1 for count in counts if count)
    step(console, kind, f"{used} of {len(filters)} filters found something")
    for number, (rule, count) in enumerate(zip(filters, counts, strict=True)):
        if count:
            line = f"{kind}[{number}] {count} times: {rule.search}"
            detail(console, line)
    return text


def _count(rule: Scrubber, text: bytes) -> int:
    if rule.type is ScrubberType.SIMPLE:
        return text.count(rule.search.encode())
    pattern = regex.compile(rule.search.encode(), regex.MULTILINE)
    return sum(1 for _ in pattern.finditer(text, timeout=_SECONDS))


def _show_changes(console: Console, whole: bytes, quiet: bytes, clean: bytes) -> None:
    """The lines that go as noise, and those with secrets as they are afterwards."""
    changes = [
        *((line, "red") for line in _changed(whole, quiet, "-")),
        *((line, "green") for line in _changed(quiet, clean, "+")),
    ]
    for line, style in changes[:LINES]:
        detail(console, line, style=style)
    if len(changes) > LINES:
        detail(console, f"and {len(changes) - LINES} lines more")


def _changed(before: bytes, after: bytes, sign: str) -> Iterator[str]:
    old, new = (text.decode("utf-8", "replace").splitlines() for text in (before, after))
    for line in difflib.unified_diff(old, new, lineterm="", n=0):
        if line.startswith(sign) and not line.startswith(("---", "+++")):
            yield "".join(c if c.isprintable() or c == "\t" else " " for c in line)
