"""What devices do with their terminals, each shown to be read exactly or refused by name.

Over real SSH, so that what is answered comes back through everything that lies in between.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import asyncssh
import pytest

from roundsman.secret import Secret
from roundsman.simulator.device import HOST
from roundsman.wire.device import Credentials, Device, Protocol, Ssh
from roundsman.wire.job import Command, Job
from roundsman.wire.platform import Enable, Pager, Platform, Question
from roundsman.wire.run import FailureClass
from tests.worker.sessions.conftest import Bench, commands

CONFIG = "hostname r1\r\n!\r\ninterface Ethernet1\r\n description to r2#\r\nend\r\n"
READ = CONFIG.replace("\r", "").encode()


class Door(asyncssh.SSHServer):
    """Lets everybody in."""

    def begin_auth(self, username: str) -> bool:
        return False


class Terminal:
    """A device's side of a terminal: raw bytes out, lines in."""

    def __init__(self, stdin: Any, stdout: Any) -> None:
        self._stdin = stdin
        self._stdout = stdout
        self._typed = b""

    def say(self, text: str | bytes) -> None:
        self._stdout.write(text.encode() if isinstance(text, str) else text)

    async def silence(self) -> None:
        """Longer than the other side is patient at first."""
        await self._stdout.drain()
        await asyncio.sleep(0.15)

    async def key(self, *expected: bytes) -> bytes:
        """Until one of these was typed."""
        while not any(self._typed.endswith(one) for one in expected):
            if not (data := await self._stdin.read(1)):
                raise ConnectionError
            self._typed += data
        typed, self._typed = self._typed, b""
        return typed

    async def line(self, *, echo: bool = True) -> str:
        line = (await self.key(b"\n", b"\r")).decode().strip()
        self.say((line if echo else "") + "\r\n")
        return line


Plays = Callable[[Terminal], Any]


@asynccontextmanager
async def device(plays: Plays, platform: Platform | None = None) -> AsyncIterator[Device]:
    async def serve(stdin: Any, stdout: Any, _: Any) -> None:
        try:
            await plays(Terminal(stdin, stdout))
        except (OSError, asyncssh.Error):
            pass
        finally:
            stdout.close()

    server = await asyncssh.listen(
        HOST,
        0,
        server_factory=Door,
        session_factory=serve,
        server_host_keys=[asyncssh.generate_private_key("ssh-ed25519")],
        encoding=None,
        line_editor=False,
    )
    async with server:
        yield Device(
            name="r1",
            host=HOST,
            protocol=Protocol(ssh=Ssh(port=server.get_port())),
            credentials=Credentials(user="backup"),
            platform=platform,
        )


def shell(
    prompt: Callable[[], str],
    outputs: dict[str, str] | None = None,
    *,
    greeting: str = "",
    before: Plays | None = None,
) -> Plays:
    """A shell with the prompt as it is each time."""
    known = {"show run": CONFIG, **(outputs or {})}

    async def play(terminal: Terminal) -> None:
        terminal.say(greeting)
        if before is not None:
            await before(terminal)
        terminal.say(prompt())
        while (line := await terminal.line()) != "exit":
            terminal.say(known.get(line, "") + prompt())

    return play


async def read(
    bench: Bench, plays: Plays, platform: Platform | None = None, job: Job | None = None
) -> bytes:
    async with device(plays, platform) as entry, asyncio.timeout(20):
        return await bench.run(entry, job or commands("show run", ends_with=None))


@pytest.mark.parametrize(
    "prompt",
    [
        "r1#",
        "r1*#",
        "*r1#",
        "!r1# ",
        "r1(config)# ",
        "admin@r1:~$ ",
        "[admin@r1] > ",
        "<r1>",
        "\r\n{master}\r\nadmin@r1> ",
        "\r\n[]\r\nA:admin@r1# ",
        "\x1b[1;32mr1\x1b[0m# ",
        "\x1b]0;r1: ~\x07\x1b[?2004hr1# ",
        "\x1b[2J\x1b[H\x1b[?25hr1#",
        "\x1b(0q\x1b(Br1# ",
        "r1#\x1b[K",
        "\rr1# ",
    ],
)
async def test_prompts_of_many_kinds(bench: Bench, prompt: str) -> None:
    assert await read(bench, shell(lambda: prompt)) == READ


