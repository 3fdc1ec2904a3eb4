"""What a platform says of a device, against devices in memory that answer byte for byte."""

import asyncio
import io
from collections.abc import Callable, Mapping

import pytest

from roundsman.secret import Secret
from roundsman.wire.device import Credentials
from roundsman.wire.platform import Enable, Login, Pager, Platform, Question
from roundsman.worker.sessions.errors import (
    AuthenticationError,
    EnableError,
    PlatformError,
    PromptError,
    SessionError,
)
from roundsman.worker.sessions.login import TerminalLogin
from roundsman.worker.sessions.manners import Manners
from roundsman.worker.sessions.shell import Patience, Shell
from roundsman.worker.sessions.transcript import Transcript

PATIENCE = Patience(first=0.02, repeated=0.1)
PIECES = [1, 2, 7, 1 << 20]

Answers = Mapping[str, "str | list[str]"]


class Raw:
    """A `Channel` to a device that sends exactly what is written here.

    `answers` has, for each line and each key that may be sent, what follows; a list is used up one
    by one. Lines are echoed, keys are not. An empty line is answered by the last prompt.
    """

    def __init__(self, greeting: str, answers: Answers, *, pieces: int = 1 << 20) -> None:
        self._answers = {key: [v] if isinstance(v, str) else list(v) for key, v in answers.items()}
        self._pieces = pieces
        self._pending = bytearray(greeting.encode())
        self._prompt = greeting.rpartition("\n")[2].encode()
        self._typed = ""
        self._news = asyncio.Event()
        self.sent: list[str] = []

    def write(self, data: bytes) -> None:
        for character in data.decode():
            self._typed += character
            if self._typed in self._answers or character == "\n":
                self._answer(self._typed)
                self._typed = ""

    def _answer(self, typed: str) -> None:
        self.sent.append(typed)
        if typed == "\n" and typed not in self._answers:
            self._pending += b"\r\n" + self._prompt
        else:
            known = self._answers.get(typed, ["% what?\r\nr1#"])
            came = (known.pop(0) if len(known) > 1 else known[0]).encode()
            echo = typed.strip().encode() + b"\r\n" if typed.endswith("\n") else b""
            self._pending += (b"" if came.startswith(b"\0") else echo) + came.lstrip(b"\0")
            self._prompt = came.rpartition(b"\n")[2].rpartition(b"\r")[2] or self._prompt
        self._news.set()

    async def read(self) -> bytes:
        while not self._pending:
            self._news.clear()
            await self._news.wait()
        await asyncio.sleep(0)
        piece = bytes(self._pending[: self._pieces])
        del self._pending[: self._pieces]
        return piece


class Session:
    """What a shell makes of a device."""

    def __init__(self, device: Raw, platform: Platform, login: TerminalLogin | None = None) -> None:
        self._transcript = Transcript(io.BytesIO(), max_bytes=1 << 20)
        self._login = login
        self.shell = Shell(device, self._transcript, patience=PATIENCE, manners=Manners(platform))

    async def __aenter__(self) -> "Session":
        async with asyncio.timeout(30):
            await self.shell.learn_prompt(login=self._login)
        return self

    async def __aexit__(self, *_: object) -> None:
        """Nothing to do: there is only memory."""

    async def read(self, command: str) -> str:
        async with asyncio.timeout(30):
            span = await self.shell.run(command)
        return b"".join(self._transcript.read(span)).decode()


ERASERS: dict[str, Callable[[str], str]] = {
    "backspaces": lambda pager: "\b" * len(pager) + " " * len(pager) + "\b" * len(pager),
    "backspaces one by one": lambda pager: "\b \b" * len(pager),
    "carriage returns": lambda pager: "\r" + " " * len(pager) + "\r",
    "escapes": lambda _: "\x1b[m\x1b[K\r\x1b[K",
    "cursor": lambda pager: f"\x1b[{len(pager)}D" + " " * len(pager) + f"\x1b[{len(pager)}D",
}


@pytest.mark.parametrize("pieces", PIECES)
@pytest.mark.parametrize("eraser", list(ERASERS))
@pytest.mark.parametrize("pager", ["--More--", " --More-- ", "\x1b[7m--More--\x1b[27m"])
async def test_pagers_leave_no_remnants(eraser: str, pager: str, pieces: int) -> None:
    erase = ERASERS[eraser](pager)
    device = Raw(
        "r1#",
        {
            "show\n": f"one\r\n two\r\n{pager}",
            " ": [f"{erase}  three\r\n\r\n{pager}", f"{erase}\r\nfour\r\n{pager}", f"{erase}r1#"],
        },
        pieces=pieces,
    )
    platform = Platform(name="test", more=(Pager(pattern="--More--"),))
    async with Session(device, platform) as session:
        assert await session.read("show") == "one\n two\n  three\n\n\nfour\n"


