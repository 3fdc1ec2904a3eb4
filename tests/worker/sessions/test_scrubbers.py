"""Patterns and scrubbers: exact on texts of any size, and within bounds."""

import random
import re
import time
from collections.abc import Sequence
from pathlib import Path

import msgspec
import pytest
import regex
from hypothesis import given, settings
from hypothesis import strategies as st

from roundsman.platforms import load
from roundsman.wire.job import Scrubber, ScrubberType
from roundsman.worker import patterns
from roundsman.worker.patterns import Pattern, PatternError, QuickEffort
from roundsman.worker.scrubbers import Scrubbers, replace_literal


@pytest.mark.parametrize(
    ("pattern", "within_lines"),
    [
        (r"password 7 \S+", True),
        (r"^enable secret .*$", True),
        (r"(?i)community (?P<name>[A-Za-z0-9_]+) (ro|rw){1,2}\b", True),
        (r"key [\w.:/+-]{8,}(?= end)", True),
        (r"secret\s+\S+", False),
        (r'"[^"]+"', False),
        (r"^!.*\n", True),
        ("^!.*\n", True),
        (r"^\n", True),
        (r"^a\\\n", True),
        (r"^a\\n", True),  # a backslash and the letter n
        (r"^a\n?", True),
        (r"^a\n??", False),
        (r"^[ \t]*key [^\s<]\S*", True),
        (r"[^\]\n]", True),
        (r"[^\\n]", False),
        (r"^a\nb.*\n", False),
        (r"^a\n+", False),
        (r"[^a]\n", False),
        (r"(?s)BEGIN.*END", False),
        (r"a\Z", False),
        (r"x*", False),
        (r"$", False),
        (r"(?!x)", False),
        ("a\nb", False),
        (r"[\t-~]", False),
        (r"\D", False),
    ],
)
def test_which_patterns_stay_within_lines(pattern: str, within_lines: bool) -> None:
    assert Pattern(pattern).within_lines is within_lines


PATTERNS = (
    r"^b.*\n",
    r"^\n",
    r"c\n",
    r"b+\S",
    r"^a.*$",
    r"\bc\w",
    r"(?<!a)b",
    r"[abc]{2,3}",
    r"c$",
    r"a\s+b",
    r"[^a]c",
)


