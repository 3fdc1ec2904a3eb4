from pathlib import Path

import pytest

from roundsman.worker.runners.process_policy import ProcessRefusedError, allow
from roundsman.worker.settings import ProcessSettings


@pytest.fixture
def scripts(tmp_path: Path) -> Path:
    folder = tmp_path / "scripts"
    (folder / "deep").mkdir(parents=True)
    (folder / "deep" / "count.sh").write_text("echo 1\n")
    (tmp_path / "secret.sh").write_text("echo secret\n")
    (folder / "out").symlink_to(tmp_path / "secret.sh")
    (folder / "up").symlink_to(tmp_path)
    (folder / "inside").symlink_to(folder / "deep")
    (folder / "loop").symlink_to(folder / "loop")
    return folder


def reason(scripts: Path | None, command: str, path: str, *commands: str) -> str:
    settings = ProcessSettings(commands=commands or ("sh",), scripts=scripts)
    with pytest.raises(ProcessRefusedError) as refused:
        allow(settings, command, path)
    return refused.value.text


@pytest.mark.parametrize(
    "path",
    [
        "",
        "deep/count.sh",
        "./deep/../deep/count.sh",
        "not/there.sh",
        "inside/count.sh",
        "..x",
        "a b",
    ],
)
def test_a_path_within_the_folder_is_passed_as_it_is(scripts: Path, path: str) -> None:
    allowed = allow(ProcessSettings(commands=("sh",), scripts=scripts), "sh", path)
    assert allowed.argv == ("sh", path)
    assert Path(allowed.executable).is_absolute()
    assert allowed.folder == scripts


@pytest.mark.parametrize(
    "path",
    ["..", "../secret.sh", "/etc/passwd", "deep/../../secret.sh", "../scripts/deep/count.sh"],
)
def test_a_path_may_not_leave_the_folder(scripts: Path, path: str) -> None:
    """Fault 12: any path."""
    assert reason(scripts, "sh", path) == f"path leaves the scripts folder: {path}"


@pytest.mark.parametrize("path", ["out", "up/secret.sh", "up/../secret.sh", "inside/../out"])
def test_not_by_a_link_either(scripts: Path, path: str) -> None:
    """Fault 12: any path."""
    assert reason(scripts, "sh", path) == f"path leaves the scripts folder: {path}"


def test_a_loop_of_links_is_the_command_s_own_trouble(scripts: Path) -> None:
    assert allow(ProcessSettings(commands=("sh",), scripts=scripts), "sh", "loop").argv[1] == "loop"


def test_a_folder_with_a_longer_name_is_not_the_folder(scripts: Path) -> None:
    (scripts.parent / "scripts2").mkdir()
    (scripts / "sideways").symlink_to(scripts.parent / "scripts2")
    assert "leaves" in reason(scripts, "sh", "sideways/x")


def test_odd_paths_are_refused_by_name(scripts: Path) -> None:
    assert reason(scripts, "sh", "a\0b") == "path contains a NUL byte"
    assert reason(scripts, "sh", "ä" * 2048) == "path is longer than 4095 bytes"
    longest = "ä" * 2047
    assert (
        allow(ProcessSettings(commands=("sh",), scripts=scripts), "sh", longest).argv[1] == longest
    )
    assert reason(scripts, "sh", "-cid") == (
        "path would be taken for an option: it starts with a dash"
    )


def test_only_listed_commands_and_exactly(scripts: Path) -> None:
    """Fault 12: any executable."""
    assert reason(scripts, "bash", "x") == "command not allowed: bash"
    assert reason(scripts, "/bin/sh", "x") == "command not allowed: /bin/sh"
    assert reason(scripts, "SH", "x") == "command not allowed: SH"
    assert reason(scripts, "", "x") == "command not allowed: "
    assert reason(scripts, "no-such-command", "x", "no-such-command") == (
        "no such executable: no-such-command"
    )


def test_a_name_with_a_slash_is_allowed_where_it_is_listed(scripts: Path) -> None:
    settings = ProcessSettings(commands=("/bin/sh", "deep/tool"), scripts=scripts)
    assert allow(settings, "/bin/sh", "x").executable == "/bin/sh"
    assert reason(scripts, "deep/tool", "x", "deep/tool") == "no such executable: deep/tool"
    tool = scripts / "deep" / "tool"
    tool.write_text("#!/bin/sh\n")
    tool.chmod(0o700)
    assert allow(settings, "deep/tool", "x").executable == str(tool)


def test_by_default_nothing_is_allowed() -> None:
    assert reason(None, "true", "") == "command not allowed: true"
    assert reason(None, "sh", "") == "this worker has no scripts folder"