@pytest.mark.parametrize("pieces", PIECES)
@pytest.mark.parametrize("after", ["", "\r\n"])
async def test_pagers_that_are_not_wiped_out_are_removed_too(after: str, pieces: int) -> None:
    device = Raw(
        "r1#",
        {
            "show\n": "one\r\n-- more --, next page: Space",
            " ": [f"{after}  two\r\n-- more --, next page: Space", f"{after}r1#"],
        },
        pieces=pieces,
    )
    platform = Platform(name="test", more=(Pager(pattern="-- more --, next page: Space"),))
    async with Session(device, platform) as session:
        assert await session.read("show") == "one\n  two\n"


@pytest.mark.parametrize("pieces", PIECES)
async def test_pagers_that_begin_like_others_get_one_key_each(pieces: int) -> None:
    more = "--More-- ({}%), next page: Space"
    wipe = "\r" + " " * 40 + "\r"
    device = Raw(
        "r1#",
        {
            "show\n": f"one\r\n{more.format(10)}",
            " ": [
                f"{wipe}two\r\n{more.format(50)}",
                f"{wipe}three\r\n{more.format(100)}",
                f"{wipe}r1#",
            ],
        },
        pieces=pieces,
    )
    async with Session(device, Platform(name="x", more=(Pager(pattern="--More--.*"),))) as session:
        assert await session.read("show") == "one\ntwo\nthree\n"
    assert device.sent == ["\n", "show\n", " ", " ", " ", "\n"]


@pytest.mark.parametrize("pieces", PIECES)
async def test_text_that_reads_like_a_pager_is_kept(pieces: int) -> None:
    text = "one\r\n--More--\r\n--More-- is a pager\r\n"
    device = Raw(
        "r1#",
        {
            "paged\n": "1\r\n--More--",
            " ": ["\r        \r2\r\nr1#", ""],
            "show\n": f"{text}r1#",
        },
        pieces=pieces,
    )
    platform = Platform(name="test", more=(Pager(pattern="--More--"),))
    async with Session(device, platform) as session:
        lines = text.replace("\r", "")
        assert await session.read("paged") == "1\n2\n"
        assert await session.read("show") == lines


@pytest.mark.parametrize("pieces", PIECES)
async def test_only_lines_that_a_platform_knows_as_prompts_are_learned(pieces: int) -> None:
    greeting = "\r\nmenu >\r\nkeep out #\r\nr1 [standalone: master] # "
    answers = {"show\n": "keep out #\r\nr1 [standalone: master] # "}
    platform = Platform(name="test", prompts=(r"[\w-]+ \[standalone: master\] [>#]",))
    device = Raw(greeting, answers, pieces=pieces)
    async with Session(device, platform) as session:
        assert session.shell.prompt == b"r1 [standalone: master] #"
        assert await session.read("show") == "keep out #\n"
    assert device.sent == ["\n", "show\n", "\n"]


@pytest.mark.parametrize("pieces", PIECES)
async def test_the_way_to_the_shell_is_found(pieces: int) -> None:
    device = Raw(
        "Welcome\r\nPress any key to continue",
        {
            " ": "\r\n1. Shell\r\n2. Reboot\r\nSelect> ",
            "1\n": "\r\nUser: ",
            "admin\n": "Password:",
            "letmein\n": "\0\r\nr1>",
            "reload\n": "Proceed? [confirm]",
            "y": "\r\nNo.\r\nr1>",
        },
        pieces=pieces,
    )
    platform = Platform(
        name="test",
        prompts=(r"\w+>",),
        questions=(
            Question(pattern="Press any key to continue", answer=" "),
            Question(pattern=r"2\. Reboot\n^Select>", answer="1\n"),
            Question(pattern=r"\[confirm\]$", answer="y"),
        ),
    )
    credentials = Credentials(user="admin", password=Secret("letmein"))
    login = TerminalLogin([credentials], awaited=False)
    async with Session(device, platform, login) as session:
        assert session.shell.prompt == b"r1>"
        assert await session.read("reload") == "Proceed? [confirm]\nNo.\n"
    assert "\n" not in device.sent[: device.sent.index("letmein\n")]


TELNET = Platform(name="test", login=Login())


def login(password: str | None = "letmein") -> TerminalLogin:
    secret = Secret(password) if password is not None else None
    return TerminalLogin([Credentials(user="admin", password=secret)], awaited=True)


@pytest.mark.parametrize("pieces", PIECES)
async def test_a_login_in_the_terminal(pieces: int) -> None:
    device = Raw(
        "# keep out #\r\nUsername: ",
        {"admin\n": "Password: ", "letmein\n": "\0\r\nr1#", "show\n": "x\r\nr1#"},
        pieces=pieces,
    )
    async with Session(device, TELNET, login()) as session:
        assert await session.read("show") == "x\n"


