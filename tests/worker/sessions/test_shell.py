"""Prompts and proofs, against devices in memory whose bytes come in pieces of any size."""

import asyncio
import io
import random
import tempfile
from collections.abc import Callable, Sequence
from contextlib import suppress

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from roundsman.worker.sessions.errors import ClosedEarlyError, PromptError
from roundsman.worker.sessions.shell import Patience, Shell
from roundsman.worker.sessions.transcript import Transcript

PATIENCE = Patience(first=0.02, repeated=0.2)


class Device:
    """A `Channel` to a device that answers at once; what it wrote is delivered in pieces."""

    def __init__(
        self,
        answers: dict[str, str],
        *,
        prompt: str = "r1#",
        greeting: str = "Welcome\n",
        size: Callable[[], int] = lambda: 1 << 20,
        echo: Callable[[str], str] = lambda line: line,
        echoes_while_busy: bool = False,
        hangs_up_on: str | None = None,
    ) -> None:
        self._answers = answers
        self._prompt = prompt
        self._size = size
        self._echo = echo
        self._echoes_while_busy = echoes_while_busy
        self._hangs_up_on = hangs_up_on
        self._typed = ""
        self._pending = bytearray()
        self._written = asyncio.Event()
        self._closed = False
        self.lines: list[str] = []
        self._send(greeting + prompt)

    def _send(self, text: str) -> None:
        self._pending += text.replace("\n", "\r\n").encode()
        self._written.set()

    def write(self, data: bytes) -> None:
        if self._echoes_while_busy and self._pending:
            self._pending[0:0] = data.replace(b"\n", b"\r\n")
        *lines, self._typed = (self._typed + data.decode()).split("\n")
        for line in lines:
            self._answer(line)

    def _answer(self, line: str) -> None:
        self.lines.append(line)
        if line == "exit":
            self._send(self._echo(line) + "\nBye\n")
            self._closed = True
            return
        output = self._answers.get(line, "")
        if line == self._hangs_up_on:
            self._send(self._echo(line) + "\n" + output)
            self._closed = True
            return
        if output.startswith("=> "):
            self._prompt, output = output.removeprefix("=> "), ""
        self._send(self._echo(line) + "\n" + output + self._prompt)

    async def read(self) -> bytes:
        while not self._pending:
            if self._closed:
                return b""
            self._written.clear()
            await self._written.wait()
        await asyncio.sleep(0)
        size = self._size()
        piece = bytes(self._pending[:size])
        del self._pending[:size]
        return piece


async def outputs(
    device: Device, *commands: str, ends_with: str | None = "#", login: str | None = "#"
) -> list[str]:
    """Log in, run the commands, log out."""
    with tempfile.TemporaryFile() as file:
        transcript = Transcript(file, max_bytes=1 << 30)
        shell = Shell(device, transcript, patience=PATIENCE)
        async with asyncio.timeout(60):
            await shell.learn_prompt(login)
            spans = [await shell.run(command, ends_with=ends_with) for command in commands]
            await shell.leave()
        return [b"".join(transcript.read(span)).decode() for span in spans]


CONFIG = """Building configuration...

hostname r1
banner motd ^C
keep out of r1#
r1#
^C
interface Ethernet1
 description r1#
 description to the dog #
!
r1# show running-config
end

"""


def sizes(pieces: int) -> Callable[[], int]:
    return lambda: pieces


@pytest.mark.parametrize("pieces", [1, 2, 7, 100, 1 << 20])
async def test_prompt_like_lines_neither_cut_an_output_nor_are_taken_for_the_prompt(
    pieces: int,
) -> None:
    """Fault 14: a prompt-like line cuts the output, which passes for a success."""
    device = Device(
        {"show run": CONFIG, "show version": "Version 1 #\n"},
        greeting="\n###############\n# r1# is ours #\n###############\nBeware of the dog #\n",
        size=sizes(pieces),
    )
    assert await outputs(device, "show run", "show version") == [CONFIG, "Version 1 #\n"]


