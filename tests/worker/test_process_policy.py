import threading
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from roundsman.clock import SystemClock
from roundsman.secret import Secret
from roundsman.wire.control import StartProcess
from roundsman.worker.policy import CommandPolicy, Policy
from roundsman.worker.runners import beneath
from roundsman.worker.runners.process_policy import AllowedCommand, ProcessRefusedError, allowed
from roundsman.worker.runners.process_scripts import ScriptsCopies


@pytest.fixture
def scripts(tmp_path: Path) -> Path:
    folder = tmp_path / "scripts"
    (folder / "deep").mkdir(parents=True)
    (folder / "deep" / "count.sh").write_text("echo 1\n")
    (folder / "a b").write_text("")
    (folder / "..x").write_text("")
    (tmp_path / "secret.sh").write_text("echo secret\n")
    (folder / "out").symlink_to("../secret.sh")
    (folder / "absolute").symlink_to(folder / "deep")
    (folder / "up").symlink_to("..")
    (folder / "inside").symlink_to("deep")
    (folder / "loop").symlink_to("loop")
    return folder


def sh(scripts: Path | None, **more: Any) -> Policy:
    return Policy(commands={"sh": CommandPolicy(executable="sh", scripts=scripts, **more)})


def ask(path: str | None = "", **more: Any) -> StartProcess:
    return StartProcess(process_id="1", **{"command": "sh", "path": path, **more})


def allow(policy: Policy, asked: StartProcess, *tags: str) -> AllowedCommand:
    """With copies beside the scripts folder."""
    folders = [command.scripts for command in policy.commands.values() if command.scripts]
    copies = ScriptsCopies(folders[0].parent if folders else Path("not needed"), SystemClock())
    return allowed(policy, asked, copies, tags=tags, now=SystemClock().now())


def reason(policy: Policy, asked: StartProcess, *tags: str) -> str:
    with pytest.raises(ProcessRefusedError) as refused:
        allow(policy, asked, *tags)
    return refused.value.text


Opener = Callable[[int, str], int]


