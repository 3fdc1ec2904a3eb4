"""Facts that hold the project together and that no single module can hold."""

import importlib.metadata
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import roundsman

ROOT = Path(__file__).parents[1]
CHECK_TREE = ROOT / "scripts/check_tree.py"
ADRS = sorted((ROOT / "docs/adr").glob("[0-9]*.md"))


@pytest.fixture(scope="module")
def pyproject() -> dict[str, Any]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))


def locked(name: str) -> dict[str, str]:
    """The versions in a lock, by canonical name."""
    lines = (ROOT / "requirements" / name).read_text("utf-8").splitlines()
    pins = (re.match(r"(?P<name>[\w.-]+)==(?P<version>[^\s;]+)", line) for line in lines)
    return {canonicalize_name(pin["name"]): pin["version"] for pin in pins if pin}


def test_one_version(pyproject: dict[str, Any]) -> None:
    assert pyproject["project"]["version"] == roundsman.__version__
    assert importlib.metadata.version("roundsman") == roundsman.__version__


def test_the_lock_fits_the_declared_dependencies(pyproject: dict[str, Any]) -> None:
    groups = {
        "runtime.txt": pyproject["project"]["dependencies"],
        "development.txt": pyproject["dependency-groups"]["dev"],
        "tools.txt": pyproject["dependency-groups"]["tools"],
    }
    for file, declared in groups.items():
        pins = locked(file)
        for requirement in map(Requirement, declared):
            version = pins.get(canonicalize_name(requirement.name))
            assert version is not None, f"{requirement} is not in {file}; run make lock"
            assert requirement.specifier.contains(version), f"{requirement} != {version} in {file}"


def test_tests_run_on_what_is_shipped() -> None:
    runtime, development = locked("runtime.txt"), locked("development.txt")
    assert {name: development.get(name) for name in runtime} == runtime


def test_every_pin_has_a_hash() -> None:
    for lock in (ROOT / "requirements").glob("*.txt"):
        for requirement in re.split(r"\n(?! )", lock.read_text("utf-8").strip()):
            assert "--hash=sha256:" in requirement, f"{lock.name}: {requirement}"


def test_nothing_forbidden_is_committed() -> None:
    if not (ROOT / ".git").exists():
        pytest.skip("not a git checkout: there are no tracked files to ask for")
    check = subprocess.run(
        [sys.executable, CHECK_TREE], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert check.returncode == 0, check.stdout


@pytest.mark.parametrize(
    ("line", "kind"),
    [
        ("see https://pypi" + ".org/simple", "package registry"),
        ("file = '/wo" + "rk/main/x'", "machine path"),
        ("# written by an LL" + "M", "origin of a text"),
        ("<<<<" + "<<< HEAD", "conflict marker"),
        ("GET /worker/next, /home/admin, work/next", None),
    ],
    ids=["registry", "path", "origin", "conflict", "harmless"],
)
@pytest.mark.skipif(shutil.which("git") is None, reason="no git on PATH")
def test_check_tree_finds(tmp_path: Path, line: str, kind: str | None) -> None:
    (tmp_path / "notes.txt").write_text(f"first\n{line}\n", "utf-8")
    for command in (["git", "init", "--quiet"], ["git", "add", "notes.txt"]):
        subprocess.run(command, cwd=tmp_path, check=True)
    check = subprocess.run(
        [sys.executable, CHECK_TREE], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    if kind is None:
        assert (check.returncode, check.stdout) == (0, "")
    else:
        assert check.returncode == 1
        assert check.stdout.startswith(f"notes.txt:2: {kind}: ")


@pytest.mark.parametrize("adr", ADRS, ids=lambda path: path.stem)
def test_every_decision_is_listed_and_complete(adr: Path) -> None:
    text = adr.read_text("utf-8")
    number = adr.name[:4]
    assert text.startswith(f"# {number}: "), f"{adr.name} should begin with '# {number}: <title>'"
    for section in ("Context", "Alternatives", "Decision", "Consequences"):
        assert f"\n## {section}\n" in text, f"{adr.name} has no section {section}"
    assert f"({adr.name})" in (ROOT / "docs/adr/README.md").read_text("utf-8"), (
        f"{adr.name} is not listed in docs/adr/README.md"
    )


def test_decisions_are_numbered_once() -> None:
    numbers = [adr.name[:4] for adr in ADRS]
    assert len(numbers) == len(set(numbers)), numbers


def test_the_changelog_knows_this_version() -> None:
    headings = re.findall(
        r"^## \[(.+?)\]", (ROOT / "CHANGELOG.md").read_text("utf-8"), re.MULTILINE
    )
    assert headings[0] == "Unreleased"
    assert len(headings) == 1 or headings[1] == roundsman.__version__
