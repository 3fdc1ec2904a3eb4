"""Every class of problem, with its exact text."""

from pathlib import Path

import pytest

from roundsman.config.load import load
from roundsman.documents.problems import ConfigurationError, Problem, one_of, path_text
from tests.config.files import loaded, problems, written

JOB = """
jobs:
  backup:
    schedule: {duration: 1 hour}
    commands: [show run]
"""

CASES = Path(__file__).parent / "cases"


@pytest.mark.parametrize("case", sorted(path.stem for path in CASES.glob("*.yaml")))
def test_says(tmp_path: Path, case: str) -> None:
    """Each pair of files in cases/ is a configuration and what is said of it."""
    text = (CASES / f"{case}.yaml").read_text()
    expected = (CASES / f"{case}.txt").read_text().splitlines()
    assert problems(tmp_path, text, "case.yaml", environ={"EMPTY": ""}) == expected


def test_all_at_once_with_the_right_lines(tmp_path: Path) -> None:
    """Problems of every step come together, in the order of the file."""
    text = "".join((CASES / f"{case}.yaml").read_text() for case in ("unknown_key", "schedules"))
    found = problems(tmp_path, text + "controller: {listen: {host: 0.0.0.0}}\n")
    codes = ["config.unknown_key", *["config.schedule"] * 6, "config.open", "config.open"]
    assert [problem.split(": ")[0] for problem in found] == codes
    at = [int(problem.split("site.yaml:")[1].split(" ")[0]) for problem in found]
    assert at == [3, 5, 6, 7, 8, 9, 10, 11, 11]


def test_a_problem_in_a_generic_is_told_once_and_there(tmp_path: Path) -> None:
    text = "device_generics:\n  default:\n    host: a b\ndevices:\n"
    text += "".join(f"  edge{n}: {{}}\n" for n in range(100))
    (problem,) = problems(tmp_path, text)
    assert problem.startswith("config.host: site.yaml:3 device_generics.default.host: ")


def test_a_problem_in_each_of_two_equal_overrides_is_told_twice(tmp_path: Path) -> None:
    text = JOB + "devices:\n"
    for name in ("edge1", "edge2"):
        text += f"  {name}:\n    jobs: {{backup: {{schedule: {{duration: 0 days}}}}}}\n"
    assert [problem.split(": ")[1] for problem in problems(tmp_path, text)] == [
        "site.yaml:8 devices.edge1.jobs.backup.schedule.duration",
        "site.yaml:10 devices.edge2.jobs.backup.schedule.duration",
    ]


def test_no_secret_in_any_text(tmp_path: Path) -> None:
    """A secret in the wrong place, or of the wrong type, is not repeated."""
    text = """
devices:
  a: {credentials: {user: x, pass: [hunter2]}}
  b: {credentials: hunter2}
  c: {credentials: {user: x, pass: {hunter: hunter2}}}
  d: {credentials: {user: [hunter2]}, tags: hunter2}
"""
    assert not [problem for problem in problems(tmp_path, text) if "hunter2" in problem]


@pytest.mark.parametrize(
    ("name", "data", "text"),
    [
        (
            "a.ini",
            b"",
            "format: a.ini: expected a file name that ends in .yaml, .yml, .json, .toml",
        ),
        ("a.yaml", b"a: \xff", "unreadable: a.yaml: is not UTF-8 text, at byte 3"),
        ("a.yaml", b"a: \x07", "syntax: a.yaml: control characters are not allowed"),
        ("a.yaml", b"a: " + b"[" * 100, "syntax: a.yaml:1: more than 50 levels deep"),
        ("a.json", b'{"a": ', "syntax: a.json:1: Expecting value"),
        ("a.json", b'{"a": NaN}', "syntax: a.json: NaN is no JSON value"),
        ("a.json", b'["\\ud800"]', "syntax: a.json: half of a surrogate pair is no character"),
        ("a.json", b"[" * 100_000, "syntax: a.json: more than 50 levels deep"),
        ("a.toml", b"a = \n", "syntax: a.toml:1: Invalid value"),
        ("a.toml", b"a = " + b"[" * 100_000, "syntax: a.toml: more than 50 levels deep"),
    ],
)
def test_says_of_files(tmp_path: Path, name: str, data: bytes, text: str) -> None:
    path = tmp_path / name
    path.write_bytes(data)
    with pytest.raises(ConfigurationError) as caught:
        load(path, environ={})
    assert str(caught.value).replace(f"{tmp_path}/", "") == f"config.{text}"


def test_says_that_there_is_no_file(tmp_path: Path) -> None:
    for path, text in (
        (tmp_path / "none.yaml", "No such file or directory"),
        (tmp_path / "folder.yaml", "Is a directory"),
        (Path("a\0b.yaml"), "not a path"),
    ):
        (tmp_path / "folder.yaml").mkdir(exist_ok=True)
        with pytest.raises(ConfigurationError) as caught:
            load(path, environ={})
        assert str(caught.value) == f"config.unreadable: {path}: cannot be read: {text}"


def test_what_is_empty_is_told_or_harmless(tmp_path: Path) -> None:
    """Fault 15: a device without credentials, a null job or an empty list crashes the original."""
    told = problems(tmp_path, "jobs: {a: null, b: {schedule: {fixed: 1}, commands: []}}")
    assert [problem.split(": ")[0] for problem in told] == ["config.missing"] * 3
    read = loaded(tmp_path, JOB + "devices: {x: null, y: {jobs: []}, z: {tags: [], jobs: null}}")
    assert [device.credentials for device in read.devices.values()] == [None] * 3
    assert not read.slots


@pytest.mark.parametrize("name", ["../../../../x", "/etc/x", "a/b", ".git", "a\0b", "", "a."])
def test_names_that_are_paths(tmp_path: Path, name: str) -> None:
    """Fault 6: the original takes any name, and writes outside of its repository."""
    site = {
        "devices": {name: {"host": "h"}},
        "jobs": {name: {"schedule": {"fixed": 1}, "commands": ["x"]}},
    }
    told = problems(tmp_path, site, "site.json")
    assert [problem.split(": ")[0] for problem in told] == ["config.name"] * 2


def test_problem_and_error_speak() -> None:
    problem = Problem(code="config.x", file="a.yaml", line=None, path="", text="wrong")
    error = ConfigurationError([problem, problem])
    assert str(problem) == "config.x: a.yaml: wrong"
    assert (error.text, error.code) == ("2 problems in the configuration", "config.invalid")
    assert path_text(("devices", "a.b", "", 'x"y', 3)) == 'devices."a.b".""."x"y"[3]'
    assert one_of(str(n) for n in range(10, 40)).endswith("29 and 10 more")


def test_a_good_file_has_none(tmp_path: Path) -> None:
    assert loaded(tmp_path, JOB + "devices: {edge1: {jobs: [backup]}}").slots
    assert loaded(tmp_path, "").devices == {}
    assert loaded(tmp_path, "devices:\njobs:\ncontroller:\n").slots == {}
    assert written(tmp_path, {}).exists()