LINES = st.sampled_from(
    (
        *("r1#", "r1# ", " r1#", "#", " description #", "interface Ethernet1", "", "!"),
        *("r1(config)#", "user@host:~$", "r1#show run", "Building configuration...", "é ☃"),
    )
)


@settings(max_examples=80)
@example("r1#show run\nr1#\nr1#show run\n", 1, random.Random(0))
@given(
    st.lists(LINES, max_size=12).map(lambda lines: "".join(f"{line}\n" for line in lines)),
    st.sampled_from([1, 7, 0, 1 << 20]),
    st.randoms(use_true_random=False),
)
def test_the_output_does_not_depend_on_how_the_stream_is_cut(
    output: str, pieces: int, chance: random.Random
) -> None:
    """Fault 14: lines lost or doubled. It is read exactly, or (a prompt twice over) not at all."""

    async def read() -> list[str]:
        device = Device(
            {"show run": output, "show version": "1\n"},
            size=sizes(pieces) if pieces else lambda: chance.randrange(1, 12),
        )
        return await outputs(device, "show run", "show version")

    try:
        assert asyncio.run(read()) == [output, "1\n"]
    except PromptError:
        assert "r1#\nr1#" in f"{output}r1#".replace("r1# ", "r1#")


async def test_at_most_one_line_is_sent_beside_each_command() -> None:
    device = Device({"show run": CONFIG})
    await outputs(device, "show run", "show run")
    assert device.lines == ["", "show run", "", "show run", "", "exit"]


async def test_output_that_the_question_was_echoed_into_is_read_again() -> None:
    """A Unix terminal echoes what is typed into running output: that must not be stored."""
    device = Device({"cat": "one\nr1#\ntwo\n"}, size=sizes(1), echoes_while_busy=True)
    assert await outputs(device, "cat") == ["one\nr1#\ntwo\n"]
    assert device.lines.count("cat") == 2


async def test_output_without_a_line_end_is_kept_without_one() -> None:
    device = Device({"cat": "one\ntwo", "printf": "x"}, size=sizes(3))
    assert await outputs(device, "cat", "printf") == ["one\ntwo", "x"]


@pytest.mark.parametrize("end", ["x", "the end", "r1#"])
async def test_output_that_the_prompt_is_drawn_over_is_refused(end: str) -> None:
    device = Device({"cat": f"one\n{end}"}, prompt="r1# \rr1# ")
    with pytest.raises(PromptError, match="was drawn over"):
        await outputs(device, "cat")


async def test_a_prompt_that_changes_with_the_mode_is_learned_anew() -> None:
    device = Device(
        {
            "configure terminal": "=> r1(config)#",
            "show": "x #\n",
            "end": "=> r1#",
            "show run": CONFIG,
        },
        size=sizes(2),
    )
    commands = ("configure terminal", "show", "end", "show run")
    assert await outputs(device, *commands) == ["", "x #\n", "", CONFIG]


async def test_the_login_may_end_otherwise_than_the_commands() -> None:
    device = Device({"enable": "=> r1#", "show run": CONFIG}, prompt="r1>")
    assert await outputs(device, "enable", "show run", login=">") == ["", CONFIG]


async def test_an_output_is_not_ended_by_the_prompt_of_another_mode_than_asked_for() -> None:
    device = Device({"show run": "% Invalid input\n"}, prompt="r1>")
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.3):
            await outputs(device, "show run", login=">", ends_with="#")


async def test_the_prompt_is_learned_where_none_is_configured() -> None:
    device = Device({"show": "x\n"}, prompt="\x1b[1madmin@r1\x1b[0m> ")
    assert await outputs(device, "show", login=None, ends_with=None) == ["x\n"]


@pytest.mark.parametrize(
    "echo",
    [
        lambda line: line.replace("show conf", "show configuration"),  # completes words
        lambda line: "".join(f"{c} \b" for c in line),  # draws
        lambda line: "",
    ],
)
async def test_the_echo_is_no_part_of_the_output(echo: Callable[[str], str]) -> None:
    device = Device({"show conf": CONFIG, "show none": ""}, echo=echo)
    assert await outputs(device, "show conf", "show none", "show conf") == [CONFIG, "", CONFIG]


