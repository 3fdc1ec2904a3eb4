from pathlib import Path
from typing import Any

import pytest

from roundsman.documents.problems import ConfigurationError
from roundsman.secret import Secret
from roundsman.worker.settings import (
    HostKeyPolicy,
    OutboxSettings,
    WorkerSettings,
)
from roundsman.worker.settings_file import load

WHOLE = """
controller: https://roundsman.example.net:9400
token: env:ENROL
name: ams-1
state: state
tags: [ams, dmz]
sessions: 50
host_keys: known
ssh_agent: /run/agent
policy: policy.yaml
outbox: {max_bytes: 1073741824, max_count: 100}
ca_file: /etc/ssl/roundsman.pem
"""


def write(folder: Path, text: str, name: str = "worker.yaml") -> Path:
    file = folder / name
    file.write_text(text)
    file.chmod(0o600)
    return file


def settings(
    file: Path | None, environ: dict[str, str] | None = None, /, **given: Any
) -> WorkerSettings:
    return load(file, given=given, environ=environ or {}).settings


def complaints(file: Path | None, **given: Any) -> str:
    with pytest.raises(ConfigurationError) as caught:
        settings(file, **given)
    return str(caught.value)


def test_everything_can_be_said_in_a_file(tmp_path: Path) -> None:
    assert settings(write(tmp_path, WHOLE), {"ENROL": "t0ken"}) == WorkerSettings(
        controller="https://roundsman.example.net:9400",
        token=Secret("t0ken"),
        name="ams-1",
        state=tmp_path / "state",
        tags=("ams", "dmz"),
        sessions=50,
        host_keys=HostKeyPolicy.KNOWN,
        ssh_agent=Path("/run/agent"),
        policy=tmp_path / "policy.yaml",
        outbox=OutboxSettings(max_bytes=1 << 30, max_count=100),
        ca_file=Path("/etc/ssl/roundsman.pem"),
    )


def test_nothing_but_the_address_need_be_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    said = settings(None, controller="http://127.0.0.1:9400", name="x", token=None, tags=[])
    assert said == WorkerSettings(
        controller="http://127.0.0.1:9400", name="x", state=tmp_path / "roundsman-worker"
    )
    assert settings(None, controller="http://127.0.0.1:9400").name


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("worker.json", '{"controller": "http://[::1]:1", "outbox": {"max_count": 7}}'),
        ("worker.toml", 'controller = "http://[::1]:1"\noutbox.max_count = 7'),
    ],
)
def test_the_other_formats_say_the_same(tmp_path: Path, name: str, text: str) -> None:
    said = settings(write(tmp_path, text, name))
    assert (said.controller, said.outbox.max_count) == ("http://[::1]:1", 7)
    assert said.outbox.max_bytes == 2 << 30


def test_the_command_line_wins_key_by_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    (tmp_path / "here" / "token").write_text("from a file\n")
    said = settings(
        write(tmp_path, WHOLE),
        {"ENROL": "t0ken"},
        token="file:token",
        state=Path("other"),
        tags=["fra"],
        outbox={"max_count": 5},
    )
    assert said.token == Secret("from a file")
    assert said.state == tmp_path / "here" / "other"
    assert said.tags == ("fra",)
    assert (said.outbox.max_count, said.outbox.max_bytes) == (5, 1 << 30)
    assert said.policy == tmp_path / "policy.yaml"


def test_all_that_is_wrong_is_said_at_once_with_its_line(tmp_path: Path) -> None:
    file = write(
        tmp_path,
        """
controler: https://x
controller: roundsman
tags: [""]
sessions: 0
host_keys: knwon
policies: policy.yaml
token: env:NOT_SET
outbox: {max_bytes: much}
""",
    )
    said = complaints(file, sessions="many")
    for part in (
        "worker.yaml:2 controler: unknown key",
        'did you mean "controller"?',
        "worker.yaml:3 controller: 'roundsman' is not the address of a controller",
        "worker.yaml:4 tags[0]",
        "worker.yaml:5 sessions: expected a whole number from 1 to 10000, got 0",
        'worker.yaml:6 host_keys: expected one of known, trust_on_first_use, got "knwon"',
        "worker.yaml:7 policies: unknown key",
        "worker.yaml:8 token: environment variable NOT_SET is not set",
        "worker.yaml:9 outbox.max_bytes: expected a whole number",
        "command line sessions: expected a whole number",
    ):
        assert part in said, said


def test_an_address_is_needed(tmp_path: Path) -> None:
    assert "command line: controller is needed" in complaints(None)
    assert "worker.yaml: controller is needed" in complaints(write(tmp_path, "name: x"))


def test_no_secret_is_shown(tmp_path: Path) -> None:
    file = write(tmp_path, "controller: https://me:s3cret@x\ntoken: t0ps3cret\nsessions: x")
    assert "s3cret" not in complaints(file)
    assert "s3cret" not in complaints(None, controller="https://me:s3cret@[x")
    assert "t0ken" not in repr(settings(write(tmp_path, WHOLE), {"ENROL": "t0ken"}))


def test_a_token_in_a_file_that_everybody_may_read_is_warned_of(tmp_path: Path) -> None:
    file = write(tmp_path, "controller: https://x\ntoken: t0ken")
    assert load(file, given={}, environ={}).warnings == ()
    file.chmod(0o644)
    assert "chmod o-r" in load(file, given={}, environ={}).warnings[0]


def test_the_agent_is_found_by_a_variable_too(tmp_path: Path) -> None:
    file = write(tmp_path, "controller: http://127.0.0.1:1\nssh_agent: env:SSH_AUTH_SOCK\n")
    assert settings(file, {"SSH_AUTH_SOCK": "/run/agent"}).ssh_agent == Path("/run/agent")
    assert "ssh_agent: environment variable SSH_AUTH_SOCK is not set" in complaints(file)


def test_several_controllers_are_a_list(tmp_path: Path) -> None:
    file = write(tmp_path, "controller: [https://a.example.net:9400, https://b.example.net:9400]")
    assert settings(file, {}).controller == (
        "https://a.example.net:9400",
        "https://b.example.net:9400",
    )
    said = complaints(write(tmp_path, "controller: [https://a.example.net:9400, b]"))
    assert "'b' is not the address of a controller" in said
    assert "or several" in complaints(write(tmp_path, "controller: []"))