def clock(form: str) -> Callable[[], str]:
    seconds = 0

    def prompt() -> str:
        nonlocal seconds
        seconds += 7
        return form.format(seconds // 60, seconds % 60, seconds)

    return prompt


@pytest.mark.parametrize(
    "form",
    [
        "12:{:02}:{:02} r1# ",
        "r1 [load {2}.5%]# ",
        "Nov 21 12:{:02}:{:02}\r\nadmin@r1> ",
        "{{master:{0}}}\r\nadmin@r1 {2}> ",
    ],
)
async def test_prompts_with_a_clock_or_a_load_in_them(bench: Bench, form: str) -> None:
    job = commands("show run", "show run", ends_with=None)
    assert await read(bench, shell(clock(form)), job=job) == 2 * READ


async def test_a_clock_that_only_moves_later(bench: Bench) -> None:
    """Learned to the letter, and another number from the first command on."""
    times = iter(["12:01", "12:01", *(f"12:{n // 3:02}" for n in range(6, 60))])
    job = commands("show run", "show run", ends_with=None)
    assert await read(bench, shell(lambda: f"{next(times)} r1# "), job=job) == 2 * READ


async def test_prompts_that_change_with_the_mode_and_the_context(bench: Bench) -> None:
    async def play(terminal: Terminal) -> None:
        prompts = {
            "configure": "\r\n[edit]\r\nadmin@r1# ",
            "edit interfaces": "\r\n[edit interfaces]\r\nadmin@r1# ",
            "set x": "\r\n*[edit interfaces]\r\nadmin@r1# ",
            "top": "\r\n[edit]\r\nadmin@r1# ",
            "quit": "\r\n{master}\r\nadmin@r1> ",
        }
        prompt = prompts["quit"]
        terminal.say(prompt)
        while (line := await terminal.line()) != "exit":
            prompt = prompts.get(line, prompt)
            terminal.say((CONFIG if line == "show run" else "") + prompt)

    lines = ("configure", "edit interfaces", "show run", "set x", "show run", "top", "quit")
    job = commands(*lines, "show run", ends_with=None)
    assert await read(bench, play, job=job) == 3 * READ


async def test_a_host_name_that_changes_is_followed_where_the_platform_knows_prompts(
    bench: Bench,
) -> None:
    name = "r1"

    async def play(terminal: Terminal) -> None:
        nonlocal name
        terminal.say(f"{name}#")
        while (line := await terminal.line()) != "exit":
            name = line.removeprefix("hostname ") if line.startswith("hostname") else name
            terminal.say((CONFIG if line == "show run" else "") + f"{name}#")

    job = commands("hostname other", "show run", ends_with=None)
    assert await read(bench, play, Platform(name="x", prompts=(r"\S+#",)), job) == READ


@pytest.mark.parametrize(
    "question", ["\x1b[6n", "\x1bZ", "\x1b[c", "\x1b[9999;9999H\x1b[6n", "\x1b[18t", "\x1b[5n"]
)
async def test_a_device_that_asks_what_the_terminal_is_and_waits(
    bench: Bench, question: str
) -> None:
    async def ask(terminal: Terminal) -> None:
        terminal.say(question)
        assert (await terminal.key(b"R", b"c", b"t", b"n")).startswith(b"\x1b[")

    assert await read(bench, shell(lambda: "[admin@r1] > ", before=ask)) == READ


NOTICE = "*Mar  1 00:02:01.123: %SYS-5-CONFIG_I: Configured from console by vty0\r\n"
IOS = Platform(name="ios", prompts=(r"[\w-]+(?:\(\S+\))?[>#]",), notices=(r"%[A-Z_]+-\d-[A-Z_]+:",))


@pytest.mark.parametrize("where", ["after the prompt", "before the echo", "on the prompt's line"])
async def test_lines_of_the_log_that_are_written_over_the_prompt(bench: Bench, where: str) -> None:
    """The prompt does not come again after them, and what is typed stands without one."""

    async def play(terminal: Terminal) -> None:
        quiet = iter(["show version"])
        terminal.say("r1#")
        while (line := await terminal.line()) != "exit":
            terminal.say((CONFIG if line == "show run" else "") + "r1#")
            if line and line == next(quiet, None):
                if where == "before the echo":
                    await terminal.line()
                    terminal.say("r1#")
                terminal.say(("" if where == "on the prompt's line" else "\r\n") + NOTICE)

    job = commands(Command(command="show version"), "show run", ends_with=None)
    assert await read(bench, play, IOS, job) == READ


async def test_without_the_platform_s_word_a_line_of_the_log_is_a_failure(bench: Bench) -> None:
    async def play(terminal: Terminal) -> None:
        terminal.say("r1#")
        for _ in range(3):  # the prompt is learned, a command run, and its end proven
            await terminal.line()
            terminal.say("r1#")
        line = await terminal.line(echo=False)
        terminal.say(f"\r\n{NOTICE}{line}\r\n{CONFIG}r1#")
        await terminal.line()

    async with device(play) as entry:
        failure, text = await bench.fail(entry, commands("show version", "show run"))
    assert failure is FailureClass.PROMPT
    assert "went on writing after its prompt" in text


@pytest.mark.parametrize("end", ["\r\n", "\n\r", "\r\r\n", "\n", "\r\n\0"])
async def test_line_ends_of_many_kinds(bench: Bench, end: str) -> None:
    outputs = {"show run": CONFIG.replace("\r\n", end)}
    assert await read(bench, shell(lambda: "r1#", outputs)) == READ


async def test_bare_carriage_returns_draw_over_the_line_and_are_refused(bench: Bench) -> None:
    """As on a terminal, where nobody could read such an output either."""
    async with device(shell(lambda: "r1#", {"show run": CONFIG.replace("\n", "")})) as entry:
        failure, text = await bench.fail(entry, commands("show run"))
    assert failure is FailureClass.PROMPT
    assert "was drawn over the last line of the output" in text


async def test_a_login_with_everything_in_between(bench: Bench) -> None:
    """A banner, a key to be pressed, a menu in two steps, another login, enable with a password."""

    async def way(terminal: Terminal) -> None:
        terminal.say("\r\n## r1# is ours ##\r\nPress any key to continue...")
        await terminal.key(b" ")
        terminal.say("\x1b[2J\x1b[H 1) Status\r\n 2) Shells\r\nChoice: ")
        assert await terminal.line() == "2"
        terminal.say(" 1) Expert\r\n 2) CLI\r\nChoice: ")
        assert await terminal.line() == "2"
        terminal.say("Username: ")
        assert await terminal.line() == "backup"
        terminal.say("Password: ")
        assert await terminal.line(echo=False) == "letmein"
        terminal.say("Your password expires in 3 days. Change it now? [y/n] ")
        assert await terminal.key(b"n")
        terminal.say("n\r\nr1>")
        assert await terminal.line() == ""  # which is how the prompt is learned
        terminal.say("r1>")
        assert await terminal.line() == "enable"
        terminal.say("Password: ")
        assert await terminal.line(echo=False) == "s3cret"

    platform = Platform(
        name="x",
        prompts=(r"\w+[>#]",),
        questions=(
            Question(pattern="Press any key", answer=" "),
            Question(pattern=r"2\) Shells\n^Choice:", answer="2\n"),
            Question(pattern=r"2\) CLI\n^Choice:", answer="2\n"),
            Question(pattern=r"Change it now\? \[y/n\]", answer="n"),
        ),
        enable=Enable(prompt=r"\w+#"),
    )
    async with device(shell(lambda: "r1#", before=way), platform) as entry:
        full = with_secrets(entry)
        assert await bench.run(full, commands("show run", ends_with=None)) == READ


def with_secrets(entry: Device) -> Device:
    return Device(
        name=entry.name,
        host=entry.host,
        protocol=entry.protocol,
        platform=entry.platform,
        credentials=Credentials(user="backup", password=Secret("letmein"), enable=Secret("s3cret")),
    )


async def test_a_pager_that_cannot_be_switched_off(bench: Bench) -> None:
    async def play(terminal: Terminal) -> None:
        terminal.say("r1#")
        while (line := await terminal.line()) != "exit":
            if line == "show run":
                for part in CONFIG.splitlines(keepends=True):
                    terminal.say(part + "\x1b[7m--More--\x1b[m")
                    await terminal.key(b" ")
                    terminal.say("\r\x1b[K")
            terminal.say("r1#")

    platform = Platform(name="x", prompts=("r1#",), more=(Pager(pattern="--More--"),))
    assert await read(bench, play, platform) == READ


async def test_a_line_of_ten_megabytes(bench: Bench) -> None:
    outputs = {"show blob": "x" * 10_000_000 + "\r\n", "show run": CONFIG}
    job = commands("show blob", "show run", ends_with=None)
    result = await read(bench, shell(lambda: "r1#", outputs), job=job)
    assert len(result) == 10_000_001 + len(READ)
    assert result.endswith(b"x\n" + READ)


@pytest.mark.parametrize("end", ["", "r1"])
async def test_a_long_output_without_a_line_end(bench: Bench, end: str) -> None:
    text = "y" * 100_000 + end
    assert await read(bench, shell(lambda: "r1#", {"show run": text})) == text.encode()
