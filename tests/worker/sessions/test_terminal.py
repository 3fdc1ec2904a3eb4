"""What a person would read on the screen, however the bytes are cut."""

import random
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from roundsman.worker.sessions.terminal import LineRenderer


def render(*pieces: bytes) -> tuple[bytes, bytes]:
    renderer = LineRenderer()
    return b"".join(map(renderer.feed, pieces)), renderer.line


@pytest.mark.parametrize(
    ("sent", "lines", "rest"),
    [
        (b"one\r\ntwo\r\r\nthree\n", b"one\ntwo\nthree\n", b""),
        (b"\x1b[1;32mr1\x1b[0m# ", b"", b"r1# "),
        (b"\x1b]0;title\x07user@r1:~$ ", b"", b"user@r1:~$ "),
        (b"\x1b[?2004h$ ", b"", b"$ "),
        (b"progress 10%\rprogress 99%\r\n", b"progress 99%\n", b""),
        (b"--More--\b\b\b\b\b\b\b\b        \b\b\b\b\b\b\b\bab\r\n", b"ab\n", b""),
        (b"--More--\r        \rab\r\n", b"ab\n", b""),
        (b"wrong\x1b[2K\rright\n", b"right\n", b""),
        (b"abcdef\x1b[3D\x1b[K\n", b"abc\n", b""),
        (b"shwo\b \b\b \bow\r\n", b"show\n", b""),
        (b"blanks at the end  \r\n", b"blanks at the end  \n", b""),
        (b"\tindented\x0b\x0c\n", b"\tindented\x0b\x0c\n", b""),
        (b"bell\x07 and padding\x00\x00\r\x00\n", b"bell and padding\n", b""),
        ("Zürich ☃\r\n".encode(), "Zürich ☃\n".encode(), b""),
        (b"\xff\xfe latin \xe4\n", b"\xff\xfe latin \xe4\n", b""),
        (b"one\n\rtwo\n\rr1#", b"one\ntwo\n", b"r1#"),
        (b"Press any key\x1b[2J\x1b[H\x1b[?25hr1#", b"", b"r1#"),
        (b"old\x1bc\x1b[1;1Hr1#", b"", b"r1#"),
        (b"left and right\r\x1b[5C\x1b[Jr1#\n", b"left r1#\n", b""),
        (b"\x1b(0lqqqk\x1b(B \x0ex\x0f\n", b"lqqqk x\n", b""),
        (b"\x1b]0;title\x1b\\\x1b[?2004hr1#\x1b[?2004l\n", b"r1#\n", b""),
        (b"axxb\r\x1b[C\x1b[2P\n", b"ab\n", b""),
        (b"ab\r\x1b[C\x1b[2@xx\n", b"axxb\n", b""),
        (b"axxb\r\x1b[C\x1b[2X\n", b"a  b\n", b""),
    ],
)
def test_lines_read_as_on_a_screen(sent: bytes, lines: bytes, rest: bytes) -> None:
    assert render(sent) == (lines, rest)


@pytest.mark.parametrize(
    ("asked", "reply"),
    [
        (b"\x1b[6n", b"\x1b[1;1R"),
        (b"r1# \x1b[6n", b"\x1b[1;5R"),
        (b"\x1b[9999;9999H\x1b[6n", b"\x1b[9999;511R"),  # how large is the screen?
        (b"\r\x1b[999C\x1b[6n", b"\x1b[1;511R"),
        (b"\x1b[9999B\x1b[6n", b"\x1b[9999;1R"),
        (b"\x1b[5n", b"\x1b[0n"),
        (b"\x1b[c", b"\x1b[?1;0c"),
        (b"\x1bZ", b"\x1b[?1;0c"),
        (b"\x1b[18t", b"\x1b[8;9999;511t"),
        (b"\x1b[?6n\x1b[>c\x1b[22;0t", b""),
    ],
)
def test_what_is_asked_of_terminals_is_answered(asked: bytes, reply: bytes) -> None:
    for pieces in ([asked], [bytes([byte]) for byte in asked]):
        renderer = LineRenderer()
        for piece in pieces:
            renderer.feed(piece)
        assert renderer.take_replies() == reply
        assert renderer.take_replies() == b""


def test_numbers_beyond_all_screens_do_no_harm() -> None:
    for final in b"ABCDGHJKPX@fnt":
        renderer = LineRenderer()
        renderer.feed(b"ab\x1b[" + b"9" * 5000 + bytes([final]) + b"cd\n")
        assert len(renderer.feed(b"\n")) < 20_000


def test_output_that_is_full_of_questions_is_not_answered_for_ever() -> None:
    renderer = LineRenderer()
    renderer.feed(b"\x1b[6n" * 10_000)
    assert len(renderer.take_replies()) == 100 * len(b"\x1b[1;1R")


PARTS = st.sampled_from(
    (
        *(b"a", b"text # ", b"\r\n", b"\n", b"\r", b"\r\r\n", b"\b", b" ", b"\x00", b"\x1b", b"\t"),
        *(b"\x1b[K", b"\x1b[2K", b"\x1b[31m", b"\x1b]0;t\x07", b"\x1b[2D", b"\x1b[C", b"\x1b[5G"),
        *(b"\x1b[J", b"\x1b[2J", b"\x1b[H", b"\x1b[2X", b"\x1b[2P", b"\x1b[2@", b"\x1bc"),
    )
)


@given(st.lists(PARTS, max_size=40).map(b"".join), st.randoms(use_true_random=False))
def test_the_text_does_not_depend_on_how_the_stream_is_cut(
    stream: bytes, chance: random.Random
) -> None:
    whole = render(stream)
    cuts = sorted(chance.choices(range(len(stream) + 1), k=5))
    pieces = [stream[a:b] for a, b in zip([0, *cuts], [*cuts, len(stream)], strict=True)]
    assert render(*pieces) == whole
    assert render(*(bytes([byte]) for byte in stream)) == whole


def test_a_line_without_end_is_given_out_in_parts() -> None:
    renderer = LineRenderer()
    given_out = b"".join(renderer.feed(b"x" * 65536) for _ in range(101))
    assert len(given_out) + len(renderer.line) == 101 * 65536
    assert len(renderer.line) <= 1 << 16
    assert renderer.continued
    assert renderer.feed(b"\nr1#").endswith(b"x\n")
    assert not renderer.continued


def test_a_long_run_of_carriage_returns_costs_no_more_than_its_length() -> None:
    """It took seconds for each 64 KiB, in which no other session went on."""
    screen = LineRenderer()
    began = time.process_time()
    assert screen.feed(b"x" + b"\r" * (1 << 20) + b"y\n") == b"y\n"
    assert time.process_time() - began < 5
