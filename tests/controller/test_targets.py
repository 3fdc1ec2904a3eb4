import pytest

from roundsman.controller.targets import TargetSyntaxError, parse
from roundsman.wire.worker import Worker


def worker(name: str, *tags: str) -> Worker:
    return Worker(worker_id=name, name=name, tags=tags, version="", enrolled_at=0, seen_at=0)


FLEET = [
    worker("ams-1", "ams", "dmz"),
    worker("ams-2", "ams"),
    worker("old 1", "lab"),
    worker("android", "not-x"),
]


@pytest.mark.parametrize(
    ("text", "chosen"),
    [
        ("tag=ams", "ams-1 ams-2"),
        ("  tag=ams and not tag=dmz ", "ams-2"),
        ("not tag=ams", "old 1 android"),
        ("tag=lab or tag=ams and tag=dmz", "ams-1 old 1"),
        ("(tag=lab or tag=ams)and(tag=dmz)", "ams-1"),
        ("not (tag=lab or tag=ams)", "android"),
        ("not not tag=lab", "old 1"),
        ('name="old 1"', "old 1"),
        ("name=android", "android"),
        ("tag=not-x", "android"),
        ("all", "ams-1 ams-2 old 1 android"),
        ("all and not name=ams-1", "ams-2 old 1 android"),
        ("tag=nowhere", ""),
        ('tag="ams', None),
        ("tag=ams;reboot", ""),
        ("", None),
        ("tag", None),
        ("ams", None),
        ("tag=", None),
        ("tag=a tag=b", None),
        ("tag=a and", None),
        ("(tag=a", None),
        ("tag=a)", None),
        ("nottag=a", None),
        ("host=a", None),
        ("tag=a andtag=b", None),
        ("$(reboot)", None),
        ("(" * 500 + "all", None),
        ("not " * 200 + "all", None),
    ],
)
def test_expressions(text: str, chosen: str | None) -> None:
    if chosen is None:
        with pytest.raises(TargetSyntaxError, match="on: expected"):
            parse(text)
    else:
        chooses = parse(text)
        assert " ".join(each.name for each in FLEET if chooses(each)) == chosen


def test_what_is_wrong_is_said_with_its_place() -> None:
    with pytest.raises(TargetSyntaxError) as caught:
        parse("tag=a and host=b")
    assert "at character 10, got ' host=b'" in str(caught.value)
