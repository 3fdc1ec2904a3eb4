"""Three formats, one meaning; and lines that are right in each."""

import json
import time
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from roundsman.documents import lines
from roundsman.documents.formats import UnreadableError, parse
from tests.config.files import loaded, problems

YAML = """
job_generics:
  default:
    prompt: {ends_with: "#"}
jobs:
  backup:
    schedule: {cron: "0 3 * * *", timezone: Europe/Berlin}
    commands:
      - show run
      - command: show vlan {{vlan}}
        expect: ['VLAN\\s+\\d+']
        timeout: 30
    scrubbers:
      - {type: regex_substitute, search: '(secret) \\S+', replace: '\\1 ***'}
devices:
  edge1.dallas:
    host: 10.0.0.1
    protocol: {ssh: {port: 2222}}
    tags: [dallas, "007"]
    credentials: {user: backup, pass: env:PASSWORD}
    template_values: {vlan: 7}
    jobs: [backup]
controller:
  listen: {port: 9500}
  tokens: []
"""
TOML = """
[job_generics.default]
prompt.ends_with = "#"

[jobs.backup]
schedule = { cron = "0 3 * * *", timezone = "Europe/Berlin" }
commands = [
  "show run",
  { command = "show vlan {{vlan}}", expect = ['VLAN\\s+\\d+'], timeout = 30 },
]

[[jobs.backup.scrubbers]]
type = "regex_substitute"
search = '(secret) \\S+'
replace = '\\1 ***'

[devices."edge1.dallas"]
host = "10.0.0.1"
protocol.ssh.port = 2222
tags = ["dallas", "007"]
template_values.vlan = 7
jobs = ["backup"]

[devices."edge1.dallas".credentials]
user = "backup"
pass = "env:PASSWORD"

[controller]
listen.port = 9500
tokens = []
"""


def test_three_formats_say_the_same(tmp_path: Path) -> None:
    as_json = json.dumps(yaml.safe_load(YAML))
    environ = {"PASSWORD": "hidden"}
    read = [
        loaded(tmp_path, text, f"site.{suffix}", environ)
        for text, suffix in ((YAML, "yaml"), (YAML, "yml"), (as_json, "json"), (TOML, "toml"))
    ]
    for other in read[1:]:
        for field in ("devices", "jobs", "controller", "warnings"):
            assert getattr(other, field) == getattr(read[0], field)
        assert other.slots.keys() == read[0].slots.keys()
    slot = read[0].slots["edge1.dallas", "backup"]
    assert slot.job.command is not None
    assert slot.job.command.inline == ("show run", "show vlan 7")


def test_yaml_is_read_by_the_core_schema() -> None:
    text = """
    a: [yes, no, on, off, y, 1:30, 0123, 2026-01-01, 0x1F, 1_000, .inf, -, +, "1", !!str 1]
    b: [true, False, ~, null, Null, 12, -3, 1.5, 1e3]
    1: one
    ~: tilde
    """
    assert parse(text, ".yaml") == {
        "a": ["yes", "no", "on", "off", "y", "1:30", "0123", "2026-01-01", "0x1F", "1_000", ".inf",
              "-", "+", "1", "1"],
        "b": [True, False, None, None, None, 12, -3, 1.5, 1000.0],
        "1": "one",
        "~": "tilde",
    }  # fmt: skip


def refused(text: str, suffix: str) -> list[tuple[str, tuple[str | int, ...], str, int | None]]:
    with pytest.raises(UnreadableError) as caught:
        parse(text, suffix)
    return [(f.code, f.path, f.text, line) for f, line in caught.value.findings]


@pytest.mark.parametrize(
    ("text", "suffix"),
    [
        ("a:\n  x: 1\n  y: 2\n  x: 3\nb: 1\nb: {z: 1}\n", ".yaml"),
        ('{"a":\n {"\\u0078": 1,\n"y": 2,\n"x": 3}\n,"b": 1,\n"b": {"z": 1}}', ".json"),
    ],
)
def test_a_key_given_twice_is_refused_with_both_lines(text: str, suffix: str) -> None:
    assert refused(text, suffix) == [
        ("config.duplicate_key", ("a", "x"), "given before, in line 2", 4),
        ("config.duplicate_key", ("b",), "given before, in line 5", 6),
    ]


