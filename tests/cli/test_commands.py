"""The program as a shell sees it."""

import subprocess
import sys
from pathlib import Path

import pytest

from roundsman import __version__
from roundsman.cli.main import COMMANDS, module_of
from roundsman.controller.access import token_hash

HELPERS = {
    "advice",
    "attempt",
    "execution",
    "filtering",
    "lines",
    "side_by_side",
    "steps",
    "target",
}

GOOD = """\
devices: {edge1: {credentials: {user: backup, pass: "env:EDGE_PASSWORD"}, jobs: [show_run]}}
jobs: {show_run: {schedule: {duration: 1 hour}, command: {inline: [show run]}}}
"""


def roundsman(
    *arguments: str, environ: dict[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "roundsman", *arguments],
        capture_output=True,
        text=True,
        check=False,
        env=environ,
        timeout=60,
    )


def test_version_is_told_without_importing_what_it_does_not_need() -> None:
    code = (
        "import sys; sys.argv = ['roundsman', '--version']\n"
        "from roundsman.cli.main import main\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        "heavy = {'asyncssh', 'litestar', 'aiohttp', 'rich', 'structlog', 'msgspec'}\n"
        "assert not heavy & sys.modules.keys(), heavy & sys.modules.keys()\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout == f"roundsman {__version__}\n"


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_explains_itself(name: str) -> None:
    done = roundsman(name, "--help")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith(f"Usage: python -m roundsman {name} ")


def test_help_lists_every_command_and_every_file_is_a_command() -> None:
    listed = roundsman("--help").stdout
    assert all(f"  {name} " in listed for name in COMMANDS)
    package = Path(__file__).parents[2] / "src" / "roundsman" / "cli"
    files = {file.stem for file in package.glob("*.py")} - {"__init__", "main", "compose", *HELPERS}
    assert files == set(map(module_of, COMMANDS))


def test_a_command_that_is_not_there_is_wrong_usage() -> None:
    done = roundsman("chekc")
    assert done.returncode == 2
    assert "No such command 'chekc'" in done.stderr


def test_a_good_configuration_is_counted(tmp_path: Path) -> None:
    file = tmp_path / "site.yaml"
    file.write_text(GOOD)
    done = roundsman("check", str(file), environ={"EDGE_PASSWORD": "x"})
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == f"{file}: good: 1 devices, 1 jobs, 1 slots\n"


def test_what_is_allowed_but_had_better_be_otherwise_is_said(tmp_path: Path) -> None:
    file = tmp_path / "site.yaml"
    file.write_text('devices: {cpe1: {platform: "netmiko:accedian"}}\n')
    done = roundsman("check", str(file), environ={})
    assert done.returncode == 0
    assert done.stderr.startswith("warning: cpe1: read by netmiko, which takes a pattern")


def test_everything_wrong_with_a_configuration_is_said_at_once(tmp_path: Path) -> None:
    file = tmp_path / "site.yaml"
    file.write_text(GOOD + "contoller: {}\n")
    done = roundsman("check", str(file), environ={})
    assert (done.returncode, done.stdout) == (1, "")
    assert f"config.unknown_key: {file}:3 contoller: unknown key" in done.stderr
    assert 'did you mean "controller"?' in done.stderr
    assert "environment variable EDGE_PASSWORD is not set" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("name", ["controller", "up"])
def test_nothing_starts_on_a_bad_configuration(name: str, tmp_path: Path) -> None:
    file = tmp_path / "site.yaml"
    file.write_text("jobs: []\n")
    done = roundsman(name, str(file))
    assert done.returncode == 1
    assert f"{file}:1 jobs:" in done.stderr
    assert list(tmp_path.iterdir()) == [file]


def test_a_token_and_its_hash_belong_together() -> None:
    done = roundsman("token", "ops", "--role", "reader")
    token = done.stdout.removesuffix("\n")
    assert len(token) == 43
    assert f"hash: {token_hash(token)}" in done.stderr
    assert token not in done.stderr
    assert "role: reader" in done.stderr


def test_a_token_is_never_taken_from_the_command_line() -> None:
    done = roundsman("worker", "--controller", "http://localhost:1", "--token", "hunter2")
    assert done.returncode == 2
    assert "give a reference" in done.stderr
    assert "hunter2" not in done.stderr
