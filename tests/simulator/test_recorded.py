"""Recorded dialogues, as they are read and played."""

from pathlib import Path

import pytest

from roundsman.simulator.recorded import DialogueError, Exchange, read_recording
from roundsman.simulator.terminal import Answer, Echo


def written(folder: Path, text: str) -> Path:
    file = folder / "recording.yaml"
    file.write_text(text)
    return file


def test_escapes_are_those_of_the_format(tmp_path: Path) -> None:
    file = written(
        tmp_path,
        'init_prompt: |-\n  \\x20Hi \\"you\\"\n  \\e[1mr1\\#\n'
        'commands:\n  - "show\\n": |-\n      show\n      C:\\x5cfile \\d\n      r1\\#\n'
        "  - ' ': pager\n",
    )
    recording = read_recording(file)
    assert recording.greeting == b' Hi "you"\n\x1b[1mr1#'
    assert recording.exchanges == (
        Exchange("show\n", b"show\nC:\\file \\d\nr1#"),
        Exchange(" ", b"pager"),
    )


@pytest.mark.parametrize(
    "text", ["", "- a", "init_prompt: x", "init_prompt: x\ncommands: 3", "a: [", "commands: {}"]
)
def test_what_is_no_dialogue_is_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(DialogueError):
        read_recording(written(tmp_path, text))


PAGED = """\
init_prompt: "hi\\nr1>"
commands:
  - "show\\n": "show\\none\\n--More--"
  - " ": "\\\\r      \\\\rtwo"
  - " ": "\\nthree\\n--More--"
  - " ": "\\\\r      \\\\rfour\\nr1>"
  - "su\\n": "su\\nPassword: "
  - "recorded\\n": "r1#"
  - "exit\\n": ""
"""


def test_pages_are_turned_and_passwords_answered(tmp_path: Path) -> None:
    played = read_recording(written(tmp_path, PAGED)).dialogue()
    assert played.begin().output == b"hi\r\n"
    assert (played.prompt(), played.echo) == (b"r1>", Echo.NOTHING)
    assert played.answer("show").output == b"show\r\none\r\n--More--"
    assert played.prompt() == b""
    assert played.key("x") is None
    turned = played.key("x ")  # the second key had been pressed before it was waited for
    assert turned == Answer(output=b"\r      \rtwo\r\nthree\r\n--More--")
    assert played.key(" ") == Answer(output=b"\r      \rfour\r\n")
    assert played.prompt() == b"r1>"
    assert played.answer("what").output == b"what\r\n% not recorded\r\n"
    assert played.answer("su").output == b"su\r\n"
    assert played.prompt() == b"Password: "
    assert played.answer("another").output == b"\r\n"
    assert played.prompt() == b"r1#"
    assert played.answer("exit").ends_session


def test_an_empty_line_is_answered_on_a_new_line(tmp_path: Path) -> None:
    """Some recordings, finished by hand, have nothing but a prompt there."""
    text = 'init_prompt: "r1#"\ncommands: {"show\\n": "show\\nr1##", "\\n": "r1##"}\n'
    played = read_recording(written(tmp_path, text)).dialogue()
    played.answer("show")
    assert played.answer("").output == b"\r\n"
    assert played.prompt() == b"r1##"