@pytest.fixture(params=["in one step", "part by part"])
def opener(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """With the kernel's call, and as kernels do that have none."""
    if request.param == "part by part":
        monkeypatch.setattr(beneath, "has_openat2", lambda: False)
    elif not beneath.has_openat2():
        pytest.skip("this kernel has no openat2")
    return str(request.param)


@pytest.mark.parametrize("path", ["deep/count.sh", "./deep/count.sh", "..x", "a b"])
def test_a_script_has_its_own_name_in_a_copy_of_its_folder(
    scripts: Path, path: str, opener: str
) -> None:
    command = allow(sh(scripts), ask(path))
    assert command.argv == ("sh", path)
    assert Path(command.folder, path).read_text() == (scripts / path).read_text()
    assert Path(command.executable).is_absolute()
    assert Path(command.folder) != scripts


def test_links_that_stay_within_the_folder_are_followed(scripts: Path) -> None:
    for path in ("inside/count.sh", "deep/../inside/count.sh"):
        command = allow(sh(scripts), ask(path))
        assert Path(command.folder, path).read_text() == "echo 1\n"


@pytest.mark.parametrize(
    "path",
    [
        *("..", "../secret.sh", "/etc/passwd", "deep/../../secret.sh"),
        *("../scripts/deep/count.sh", "out", "up/secret.sh", "absolute/count.sh"),
    ],
)
def test_a_path_may_not_leave_the_folder(scripts: Path, path: str, opener: str) -> None:
    """Fault 12: any path."""
    assert reason(sh(scripts), ask(path)) == f"path leaves the scripts folder: {path}"


@pytest.mark.parametrize(
    ("path", "why"),
    [
        ("not/there.sh", "no such script: not/there.sh"),
        ("deep/count.sh/x", "no such script: deep/count.sh/x"),
        ("deep", "not a file: deep"),
        ("loop", "could not open loop: Too many levels of symbolic links"),
        ("a\0b", "path contains a NUL byte"),
        ("ä" * 2048, "path is longer than 4095 bytes"),
        ("-cid", "path would be taken for an option: it starts with a dash"),
        (None, "sh is given a script: path is needed"),
    ],
)
def test_odd_paths_are_refused_by_name(scripts: Path, path: str | None, why: str) -> None:
    assert reason(sh(scripts), ask(path)) == why


def test_a_path_swapped_for_a_link_at_any_moment_never_leads_out(
    scripts: Path, opener: str
) -> None:
    """Somebody renames a link over the script, and back, all the time."""
    (scripts / "now").hardlink_to(scripts / "deep" / "count.sh")
    following = scripts / "next"
    done = threading.Event()

    def swap() -> None:
        while not done.is_set():
            following.symlink_to("../secret.sh")
            following.replace(scripts / "now")
            following.hardlink_to(scripts / "deep" / "count.sh")
            following.replace(scripts / "now")

    swapping = threading.Thread(target=swap)
    swapping.start()
    seen: Counter[str] = Counter()
    try:
        while len(seen) < 2 or min(seen.values()) < 5:
            try:
                command = allow(sh(scripts), ask("now"))
                seen[Path(command.folder, command.argv[1]).read_text()] += 1
            except ProcessRefusedError as error:
                seen[error.text] += 1
    finally:
        done.set()
        swapping.join()
    assert set(seen) == {"echo 1\n", "path leaves the scripts folder: now"}


def test_an_empty_path_is_passed_as_it_is(scripts: Path) -> None:
    for policy in (sh(scripts), sh(None)):
        assert allow(policy, ask("")).argv == ("sh", "")


def test_only_listed_commands_and_exactly(scripts: Path) -> None:
    """Fault 12: any executable."""
    assert reason(Policy(), ask()) == "command not allowed: sh"
    for name in ("bash", "/bin/sh", "SH", ""):
        assert reason(sh(scripts), ask(command=name)) == f"command not allowed: {name}"
    missing = Policy(commands={"sh": CommandPolicy(executable="no-such-command")})
    assert reason(missing, ask()) == "no such executable: no-such-command"
    elsewhere = Policy(commands={"sh": CommandPolicy(executable="/bin/sh")})
    assert allow(elsewhere, ask()).executable == "/bin/sh"


def test_an_executable_of_the_scripts_folder_is_opened_there(scripts: Path) -> None:
    tool = Policy(commands={"sh": CommandPolicy(executable="deep/tool", scripts=scripts)})
    assert reason(tool, ask()) == "no such executable: deep/tool"
    (scripts / "deep" / "tool").symlink_to("/bin/sh")
    assert reason(tool, ask()) == "path leaves the scripts folder: deep/tool"
    (scripts / "deep" / "tool").unlink()
    (scripts / "deep" / "tool").write_text("#!/bin/sh\n")
    command = allow(tool, ask(""))
    assert command.executable == "deep/tool"
    assert Path(command.folder, command.executable).read_text() == "#!/bin/sh\n"
    assert reason(tool, ask("x")) == "sh does not take the argument x"


def test_every_argument_matches_a_pattern_as_a_whole() -> None:
    policy = sh(None, arguments=("-[vq]", "[a-z]+[0-9]"))
    assert allow(policy, ask(None, arguments=("-v", "edge1"))).argv == ("sh", "-v", "edge1")
    assert allow(policy, ask("edge1", arguments=("-q",))).argv == ("sh", "edge1", "-q")
    for bad in ("-vq", "edge12", "edge1\n", "x -v", ""):
        assert reason(policy, ask(None, arguments=("-v", bad))).startswith("sh does not take")
    assert reason(policy, ask("edge")) == "sh does not take the argument edge"
    assert reason(sh(None), ask(None, arguments=("x",))) == "sh does not take the argument x"
    assert "NUL" in reason(policy, ask(None, arguments=("edge1\0",)))


def test_variables_are_taken_by_name() -> None:
    policy = sh(None, environment=frozenset({"SITE", "TOKEN"}))
    asked = ask(environment={"SITE": "ams"}, secret_environment={"TOKEN": Secret("s3cret")})
    command = allow(policy, asked)
    assert command.environment == {"SITE": "ams", "TOKEN": "s3cret"}
    assert command.secrets == ("s3cret",)
    path = ask(environment={"LD_PRELOAD": "x.so"})
    assert reason(policy, path) == "sh does not take the variable LD_PRELOAD"
    path = ask(secret_environment={"PATH": Secret("x")})
    assert reason(policy, path) == "sh does not take the variable PATH"
    assert "NUL" in reason(policy, ask(environment={"SITE": "a\0b"}))


def test_what_is_too_much_is_refused() -> None:
    policy = sh(None, arguments=("x*",))
    assert "longer than 131072" in reason(policy, ask(arguments=("x" * 70_000,) * 2))
    assert "longer than 262144" in reason(policy, ask(standard_input=b"x" * 262_145))


def test_who_may_start_it_and_where() -> None:
    policy = sh(None, roles=frozenset({"administrator"}), tags=frozenset({"ams", "dmz"}))
    asked = ask(roles=("reader", "administrator"))
    assert allow(policy, asked, "ams", "x").argv == ("sh", "")
    assert reason(policy, asked) == "sh runs only on workers that serve ams or dmz"
    asked = msgspec.structs.replace(asked, roles=("reader",))
    assert reason(policy, asked, "ams") == "sh may be started only by role administrator"
