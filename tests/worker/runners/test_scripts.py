import os
import threading
from pathlib import Path

import pytest

from roundsman.clock import SystemClock
from roundsman.testing.clock import ManualClock
from roundsman.worker.runners import process_copying, process_scripts
from roundsman.worker.runners.process_copying import ScriptsError
from roundsman.worker.runners.process_scripts import ScriptsCopies, ScriptsCopy


class Copies:
    """Copies of one folder, as of a time at which all its changes are long ago."""

    def __init__(self, folder: Path) -> None:
        self.source = folder / "scripts"
        (self.source / "deep").mkdir(parents=True)
        (self.source / "deep" / "x.sh").write_text("one")
        self.state = folder / "state"
        self.state.mkdir(mode=0o700)
        self.clock = ManualClock()
        self.clock.advance(SystemClock().now() + 1000 - self.clock.now())
        self.copies = ScriptsCopies(self.state, self.clock)

    def take(self) -> ScriptsCopy:
        return self.copies.copy_of(self.source)


@pytest.fixture
def scripts(tmp_path: Path) -> Copies:
    return Copies(tmp_path)


def test_a_folder_that_did_not_change_is_not_copied_again(scripts: Copies) -> None:
    first = scripts.take()
    assert scripts.take() is first
    changes = (
        lambda: (scripts.source / "deep" / "x.sh").write_text("two"),
        (scripts.source / "y").touch,
        lambda: (scripts.source / "y").chmod(0o700),
        lambda: (scripts.source / "y").rename(scripts.source / "z"),
        (scripts.source / "z").unlink,
        lambda: (scripts.source / "deep" / "link").symlink_to("x.sh"),
    )
    for change in changes:
        before = scripts.take()
        change()
        assert scripts.take() is not before
        assert scripts.take() is scripts.take()
    assert (scripts.take().folder / "deep" / "link").read_text() == "two"


def test_what_changed_a_moment_ago_may_change_again_unseen(scripts: Copies) -> None:
    (scripts.source / "deep" / "x.sh").write_text("two")
    just_now = (scripts.source / "deep" / "x.sh").stat().st_ctime
    scripts.clock.step(just_now + 0.05 - scripts.clock.now())
    assert scripts.take() is not scripts.take()


def test_another_folder_under_the_same_name_is_copied(scripts: Copies, tmp_path: Path) -> None:
    """As deployments switch a link from one release to the next."""
    other = tmp_path / "other"
    other.mkdir()
    (other / "x.sh").write_text("other")
    link = tmp_path / "current"
    link.symlink_to(scripts.source)
    scripts.source = link
    scripts.take()
    link.unlink()
    link.symlink_to(other)
    assert (scripts.take().folder / "x.sh").read_text() == "other"


def test_who_runs_keeps_what_he_began_with(scripts: Copies) -> None:
    first = scripts.take()
    first.hold()
    first.hold()
    (scripts.source / "deep" / "x.sh").write_text("two")
    second = scripts.take()
    assert (first.folder / "deep" / "x.sh").read_text() == "one"
    first.let_go()
    assert first.folder.exists()
    first.let_go()
    assert not first.folder.exists()
    second.hold()
    second.let_go()
    assert scripts.take() is second
    scripts.copies.close()
    assert list(scripts.state.iterdir()) == []


def test_a_copy_has_files_folders_and_links_for_reading_alone(
    scripts: Copies, tmp_path: Path
) -> None:
    (tmp_path / "beside").write_text("beside")
    (scripts.source / "tool").write_text("tool")
    (scripts.source / "tool").chmod(0o640 | 0o100)
    (scripts.source / ".git").mkdir()
    (scripts.source / ".git" / "config").touch()
    os.mkfifo(scripts.source / "fifo")
    links = {
        "within": "deep/x.sh",
        "deep/up": "../tool",
        "deep/out": "../../beside",
        "folder": "deep",
        "absolute": str(tmp_path / "beside"),
        "nowhere": "nothing",
    }
    for name, target in links.items():
        (scripts.source / name).symlink_to(target)
    copy = scripts.take().folder
    found = {str(path.relative_to(copy)) for path in copy.rglob("*")}
    assert found == {"deep", "deep/x.sh", "tool", *links}
    for name in ("within", "deep/up", "deep/out", "folder/x.sh", "absolute"):
        assert (copy / name).read_text() == (scripts.source / name).read_text()
    modes = {name: (copy / name).stat().st_mode & 0o777 for name in (".", "deep", "tool", "within")}
    assert modes == {".": 0o555, "deep": 0o555, "tool": 0o555, "within": 0o444}


def test_what_is_no_folder_of_scripts_is_refused(
    scripts: Copies, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patched:
        patched.setattr(process_scripts, "MOST_FILES", 2)
        with pytest.raises(ScriptsError, match="holds more than 2 files"):
            scripts.take()
    monkeypatch.setattr(process_copying, "MOST_BYTES", 2)
    with pytest.raises(ScriptsError, match="holds more than"):
        scripts.take()
    scripts.copies.close()
    assert list(scripts.state.iterdir()) == []


def test_nothing_is_written_elsewhere_whatever_is_swapped_meanwhile(
    scripts: Copies, tmp_path: Path
) -> None:
    """A folder, and a link to another one under its name, in turns."""
    outside = tmp_path / "outside"
    (outside / "inner").mkdir(parents=True)
    (outside / "file").write_text("outside")
    (scripts.source / "kept").mkdir()
    (scripts.source / "kept" / "inside").write_text("inside")
    done = threading.Event()

    def swap() -> None:
        while not done.is_set():
            (scripts.source / "kept").rename(tmp_path / "away")
            (scripts.source / "kept").symlink_to(outside)
            (scripts.source / "kept").unlink()
            (tmp_path / "away").rename(scripts.source / "kept")

    swapping = threading.Thread(target=swap)
    swapping.start()
    try:
        for _ in range(50):
            copy = scripts.take().folder / "kept"
            if copy.exists() and not copy.is_symlink():
                assert {path.name for path in copy.iterdir()} <= {"inside"}
    finally:
        done.set()
        swapping.join()
    assert {path.name for path in outside.rglob("*")} == {"inner", "file"}


def test_what_a_killed_keeper_left_goes(scripts: Copies) -> None:
    mine = scripts.take()
    dead = scripts.state / "scripts-999999999-5"
    reused = scripts.state / f"scripts-{os.getpid()}-5"
    for left in (dead, reused):
        (left / "abc").mkdir(parents=True)
        (left / "abc").chmod(0o555)
    scripts.copies.sweep()
    assert mine.folder.exists()
    assert not dead.exists()
    assert not reused.exists()


def test_other_users_may_pass_and_list_nothing(scripts: Copies) -> None:
    copy = scripts.take()
    scripts.copies.let_pass()
    for folder in (scripts.state, copy.folder.parent):
        assert folder.stat().st_mode & 0o777 == 0o701