@pytest.mark.parametrize(
    ("answers", "password"),
    [
        ({"admin\n": "Password: ", "letmein\n": "\0\r\nLogin incorrect\r\nlogin: "}, "letmein"),
        ({"admin\n": "Password: ", "letmein\n": "\0\r\nlogin: "}, "letmein"),
        ({"admin\n": "Password: ", "letmein\n": "\0\r\nPassword: "}, "letmein"),
        ({"admin\n": "Password: "}, None),
        ({"admin\n": "login: "}, "letmein"),
    ],
)
async def test_a_login_that_fails(answers: Answers, password: str | None) -> None:
    with pytest.raises(AuthenticationError, match="admin"):
        async with Session(Raw("login: ", answers), TELNET, login(password)):
            pass


@pytest.mark.parametrize("pieces", PIECES)
async def test_an_expired_password_is_a_failure(pieces: int) -> None:
    device = Raw("\r\nYour password has expired.\r\nNew password: ", {}, pieces=pieces)
    platform = Platform(name="test", expired=("(?i)password has expired",))
    with pytest.raises(AuthenticationError, match="has expired"):
        async with Session(device, platform, login()):
            pass


IOS = Platform(
    name="ios", prompts=(r"[\w-]+(?:\(\S+\))?[>#]",), enable=Enable(prompt=r"[\w-]+(?:\(\S+\))?#")
)


async def enabled(device: Raw, secret: bytes | None = b"s3cret") -> bytes:
    async with Session(device, IOS) as session, asyncio.timeout(30):
        await session.shell.enable(secret)
        return session.shell.prompt


@pytest.mark.parametrize("pieces", PIECES)
@pytest.mark.parametrize("question", ["Password: ", "Password:", "\r\nEnter password: "])
async def test_the_privileged_mode_is_reached(question: str, pieces: int) -> None:
    device = Raw("r1>", {"enable\n": question, "s3cret\n": "\0\r\nr1#"}, pieces=pieces)
    assert await enabled(device) == b"r1#"
    assert device.sent == ["\n", "enable\n", "s3cret\n", "\n"]


async def test_the_privileged_mode_may_be_there_already_or_ask_for_nothing() -> None:
    device = Raw("r1#", {})
    assert await enabled(device) == b"r1#"
    assert device.sent == ["\n"]
    assert await enabled(Raw("r1>", {"enable\n": "r1#"})) == b"r1#"


@pytest.mark.parametrize(
    ("answers", "secret"),
    [
        ({"enable\n": "Password: ", "s3cret\n": "\0\r\nPassword: "}, b"s3cret"),
        ({"enable\n": "Password: ", "s3cret\n": "\0\r\n% Access denied\r\nr1>"}, b"s3cret"),
        ({"enable\n": "% Error in authentication.\r\nr1>"}, b"s3cret"),
        ({"enable\n": "Password: "}, None),
    ],
)
async def test_a_privileged_mode_that_is_not_reached(
    answers: Answers, secret: bytes | None
) -> None:
    with pytest.raises(EnableError):
        await enabled(Raw("r1>", answers), secret)


async def test_a_device_that_asks_on_and_on_is_given_up() -> None:
    device = Raw("More? ", {"y": "\r\nMore? "})
    platform = Platform(name="test", questions=(Question(pattern=r"More\?", answer="y"),))
    with pytest.raises(PromptError, match="more than 100 questions"):
        async with Session(device, platform):
            pass


@pytest.mark.parametrize(
    "platform",
    [
        Platform(name="test", prompts=("(",)),
        Platform(name="test", more=(Pager(pattern="["),)),
        Platform(name="test", enable=Enable(prompt="*")),
    ],
)
def test_a_pattern_that_is_none_is_said(platform: Platform) -> None:
    with pytest.raises(PlatformError, match="is not a regular expression"):
        Manners(platform)


async def test_a_pattern_that_takes_for_ever_is_ended() -> None:
    device = Raw("a" * 60 + "!", {})
    with pytest.raises(SessionError, match="took longer"):
        async with Session(device, Platform(name="test", prompts=("(a|aa|a)+[bc]",))):
            pass


def test_a_complaint_is_looked_for_in_the_first_lines() -> None:
    manners = Manners(Platform(name="test", errors=(r"^% Invalid input", r"^\s+\^$")))
    assert manners.complaint(b"     ^\n% Invalid input detected\n") == "^% Invalid input"
    assert manners.complaint(b"x\n" * 10 + b"% Invalid input\n") is None
    assert manners.complaint(b"description % Invalid input\n") is None
