from pathlib import Path

import pytest

from roundsman.documents.problems import ConfigurationError
from roundsman.wire.process import ProcessLimits
from roundsman.worker.policy import CommandPolicy, OnStop, Policy
from roundsman.worker.policy_file import load_policy

WHOLE = """
commands:
  python:
    executable: /usr/bin/python3
    scripts: scripts
    arguments: ['[a-z0-9.-]+']
    environment: [SITE]
    roles: [administrator]
    tags: [ams]
    user: root
    limits: {wall_seconds: 60, memory_bytes: 1048576}
    grace_seconds: 0
  uptime: {}
on_stop: stop
"""


def write(folder: Path, text: str) -> Path:
    file = folder / "policy.yaml"
    file.write_text(text)
    file.chmod(0o644)
    return file


def complaints(file: Path) -> str:
    with pytest.raises(ConfigurationError) as caught:
        load_policy(file)
    return str(caught.value)


def test_everything_can_be_said(tmp_path: Path) -> None:
    policy = load_policy(write(tmp_path, WHOLE))
    python = policy.commands["python"]
    assert python.executable == "/usr/bin/python3"
    assert python.scripts == tmp_path / "scripts"
    assert python.arguments == ("[a-z0-9.-]+",)
    assert python.environment == frozenset({"SITE"})
    assert (python.roles, python.tags) == (frozenset({"administrator"}), frozenset({"ams"}))
    assert python.limits == ProcessLimits(wall_seconds=60, memory_bytes=1 << 20)
    assert (python.user, python.grace_seconds) == ("root", 0)
    assert policy.on_stop is OnStop.STOP
    assert policy.commands["uptime"] == CommandPolicy(executable="uptime")


def test_signers_are_lines_of_openssh_s(tmp_path: Path) -> None:
    line = 'ada namespaces="roundsman" ssh-rsa AAAAB3NzaC1yc2E= ada'
    policy = load_policy(write(tmp_path, f"signers: ['{line}']"))
    assert [(one.name, one.namespaces) for one in policy.signers] == [("ada", ("roundsman",))]
    said = complaints(write(tmp_path, "signers: ['ada', 'ada ssh-rsa x']"))
    assert said.count("policy.yaml:1") == 2
    assert "expected PRINCIPALS" in said
    assert "nobody is listed" in complaints(write(tmp_path, "signers: []"))


def test_an_empty_file_allows_nothing(tmp_path: Path) -> None:
    assert load_policy(write(tmp_path, "")) == Policy()


def test_all_that_is_wrong_is_said_at_once_with_its_line(tmp_path: Path) -> None:
    said = complaints(
        write(
            tmp_path,
            """
comands: {}
commands:
  sh:
    script: scripts
    arguments: ['(']
    environment: [A=B, ROUNDSMAN_X]
    user: nobody-of-this-name
    limits: {tasks: 0}
  ./tool: {}
""",
        )
    )
    for part in (
        "comands: unknown key, expected one of commands, on_stop, signers",
        'did you mean "commands"?',
        "policy.yaml:5 commands.sh.script: unknown key",
        "policy.yaml:6 commands.sh.arguments[0]: not a regular expression",
        "policy.yaml:7 commands.sh.environment[0]: expected the name of a variable",
        "policy.yaml:7 commands.sh.environment[1]: expected the name of a variable",
        "policy.yaml:8 commands.sh.user: no such user on this machine",
        "policy.yaml:9 commands.sh.limits.tasks: expected a whole number from 1 to",
        'policy.yaml:10 commands."./tool": a relative path is taken from `scripts`',
    ):
        assert part in said, said


@pytest.mark.parametrize("whose", ["file", "folder"])
@pytest.mark.parametrize("mode", [0o020, 0o002])
def test_what_others_may_write_is_no_policy(tmp_path: Path, whose: str, mode: int) -> None:
    folder = tmp_path / "folder"
    folder.mkdir(mode=0o755)
    file = write(folder, "commands: {}")
    path = file if whose == "file" else folder
    path.chmod(path.stat().st_mode | mode)
    said = complaints(file)
    assert f"{path} may be written by others than its owner; chmod go-w {path}" in said


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    assert "policy.yaml: cannot be read: No such file" in complaints(tmp_path / "policy.yaml")
