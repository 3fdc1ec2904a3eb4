"""Recorded devices made harder by rule: what another device of the same kind might have written.

Each variant is a recording like any other; what is to be read from it is found by the same rules.
"""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

from roundsman.platforms import load
from roundsman.simulator.faults import NO_FAULTS, Faults
from roundsman.simulator.recorded import Exchange, Recording
from tests.worker.sessions.corpus import Dialogue, described, rendered

HOSTS = (
    b"r1",
    b"10-core.sw-1.example.net",
    b"a-very-long-name-of-a-device.in-the-basement.of-building-17.example.org",
)
FRAGMENTS = (
    b"hostname#",
    b" description #",
    b" description to the dog>",
    b">",
    b"$",
    b"%",
    b"banner motd # keep out #",
    b"!",
    b"[edit]",
    b"end",
    b"return",
)
BIG = 5 << 20
TOKEN = re.compile(rb"[A-Za-z0-9][\w.-]{2,}")
LOG = b"*Mar  1 00:00:42.123: %SYS-5-CONFIG_I: Configured from console by admin#"


@dataclass(frozen=True)
class Variant:
    """A harder device."""

    name: str
    dialogue: Dialogue
    faults: Faults = NO_FAULTS
    unreadable: bool = False
    """Whether nothing can be read from it, so that it must fail."""
    blurred: bool = False
    """Whether lines that come on their own may be part of the output."""


Made = Callable[[Recording], Recording]


def variants(dialogue: Dialogue) -> Iterator[Variant]:
    """All that can be made of a recording."""

    def made(how: Made) -> Dialogue:
        return described(how(dialogue.recording), dialogue.model)

    if not dialogue.exec:
        if host := host_of(dialogue):
            for name in HOSTS:
                other = renamed(dialogue.recording, host, name)
                yield Variant(f"host {name[:12].decode()}", described(other, dialogue.model))
        yield Variant("banner of prompts", made(with_banner))
        yield Variant("doubled prompts", dialogue, Faults(doubles_prompt=True))
        yield Variant("trailing blanks", made(lambda r: with_prompts(r, b"", b"   ")))
        yield Variant("prompt wiped", made(lambda r: with_prompts(r, b"\r\x1b[K", b"")))
        yield Variant("prompt coloured", made(lambda r: with_prompts(r, b"\x1b[1;32m", b"\x1b[0m")))
        yield Variant(
            "prompt bracketed paste", made(lambda r: with_prompts(r, b"\x1b[?2004h\x1b[6n", b""))
        )
        paged = made(with_unknown_pager)
        if paged.recording != dialogue.recording:
            yield Variant("unknown pager", paged, unreadable=True)
        noisy = replace(dialogue, recording=with_log_after_prompts(dialogue.recording))
        yield Variant("log after prompts", noisy, blurred=True)
    yield Variant("prompts of all", made(lambda r: with_lines(r, all_prompts())))
    yield Variant("fragments", made(lambda r: with_lines(r, FRAGMENTS)))
    yield Variant(
        "fragments in pieces", made(lambda r: with_lines(r, FRAGMENTS)), Faults(piece_bytes=5)
    )
    yield Variant("log in between", made(lambda r: with_lines(r, (LOG,))))
    yield Variant("CR CR LF", made(lambda r: with_line_ends(r, b"\r\r\n")))
    yield Variant("NUL", made(lambda r: with_line_ends(r, b"\r\0\r\n")))
    yield Variant("5 MB", made(repeated))


def all_prompts() -> tuple[bytes, ...]:
    """The example prompts of every platform."""
    files = (load.by_name(name).file for name in load.own_names())
    return tuple(prompt.encode() for file in files for prompt in file.examples.prompts)


def host_of(dialogue: Dialogue) -> bytes | None:
    """The device's name, where its first prompt holds it."""
    line = rendered(dialogue.greeting.rpartition(b"\n")[2])
    before, _, after = line.rpartition(b"@")
    found = TOKEN.search(after if before else line)
    return found[0] if found and b"[" not in line[: found.start()] else None


def renamed(recording: Recording, host: bytes, name: bytes) -> Recording:
    if b"@" + host in recording.greeting:  # the user may be called alike
        host, name = b"@" + host, b"@" + name
    exchanges = [e._replace(came=e.came.replace(host, name)) for e in recording.exchanges]
    return Recording(recording.greeting.replace(host, name), tuple(exchanges))


