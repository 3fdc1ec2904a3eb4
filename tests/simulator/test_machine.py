"""State machines, as they are read and played."""

from pathlib import Path

import pytest

from roundsman.simulator.machine import Machine, MachineDialogue, MachineError, read_machine
from roundsman.simulator.terminal import Answer, Echo


def written(folder: Path, text: str, name: str = "machine.yaml") -> Path:
    file = folder / name
    file.write_text(text)
    return file


MACHINE = r"""
login:
  preface: |
    Welcome

  prompt: "Username: "
  commands:
    "admin": {new_state: password}
password:
  prompt: "Password: "
  commands:
    "letmein": {new_state: booting}
booting:
  preface: {response: "file|there/boot.txt", timing: ["0:1,0.5", "1:,0,0.1,0.2"]}
  prompt: ""
  new_state: exec
exec:
  prompt: "%N>"
  commands: &commands
    "show version": "one line"
    "show all": {response: [first, second]}
    "show clock": {response: [tick, tock], response_type: circular}
    "reload": {response: "going down\n", new_state: confirm}
    "more": {new_state: pager}
    "lost": {response: gone, new_state: nowhere}
    "elsewhere": {new_state: beside}
confirm:
  prompt: "Proceed? [confirm]"
  commands:
    "": {new_state: login}
  keys: {'ctrl-\^x': {new_state: exec}, "y": {response: "yes", new_state: login}}
pager:
  prompt: "--More--"
  keys: {" ": {new_state: exec}}
"""


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    written(tmp_path, "Booting\nab\n", "boot.txt")
    written(tmp_path, "beside:\n  prompt: '%N#'\n", "others.yaml")
    return read_machine(written(tmp_path, MACHINE))


def shown(dialogue: MachineDialogue) -> tuple[bytes, Echo]:
    return dialogue.prompt(), dialogue.echo


def test_states_are_walked(machine: Machine) -> None:
    played = machine.dialogue("r1")
    assert played.begin() == Answer(output=b"Welcome\r\n")
    assert shown(played) == (b"Username: ", Echo.TYPED)
    assert played.answer("admin").output == b""
    assert shown(played) == (b"Password: ", Echo.LINE_ENDS)
    assert played.answer("wrong").output == b"% unknown in this state\r\n"
    booted = played.answer("letmein")
    assert booted.output == b"Booting\r\nab\r\n"
    assert [*booted.pauses] == [(0, 0.5), (9, 0), (10, 0.2), (11, 0.2), (12, 0.2)]
    assert shown(played) == (b"r1>", Echo.TYPED)
    assert played.answer("").output == b""
    assert played.answer("show version").output == b"one line\r\n"
    assert [played.answer("show all").output for _ in range(3)] == [
        b"first\r\n",
        b"second\r\n",
        b"second\r\n",
    ]
    assert [played.answer("show clock").output[:4] for _ in range(3)] == [b"tick", b"tock", b"tick"]


def test_keys_need_no_enter(machine: Machine) -> None:
    played = machine.dialogue("r1")
    played.state = "confirm"
    assert played.key("\x1e") is None
    assert played.key("\x1ex") == Answer(output=b"")
    assert played.prompt() == b"r1>"
    played.answer("reload")
    assert played.key("y") == Answer(output=b"yes\r\nWelcome\r\n")


def test_states_beside_the_file_are_found_and_where_none_is_the_device_hangs_up(
    machine: Machine,
) -> None:
    assert machine.missing == {"nowhere": "state exec, 'lost'"}
    played = machine.dialogue("r1")
    played.state = "exec"
    played.answer("elsewhere")
    assert played.state == "beside"
    played.state = "exec"
    assert played.answer("lost") == Answer(output=b"gone\r\n", ends_session=True)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("- a", "expected a mapping of states"),
        ("", "expected a mapping of states"),
        ("a: [", "is no state machine"),
        ("a: text", "state a: expected a mapping, got str"),
        ("a: {promt: x}", "state a: unknown: promt; known are commands, keys, new_state"),
        ("a: {commands: {x: {respond: y}}}", "state a, commands, 'x': unknown: respond"),
        ("a: {commands: {x: {response: {}}}}", "expected a text, got dict"),
        ("a: {commands: [x]}", "state a, commands: expected a mapping, got list"),
        ("a: {commands: {x: {response_type: random}}}", "response_type 'random'"),
        ("a: {commands: {x: {timing: [soon]}}}", "timing 'soon': expected from:to,before"),
        ("a: {preface: file|none.txt}", "there is no file none.txt"),
        ("a: {new_state: b}\nb: {new_state: a}", "it leads to itself for ever"),
    ],
)
def test_what_is_not_understood_is_said(tmp_path: Path, text: str, says: str) -> None:
    with pytest.raises(MachineError) as caught:
        read_machine(written(tmp_path, text))
    assert says in caught.value.text


def test_a_first_state_must_exist(tmp_path: Path) -> None:
    with pytest.raises(MachineError, match="there is no state 'nowhere'"):
        read_machine(written(tmp_path, MACHINE), "nowhere")