async def test_a_device_that_writes_on_after_its_prompt_came_twice_is_a_failure() -> None:
    """Two lines that are exactly the prompt, where the stream pauses: seen when leaving."""
    cut = iter([9, 3, len("\r\nshow\r\nr1#"), *[1] * 10_000])
    device = Device({"show": "r1#\nr1#\nmore\n"}, size=lambda: next(cut))
    with pytest.raises(PromptError, match="went on writing"):
        await outputs(device, "show")


async def test_lines_that_come_with_each_prompt_are_no_part_of_the_output() -> None:
    device = Device(
        {"show": "x\n", "configure": "=> [edit]\nadmin@r1#", "show it": "{\n}\n"},
        prompt="{master}\nadmin@r1>",
        size=sizes(5),
    )
    read = await outputs(device, "show", "configure", "show it", login=">", ends_with=None)
    assert read == ["x\n", "", "{\n}\n"]


@pytest.mark.parametrize("pieces", [1, 3, 5, 7, 1 << 20])
async def test_a_device_that_writes_its_prompt_twice_is_read_exactly_or_refused(
    pieces: int,
) -> None:
    device = Device({"show": CONFIG}, prompt="r1#\nr1#", size=sizes(pieces))
    with suppress(PromptError):
        assert await outputs(device, "show") == [CONFIG]


async def test_a_device_that_falls_silent_before_its_prompt_is_a_failure() -> None:
    device = Device({}, greeting="Welcome\nplease wait ...", prompt="")
    shell = Shell(
        device,
        Transcript(io.BytesIO(), max_bytes=1000),
        patience=Patience(first=0.01, greeting=0.05),
    )
    with pytest.raises(PromptError, match=r"nothing else for 0\.05 s"):
        await shell.learn_prompt()


async def test_a_device_that_hangs_up_is_a_failure() -> None:
    device = Device({"show": "half of it\n"}, hangs_up_on="show")
    with pytest.raises(ClosedEarlyError):
        await outputs(device, "show")


class Slow(Device):
    """It echoes what is typed late, and what is typed while it is busy twice."""

    def __init__(
        self, answers: dict[str, str], *, late: Sequence[float], busy: bool = False
    ) -> None:
        super().__init__(answers)
        self._late = iter(late)
        self._busy = busy
        self._tasks: set[asyncio.Task[None]] = set()

    def write(self, data: bytes) -> None:
        if not data.strip():
            super().write(data)
            return
        if self._busy:
            self._busy = False
            self._pending += data.replace(b"\n", b"\r\n")
        task = asyncio.create_task(self._write_late(data))
        self._tasks.add(task)

    async def _write_late(self, data: bytes) -> None:
        await asyncio.sleep(next(self._late, 0))
        super().write(data)


@pytest.mark.parametrize("factor", [1.5, 2.5])
async def test_an_echo_later_than_we_are_patient_is_no_part_of_the_output(factor: float) -> None:
    """The echo stayed in the result, as a success, where the device was slow twice."""
    device = Slow({"show": CONFIG}, late=[factor * PATIENCE.repeated] * 2)
    assert await outputs(device, "show", "show") == [CONFIG, CONFIG]
    assert device.lines.count("show") == 2


async def test_an_echo_that_came_twice_is_no_part_of_the_output() -> None:
    """Terminals echo what is typed while they are busy, and once more when they read it."""
    device = Slow({"show": CONFIG}, late=[], busy=True)
    assert await outputs(device, "show") == [CONFIG]
    assert device.lines.count("show") == 2


async def test_an_output_that_begins_with_the_command_each_time_is_kept() -> None:
    device = Device({"show vtp": "show vtp\n% Invalid input\n"})
    assert await outputs(device, "show vtp") == ["show vtp\n% Invalid input\n"]


async def test_what_may_be_an_echo_is_not_stored_where_none_was_seen() -> None:
    device = Device({"show": "r0#show\nx\n"}, echo=lambda _: "")
    with pytest.raises(PromptError, match="begins with the command itself"):
        await outputs(device, "show")
