"""A session, shown step by step to the person who writes its platform."""

import time
from collections.abc import Callable
from typing import Final

from rich.console import Console

from roundsman.cli import lines
from roundsman.cli.advice import advise, nearest, propose_prompt
from roundsman.cli.attempt import readable
from roundsman.wire.platform import Platform
from roundsman.worker.sessions.events import (
    Began,
    Came,
    Connected,
    Ended,
    Event,
    Learned,
    Purpose,
    Sent,
)
from roundsman.worker.sessions.manners import Manners
from roundsman.worker.sessions.terminal import LineRenderer
from roundsman.worker.sessions.transcript import Span

LAST_LINES: Final = 12


class Steps:
    """Shows what it hears, one line for each step; and at a failure what came last."""

    def __init__(
        self,
        console: Console,
        platform: Platform | None,
        secrets: list[str],
        *,
        known_before: bool,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """Show it there; `known_before` is whether the device's host key was pinned already."""
        self._known_before = known_before
        self._console = console
        self._platform = platform
        self._manners = Manners(platform)
        self._secrets = secrets
        self._monotonic = monotonic
        self._since = monotonic()
        self._screen = LineRenderer()
        self._lines: list[str] = []
        self._command: Began | None = None
        self._typed = False
        self._echo: str | None = None
        self._pages: list[str] = []
        self._bytes = 0
        self._greeting = True

    def hear(self, event: Event) -> None:
        """Take what comes next."""
        match event:
            case Connected(where=where, host_key=host_key):
                pinned = "as pinned" if self._known_before else "pinned now"
                key = f"{host_key}, {pinned}" if host_key else "Telnet: all passes in the clear"
                self._step("connected", where, key)
            case Came(data=data):
                self._take(data)
            case Sent(data=data, purpose=purpose):
                self._sent(data, purpose)
            case Learned(prompt=prompt):
                self._learned(prompt)
            case Began():
                self._command, self._pages, self._bytes = event, [], 0
                self._typed, self._echo = False, None
                self._since = self._monotonic()
            case Ended(command=command, output=output):
                self._ended(command, output)

    def _take(self, data: bytes) -> None:
        self._bytes += len(data)
        for line in self._screen.feed(data).split(b"\n")[:-1]:
            self._line(line)

    def _line(self, line: bytes) -> None:
        text = readable(line, self._secrets)
        self._lines = [*self._lines[-LAST_LINES:], text]
        if self._typed and self._echo is None:
            self._echo = text
        if self._greeting and text.strip():
            self._detail(text)

    def _waiting(self) -> str:
        return readable(self._screen.line, self._secrets)

    def _sent(self, data: bytes, purpose: Purpose) -> None:
        shown = repr(readable(data, self._secrets).replace("\N{REPLACEMENT CHARACTER}", "⏎"))
        match purpose:
            case Purpose.COMMAND:
                self._typed = True
            case Purpose.PAGE:
                self._pages.append(self._waiting().strip())
            case Purpose.ANSWER:
                self._step("asked", repr(self._waiting().strip()), f"answered {shown}")
            case Purpose.PROBE:
                pass

    def _learned(self, prompt: bytes) -> None:
        self._greeting = False
        text = readable(prompt, self._secrets)
        patterns = self._platform.prompts if self._platform else ()
        for number, pattern in enumerate(patterns):
            if Manners(Platform(name="", prompts=(pattern,))).is_prompt(prompt):
                self._step("prompt", repr(text), f"prompts[{number}]: {pattern}")
                break
        else:
            self._step("prompt", repr(text), "by its end: no platform says how prompts look")
            self._detail(f"a platform could say prompts: ['{propose_prompt(text)}']")
        enabled = self._manners.enabled
        if enabled is not None and enabled.is_all_of(prompt):
            self._step("enable", "privileged", f"enable.prompt: {enabled.text}")

    def _ended(self, command: str, output: Span) -> None:
        seconds = self._monotonic() - self._since
        kind = "setup" if self._command and self._command.is_setup else "command"
        word = command.partition(" ")[0]
        echo = "echo found" if self._echo is not None and word in self._echo else "no echo"
        size = output.end - output.start
        said = [f"{size:,} of {self._bytes:,} bytes are output", f"{seconds:.2f} s", echo]
        if self._pages:
            said.append(f"{len(self._pages)} pages turned at {self._pages[0]!r}")
        self._step(kind, command, ", ".join(said))
        if kind == "setup" and self._manners.platform.errors:
            tail = "\n".join(self._lines[-4:]).encode()
            if (complaint := self._manners.complaint(tail)) is not None:
                self._detail(f"the device complains ({complaint}); passed over")
        self._command = None

    def _step(self, name: str, what: str, more: str) -> None:
        lines.step(self._console, name, what, more)

    def _detail(self, text: str, style: str = "dim") -> None:
        lines.detail(self._console, text, style=style)

    def show_failure(self) -> None:
        """Say what came last, which patterns come nearest, and what the platform may lack."""
        waiting = self._waiting()
        self._console.print("\nThe last that came", style="bold")
        for line in self._lines:
            self._detail(line)
        self._detail(waiting or "(an empty line)", style="reverse")
        found = nearest(self._patterns(), waiting) if waiting.strip() else None
        if found is not None:
            name, pattern, edits = found
            apart = "matches it" if edits == 0 else f"{edits} characters from matching it"
            self._console.print("Nearest pattern", style="bold")
            self._detail(f"{name}: {pattern}   {apart}")
        if self._platform is None or (found is None or found[2]):
            for text in advise(waiting, in_command=self._command is not None):
                self._console.print("The platform file may lack", style="bold")
                for line in text.split("\n"):
                    self._detail(line, style="cyan")

    def _patterns(self) -> list[tuple[str, str]]:
        platform = self._platform
        if platform is None:
            return []
        return [
            *((f"prompts[{i}]", text) for i, text in enumerate(platform.prompts)),
            *((f"more[{i}]", pager.pattern) for i, pager in enumerate(platform.more)),
            *((f"questions[{i}]", asks.pattern) for i, asks in enumerate(platform.questions)),
            ("login.user", platform.login.user),
            ("login.password", platform.login.password),
        ]