def test_a_key_given_twice_and_written_differently() -> None:
    text = '{"\\ud83d\\ude00": 1,\n"\N{GRINNING FACE}": 2}'
    ((code, path, says, line),) = refused(text, ".json")
    assert (code, path, line) == ("config.duplicate_key", ("\N{GRINNING FACE}",), 2)
    assert says == "given before, in line 1"


@pytest.mark.parametrize(
    ("text", "path", "first", "second"),
    [
        ("[a]\nx = 1\n# [a]\nx = 2\n", ("a", "x"), 2, 4),
        ("[a]\nx = 1\n[b]\n[a]\n", ("a",), 1, 4),
        ("a.x = '''\na.x = 1'''\n'a'.\"x\" = 2\n", ("a", "x"), 1, 3),
    ],
)
def test_a_key_given_twice_in_toml(text: str, path: tuple[str], first: int, second: int) -> None:
    expected = ("config.duplicate_key", path, f"given before, in line {first}", second)
    assert refused(text, ".toml") == [expected]


@pytest.mark.parametrize(
    ("text", "line", "says"),
    [
        ("a: &x [1]\nb:\n  <<: *x\n", 3, "merging by << is not supported: name a generic instead"),
        ("a: !!python/x:y z\n", 1, "the tag tag:yaml.org,2002:python/x:y is not supported"),
        ("a: !secret {}\n", 1, "the tag !secret is not supported"),
        ("a: 1\n---\nb: 1\n", 2, "a second document begins: expected one"),
        ("a:\n- *b\n", 2, "no finished anchor &b stands before here"),
        ("a: &a\n  b: *a\n", 2, "no finished anchor &a stands before here"),
        ("? [a]\n: b\n", 1, "a key has to be a text"),
        ("a: &a [x]\n*a : b\n", 2, "a key has to be a text"),
    ],
)  # fmt: skip
def test_yaml_that_is_refused(text: str, line: int, says: str) -> None:
    assert refused(text, ".yaml") == [("config.syntax", (), says, line)]


def test_aliases_stand_for_what_they_name() -> None:
    assert parse("a: &x {k: [1]}\nb: *x\nc: [*x, &y t, *y]\n", ".yaml") == {
        "a": {"k": [1]},
        "b": {"k": [1]},
        "c": [{"k": [1]}, "t", "t"],
    }


def test_aliases_cannot_swell_a_document() -> None:
    text = "a0: &a0 [x]\n"
    text += "".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 40))
    began = time.process_time()
    ((code, _, says, line),) = refused(text, ".yaml")
    assert time.process_time() - began < 5
    assert (code, line) == ("config.syntax", 7)
    assert says.startswith("aliases stand for more than 1,000,000 values")


keys = st.text(st.sampled_from("abc_ .\"'[]{}#=é-1"), min_size=1, max_size=6)
documents = st.dictionaries(
    keys,
    st.recursive(
        st.one_of(st.integers(0, 99), st.booleans(), st.text("ab#[]{}\"'=\n,", max_size=8)),
        lambda inner: st.one_of(
            st.lists(inner, max_size=3), st.dictionaries(keys, inner, max_size=3)
        ),
        max_leaves=12,
    ),
    max_size=4,
)


def every_path(value: Any, path: tuple[str | int, ...] = ()) -> list[tuple[str | int, ...]]:
    items = value.items() if isinstance(value, dict) else enumerate(value)
    found = []
    for key, item in items:
        found.append((*path, key))
        if isinstance(item, dict | list):
            found += every_path(item, (*path, key))
    return found


