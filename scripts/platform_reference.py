"""The reference page of platforms: every key of a file, and every platform there is."""

from collections.abc import Iterator

import msgspec

from roundsman.platforms import load, schema

HEAD = """\
# Platforms reference

<!-- Made by scripts/generate_reference.py from roundsman.platforms: do not edit. -->

A platform file is YAML, JSON or TOML, by its suffix. How to write and test one is told in
[Platforms](../how-to/platforms.md). Patterns are regular expressions over what a device draws as
text: no escape sequences, no carriage returns; `^` and `$` match at each line.
"""
SECTIONS: tuple[tuple[str, type[msgspec.Struct]], ...] = (
    ("The file", schema.PlatformFile),
    ("`standard` jobs, each", schema.StandardJob),
    ("`commands` of a standard job, each", schema.Command),
    ("`files` of a standard job, each", schema.File),
    ("`noise` and `secrets`, each", schema.Filter),
    ("`more`, each", schema.Pager),
    ("`questions`, each", schema.Question),
    ("`enable`", schema.Enable),
    ("`login`", schema.Login),
    ("`examples`", schema.Examples),
)


def platforms() -> Iterator[str]:
    """The table of all platforms, and what is to be known of each."""
    yield "\n## The platforms\n"
    yield "How the facts are known: " + "; ".join(
        f"`{kind.value}`, {text}"
        for kind, text in (
            (schema.Verified.RECORDED, "from dialogues with devices, which the tests replay"),
            (
                schema.Verified.DOCUMENTED,
                "from documentation or programs in long use, not replayed",
            ),
            (schema.Verified.UNVERIFIED, "from relatives or hearsay: try it before relying on it"),
        )
    )
    yield "\n| name | what it is | other names | known | remarks |"
    yield "|---|---|---|---|---|"
    for name in load.own_names():
        says = load.by_name(name).file
        cells = (
            f"`{name}`",
            says.description,
            ", ".join(f"`{alias}`" for alias in says.names),
            says.verified.value,
            " ".join((says.remarks or "").split()),
        )
        yield "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"