@pytest.mark.parametrize("pattern", PATTERNS)
def test_reading_in_blocks_does_not_show(
    pattern: str, rng: random.Random, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(patterns, "_BLOCK", 10)
    for _ in range(200):
        text = "".join(rng.choices("aabbcc \n", k=60))
        pieces = [text[start : start + 7].encode() for start in range(0, len(text), 7)]
        replaced = b"".join(Pattern(pattern).replace(pieces, r"<\1>", groups=False))
        expected = re.sub(pattern, lambda _: r"<\1>", text, flags=re.MULTILINE)
        assert replaced.decode() == expected
        found = re.search(pattern, text, flags=re.MULTILINE) is not None
        assert Pattern(pattern).found_in(pieces) is found


def test_groups_may_be_referred_to() -> None:
    replaced = Pattern(r"user (?P<name>\w+) (\d+)").replace(
        [b"user bob 12\n"], r"\2 \g<name>", groups=True
    )
    assert b"".join(replaced) == b"12 bob\n"
    with pytest.raises(PatternError, match="does not fit"):
        list(Pattern("a").replace([b"a"], r"\3", groups=True))


def test_a_pattern_over_lines_is_applied_up_to_its_bound_and_then_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(patterns, "MAX_TEXT", 1000)
    monkeypatch.setattr(patterns, "_BLOCK", 100)
    text = [b"BEGIN\nsecret\nEND\n" * 10] * 5
    assert b"".join(Pattern(r"(?s)BEGIN.*?END\n").replace(text, "", groups=False)) == b""
    with pytest.raises(PatternError, match="may match over line ends"):
        list(Pattern(r"(?s)BEGIN.*?END\n").replace(text * 2, "", groups=False))
    assert b"".join(Pattern("secret").replace(text * 200, "-", groups=False)).count(b"-") == 10_000


def test_a_catastrophic_pattern_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(patterns, "BLOCK_SECONDS", 0.2)
    began = time.monotonic()
    with pytest.raises(PatternError, match="took too long"):
        list(Pattern(r"(a|aa)+$").replace([b"a" * 100 + b"b"], "", groups=False))
    assert time.monotonic() - began < 60


def test_literal_text_is_found_wherever_the_pieces_are_cut(rng: random.Random) -> None:
    for _ in range(300):
        text = bytes(rng.choices(b"ab", k=40))
        cuts = sorted(rng.choices(range(41), k=6))
        pieces = [text[a:b] for a, b in zip([0, *cuts], [*cuts, 40], strict=True)]
        assert b"".join(replace_literal(pieces, b"aab", b"X")) == text.replace(b"aab", b"X")


def test_bytes_that_are_no_text_pass_unharmed() -> None:
    scrubbers = Scrubbers(
        [
            Scrubber(type=ScrubberType.SIMPLE, search="ü", replace="ue"),
            Scrubber(type=ScrubberType.REGEX, search="x+", replace="é"),
        ]
    )
    text = b"\xff\xfe \xe4 xx " + "grün\n".encode()
    assert b"".join(scrubbers.apply([text])) == b"\xff\xfe \xe4 \xc3\xa9 gruen\n"


ODD = (
    Scrubber(type=ScrubberType.SIMPLE, search="key"),
    Scrubber(type=ScrubberType.SIMPLE, search="password", replace="pass"),
    Scrubber(type=ScrubberType.REGEX, search=r"secret\n", replace="joined key "),
    Scrubber(type=ScrubberType.REGEX, search=r"^community\n", replace=r""),
    Scrubber(type=ScrubberType.REGEX, search=r"\0?secret", replace="\0\n"),
    Scrubber(type=ScrubberType.REGEX_SUBSTITUTE, search=r"(?i)^(.*KEY).*\n?", replace=r"\1!"),
    Scrubber(type=ScrubberType.REGEX_SUBSTITUTE, search=r"(\w+) (pass|key)$", replace=r"\2 \1"),
    Scrubber(type=ScrubberType.REGEX, search=r"(?<!\w)!+", replace="bang"),
)
WORDS = (
    "key",
    "KEY 7",
    "password",
    "pass",
    "word",
    "secret",
    "community",
    "\0",
    "!",
    " ",
    "\n",
    "\r\n",
)
SAMPLES = [
    line
    for name in load.own_names()
    for part in msgspec.yaml.decode(
        (Path(__file__).parents[2] / "platforms" / "samples" / f"{name}.yaml").read_bytes()
    ).values()
    for line in (part.splitlines() if isinstance(part, str) else part or ())
]


def one_by_one(scrubbers: Sequence[Scrubber], text: bytes) -> bytes:
    """What the scrubbers mean, without anything that makes it quick."""
    for one in scrubbers:
        if one.type is ScrubberType.SIMPLE:
            text = text.replace(one.search.encode(), one.replace.encode())
            continue
        new = one.replace.encode()
        if one.type is ScrubberType.REGEX:
            new = new.replace(b"\\", b"\\\\")
        text = regex.compile(one.search.encode(), regex.MULTILINE).sub(new, text)
    return text


class Unhurried(QuickEffort):
    """A quick effort that does not give up when the machine is busy."""

    def seconds(self) -> float:
        return 5.0


@settings(deadline=None, max_examples=500)
@given(st.lists(st.sampled_from(ODD), max_size=5), st.lists(st.sampled_from(WORDS), max_size=30))
def test_looking_only_at_some_lines_does_not_show(rules: list[Scrubber], words: list[str]) -> None:
    text = "".join(words).encode()
    assert b"".join(Scrubbers(rules).apply([text], Unhurried())) == one_by_one(rules, text)


@settings(deadline=None, max_examples=200)
@given(
    st.sampled_from(load.own_names()),
    st.lists(st.sampled_from(SAMPLES) | st.sampled_from(WORDS), max_size=30),
    st.sampled_from(("\n", "\r\n", "\n\n", "\n\0\n", " ")),
)
def test_nor_with_the_filters_of_platforms(name: str, lines: list[str], between: str) -> None:
    platform = load.by_name(name)
    rules = [*platform.noise, *platform.secrets]
    text = between.join(lines).encode()
    expected = one_by_one(rules, text)
    assert b"".join(Scrubbers(rules).apply([text], Unhurried())) == expected
    assert b"".join(Scrubbers(rules).apply([text])) == expected