@given(documents)
def test_lines_of_json(document: dict[str, Any]) -> None:
    """Written with one key or item a line, the order of the paths is that of the lines."""
    text = json.dumps(document, indent=1)
    paths = every_path(document)
    found = lines.find(text, ".json", paths)
    numbers = [found[path] for path in paths]
    assert numbers == sorted(numbers)
    assert len(set(numbers)) == len(numbers)
    written = text.split("\n")
    for path, number in zip(paths, numbers, strict=True):
        if isinstance(path[-1], str):
            assert written[number - 1].strip().startswith(json.dumps(path[-1]) + ":")
    assert lines.duplicates(text, ".json") == []


@given(documents)
def test_lines_of_yaml(document: dict[str, Any]) -> None:
    text = yaml.safe_dump(document, allow_unicode=True, default_flow_style=False, sort_keys=False)
    assert parse(text, ".yaml") == (document or {})
    paths = every_path(document)
    found = lines.find(text, ".yaml", paths)
    numbers = [found[path] for path in paths]
    assert numbers == sorted(numbers)
    assert lines.duplicates(text, ".yaml") == []


@given(documents)
def test_lines_of_toml(document: dict[str, Any]) -> None:
    """Each table under its own header; its plain values beside it, one a line."""
    text = "\n".join(as_toml(document, ()))
    assert tomllib.loads(text) == document
    written = text.split("\n")
    for path in every_path(document):
        if any(isinstance(part, int) for part in path):
            continue
        line = written[lines.find(text, ".toml", [path])[path] - 1]
        value: Any = document
        for part in path:
            value = value[part]
        header = f"[{'.'.join(json.dumps(part, ensure_ascii=False) for part in path)}]"
        own = f"{json.dumps(path[-1], ensure_ascii=False)} = "
        assert line == header if isinstance(value, dict) else line.startswith(own)
    assert lines.duplicates(text, ".toml") == []


def as_toml(table: dict[str, Any], path: tuple[str, ...]) -> list[str]:
    def name(key: str) -> str:
        return json.dumps(key, ensure_ascii=False)

    def value(item: Any) -> str:
        if isinstance(item, dict):
            return "{" + ", ".join(f"{name(k)} = {value(v)}" for k, v in item.items()) + "}"
        if isinstance(item, list):
            return "[\n" + "".join(f" {value(v)},\n" for v in item) + "]"
        if isinstance(item, str) and "\n" in item and '"' not in item:
            return f'"""\n{item}"""'
        return json.dumps(item)

    found = [f"[{'.'.join(map(name, path))}]"] if path else []
    found += [f"{name(k)} = {value(v)}" for k, v in table.items() if not isinstance(v, dict)]
    for key, item in table.items():
        if isinstance(item, dict):
            found += as_toml(item, (*path, key))
    return found


def test_lines_in_toml_of_lists_of_tables(tmp_path: Path) -> None:
    text = (
        "[jobs.a]\nschedule.fixed = 1\ncommands = [\n 'x'\n]\n"
        "[[jobs.a.scrubbers]]\ntype = 'simple'\nsearch = 'x'\n\n"
        "[[jobs.a.scrubbers]]\ntype = 'regex'\nsearch = '('\n"
    )
    (problem,) = problems(tmp_path, text, "site.toml")
    assert problem.startswith("config.regex: site.toml:12 jobs.a.scrubbers[1].search: ")


def test_the_line_of_what_an_alias_stands_for_is_that_of_the_alias(tmp_path: Path) -> None:
    text = "devices:\n  edge1: &x\n    host: a b\n  edge2: *x\n"
    assert [problem.split(": ")[1] for problem in problems(tmp_path, text)] == [
        "site.yaml:3 devices.edge1.host",
        "site.yaml:4 devices.edge2.host",
    ]


def test_texts_that_come_again_and_again_are_kept_once() -> None:
    first, second = parse("[{user: backup-of-all}, {user: backup-of-all}]", ".yaml")
    assert first["user"] is second["user"]
    assert next(iter(first)) is next(iter(second))
