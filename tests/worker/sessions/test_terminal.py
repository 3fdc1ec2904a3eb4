"""What a person would read on the screen, however the bytes are cut."""

import random

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
    ],
)
def test_lines_read_as_on_a_screen(sent: bytes, lines: bytes, rest: bytes) -> None:
    assert render(sent) == (lines, rest)


PARTS = st.sampled_from(
    (
        *(b"a", b"text # ", b"\r\n", b"\n", b"\r", b"\r\r\n", b"\b", b" ", b"\x00", b"\x1b", b"\t"),
        *(b"\x1b[K", b"\x1b[2K", b"\x1b[31m", b"\x1b]0;t\x07", b"\x1b[2D", b"\x1b[C", b"\x1b[5G"),
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
    given_out = b"".join(renderer.feed(b"x" * 65536) for _ in range(100))
    assert len(given_out) + len(renderer.line) == 6_553_600
    assert len(renderer.line) <= 1 << 20
    assert renderer.continued
    assert renderer.feed(b"\nr1#").endswith(b"x\n")
    assert not renderer.continued
