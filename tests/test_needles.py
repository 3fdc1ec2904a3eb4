"""What a text must hold for a pattern to match: read right, or not read."""

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from roundsman.needles import needles
from roundsman.platforms.load import by_name, own_names
from roundsman.wire.job import ScrubberType

PATTERNS = sorted(
    {
        scrubber.search
        for name in own_names()
        for scrubber in (*by_name(name).noise, *by_name(name).secrets)
        if scrubber.type is not ScrubberType.SIMPLE
    }
)
KNOWN = [pattern for pattern in PATTERNS if needles(pattern).words]


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        (r"^(snmp-server community )\S+", ["snmp-server community "]),
        (r"^\s*(?:standby|vrrp) \d+", ["standby", "vrrp"]),
        (r"one(?:two)?three", ["three"]),
        (r"abcd?", ["abc"]),
        (r"abcd*efg", ["abc"]),
        (r"abcd+", ["abcd"]),
        (r"(?:abc){0,3}def", ["def"]),
        (r"(?:abc){2}de", ["abc"]),
        (r"(?=secret)word", ["word"]),
        (r"[abc]def\.ghi", ["def.ghi"]),
        (r"näme", ["näme"]),
        (r"abc|def", ["abc", "def"]),
        (r"abc|d", []),
        (r"(abc|)", []),
        (r"ab", ["ab"]),
        (r"a", []),
        (r"<(key|psk)>.*</\1>", ["key", "psk"]),
        (r"key|key-string|-key ", ["key"]),  # what holds another is found with it
        (r"interface \S+ key", [" key"]),  # of which there are fewer
        (r"interface \S+", ["interface "]),
        (r"(?i:secret)", []),
        (r"\x41bcd", []),
        (r"[[:alpha:]]+secret", []),
        (r"a{2", []),
        (r"(abc", []),
        (r"abc)", []),
    ],
)
def test_needles_are_what_every_match_holds(pattern: str, expected: list[str]) -> None:
    assert needles(pattern) == (tuple(word.encode() for word in expected), False)


def test_of_patterns_for_any_case_they_are_in_lower_case() -> None:
    assert needles(r"(?i)^Secret .*") == ((b"secret ",), True)
    assert needles(r"(?i)^SNÄP\s") == (("snÄp".encode(),), True)  # bytes fold ASCII alone


def test_most_patterns_of_platforms_have_needles() -> None:
    assert len(KNOWN) > 0.9 * len(PATTERNS)


@settings(deadline=None, max_examples=50)
@given(st.data())
def test_a_text_that_matches_has_a_needle(data: st.DataObject) -> None:
    pattern = data.draw(st.sampled_from(KNOWN))
    text = data.draw(st.from_regex(re.compile(pattern, re.MULTILINE)))
    encoded = text.encode("utf-8", "surrogatepass")
    assert needles(pattern).are_in(encoded)
    assert needles(pattern).lines_of(encoded)


def test_lines_that_follow_one_another_are_one_run() -> None:
    text = b"key 1\nkey 2\n\nno\npsk, key"
    assert needles("key|psk").lines_of(text) == [(0, 12), (16, 24)]
