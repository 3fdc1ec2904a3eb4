"""Every platform that comes with the program."""

import re
import warnings

import pytest

from roundsman.platforms import load
from roundsman.platforms.load import Platform
from roundsman.platforms.schema import Verified
from roundsman.wire.job import ScrubberType
from roundsman.worker.scrubbers import Scrubbers


@pytest.fixture(params=load.own_names())
def platform(request: pytest.FixtureRequest) -> Platform:
    """Loading says whether keys, types, patterns and examples are right."""
    return load.by_name(request.param)


def test_it_says_what_a_user_needs(platform: Platform) -> None:
    assert "backup" in platform.file.standard
    if platform.standard:
        assert platform.file.prompts
        assert platform.file.examples.prompts
    assert platform.secrets
    if platform.file.verified is not Verified.RECORDED:
        assert platform.file.remarks, "say what is not certain"


def test_workers_of_others_can_read_its_filters(platform: Platform) -> None:
    """They may know no more than the common regular expressions."""
    for rule in (*platform.noise, *platform.secrets):
        if rule.type is ScrubberType.SIMPLE:
            continue
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            expression = re.compile(rule.search, re.MULTILINE)
        assert expression.search("") is None, f"{rule.search!r} matches nothing at all"


def test_filters_do_not_filter_what_they_left(platform: Platform) -> None:
    """A secret hidden once is not hidden again: the result would depend on the number of runs."""
    scrubbers = Scrubbers([*platform.noise, *platform.secrets])
    once = b"".join(scrubbers.apply([b"hostname r1\n<secret hidden>\n<secret hidden>"]))
    assert b"".join(scrubbers.apply([once])) == once


def test_names_are_unique() -> None:
    every = [name for own in load.own_names() for name in (own, *load.by_name(own).file.names)]
    assert sorted(every) == sorted(set(every))
    assert all(name == name.lower() for name in every)