def with_banner(recording: Recording) -> Recording:
    lines = b"\n".join((*all_prompts(), *FRAGMENTS, b"login:", b""))
    return recording._replace(greeting=lines + recording.greeting)


def with_prompts(recording: Recording, before: bytes, after: bytes) -> Recording:
    """Prompts with something around them."""

    def dressed(came: bytes) -> bytes:
        head, line_end, prompt = came.rpartition(b"\n")
        return head + line_end + before + prompt + after if prompt.strip() else came

    waits = [later.is_key or later.sent == "armud\n" for later in recording.exchanges[1:]]
    exchanges = [
        e if waiting else e._replace(came=dressed(e.came))
        for e, waiting in zip(recording.exchanges, [*waits, False], strict=True)
    ]
    return Recording(dressed(recording.greeting), tuple(exchanges))


def with_log_after_prompts(recording: Recording) -> Recording:
    """Each prompt is followed by a message, and drawn again."""

    def noisy(came: bytes) -> bytes:
        head, line_end, prompt = came.rpartition(b"\n")
        return head + line_end + prompt + b"\n" + LOG + b"\n" + prompt if prompt.strip() else came

    waits = [later.is_key or later.sent == "armud\n" for later in recording.exchanges[1:]]
    exchanges = [
        e if waiting else e._replace(came=noisy(e.came))
        for e, waiting in zip(recording.exchanges, [*waits, False], strict=True)
    ]
    return Recording(recording.greeting, tuple(exchanges))


def with_lines(recording: Recording, lines: tuple[bytes, ...]) -> Recording:
    """Lines put into the middle of every output that is plain text."""
    return _with_bodies(recording, lambda body: _inserted(body, lines))


def with_line_ends(recording: Recording, line_end: bytes) -> Recording:
    return _with_bodies(
        recording, lambda body: [line.removesuffix(b"\r") + line_end[:-1] for line in body]
    )


def repeated(recording: Recording) -> Recording:
    """The longest output, again and again."""
    longest = max((len(e.came) for e in recording.exchanges), default=0)

    def longer(body: list[bytes]) -> list[bytes]:
        size = sum(map(len, body)) + len(body)
        return body * (BIG // size + 1) if size > longest // 2 else body

    return _with_bodies(recording, longer)


def with_unknown_pager(recording: Recording) -> Recording:
    """In the middle of every output the device waits for a key that nobody knows of."""
    exchanges: list[Exchange] = []
    for number, exchange in enumerate(recording.exchanges):
        lines = exchange.came.split(b"\n")
        if _is_plain(recording.exchanges, number) and len(lines) > 4:
            middle = len(lines) // 2
            first = b"\n".join([*lines[:middle], b"-- Hit Q to quit or N for the next page --"])
            rest = b"\n".join([b"\r" + b" " * 50 + b"\r" + lines[middle], *lines[middle + 1 :]])
            exchanges += [exchange._replace(came=first), Exchange("N", rest)]
        else:
            exchanges.append(exchange)
    return recording._replace(exchanges=tuple(exchanges))


def _is_plain(exchanges: tuple[Exchange, ...], number: int) -> bool:
    """Whether an exchange is text between an echo and a prompt, without pager or drawing."""
    exchange, later = exchanges[number], exchanges[number + 1 : number + 2]
    turned = bool(later) and (later[0].is_key or later[0].sent == "armud\n")
    rest = exchange.came.partition(b"\n")[2]
    return not (exchange.is_key or turned or b"\x1b" in rest or b"\b" in rest or rest[:1] == b"\r")


def _with_bodies(recording: Recording, how: Callable[[list[bytes]], list[bytes]]) -> Recording:
    exchanges = []
    for number, exchange in enumerate(recording.exchanges):
        echo, *body, prompt = exchange.came.split(b"\n") if b"\n" in exchange.came else (b"", b"")
        if body and _is_plain(recording.exchanges, number):
            came = b"\n".join((echo, *how(body), prompt))
            exchanges.append(exchange._replace(came=came))
        else:
            exchanges.append(exchange)
    return recording._replace(exchanges=tuple(exchanges))


def _inserted(body: list[bytes], lines: tuple[bytes, ...]) -> list[bytes]:
    middle = len(body) // 2
    carriage = b"\r" if body[middle].endswith(b"\r") else b""
    return [*body[:middle], *(line + carriage for line in lines), *body[middle:]]
