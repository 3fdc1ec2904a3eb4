"""In which line a value stands; looked for only when there is a problem to report.

Each format has a walk over its text that names every key and list item in order, with its line.
"""

import re
import sys
from collections.abc import Iterable, Iterator
from typing import Final

import yaml

from roundsman.documents.problems import Path

_LOADER: Final = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_JSON_TOKEN: Final = re.compile(r'\n|"(?:[^"\\\n]|\\.)*"|[{}\[\],:]|[^\s{}\[\],:"]+')
_TOML_KEY: Final = r"""(?:[A-Za-z0-9_-]+|"(?:[^"\\]|\\.)*"|'[^']*')"""
_TOML_KEYS: Final = rf"{_TOML_KEY}(?:[ \t]*\.[ \t]*{_TOML_KEY})*"
_TOML_HEADER: Final = re.compile(rf"[ \t]*(\[\[?)[ \t]*({_TOML_KEYS})[ \t]*\]\]?")
_TOML_ASSIGNMENT: Final = re.compile(rf"[ \t]*({_TOML_KEYS})[ \t]*=")
_TOML_SKIPPED: Final = re.compile(
    r"""\"{3}(?:[^\\]|\\.)*?"{3,5}|'{3}.*?'{3,5}|"(?:[^"\\\n]|\\.)*"|'[^'\n]*'|\#[^\n]*""",
    re.DOTALL,
)
_TOML_BRACKET: Final = re.compile(r"[\[\]{}]")


def find(text: str, suffix: str, wanted: Iterable[Path]) -> dict[Path, int]:
    """The line of each path, or of the nearest path above it that the text has."""
    prefixes = {path[:length] for path in wanted for length in range(1, len(path) + 1)}
    found: dict[Path, int] = {}
    for path, line in _walk(text, suffix):
        for length in range(1, len(path) + 1):  # in TOML, a.b.c may be the first word of a.b
            if path[:length] in prefixes:
                found.setdefault(path[:length], line)
    for path in wanted:
        for length in range(len(path), 0, -1):
            if path[:length] in found:
                found.setdefault(path, found[path[:length]])
                break
    return found


def duplicates(text: str, suffix: str) -> list[tuple[Path, int, int]]:
    """Every key given twice: its path, and both lines."""
    first: dict[Path, int] = {}
    twice: dict[Path, tuple[int, int]] = {}
    for path, line in _walk(text, suffix):
        if path not in first:
            first[path] = line
        elif path[:-1] not in twice:
            twice.setdefault(path, (first[path], line))
        else:
            twice.setdefault(path, (0, 0))  # inside of a mapping given twice: said already
    return [(path, *pair) for path, pair in twice.items() if pair != (0, 0)]


def _walk(text: str, suffix: str) -> Iterator[tuple[Path, int]]:
    if suffix == ".json":
        return _walk_json(text)
    if suffix == ".toml":
        return _walk_toml(text)
    return _walk_yaml(text)


class _Trail:
    """The path of what comes next, while collections open and close."""

    def __init__(self) -> None:
        self.path: list[str | int] = []
        self.in_mapping: list[bool] = []

    def open(self, *, mapping: bool) -> None:
        self.in_mapping.append(mapping)
        self.path.append("" if mapping else -1)

    def close(self) -> None:
        if self.in_mapping:
            self.in_mapping.pop()
            self.path.pop()

    def key(self, key: str) -> Path:
        self.path[-1] = key
        return tuple(self.path)

    def item(self) -> Path | None:
        """Step to the next item, when a list is what is open."""
        if not self.in_mapping or self.in_mapping[-1]:
            return None
        position = self.path[-1]
        self.path[-1] = position + 1 if isinstance(position, int) else 0
        return tuple(self.path)


def _walk_yaml(text: str) -> Iterator[tuple[Path, int]]:
    trail = _Trail()
    key_next: list[bool] = []  # for each open collection: is it a mapping that awaits a key
    for event in _yaml_events(text):
        kind = type(event)
        if kind in (yaml.MappingEndEvent, yaml.SequenceEndEvent):
            trail.close()
            key_next.pop()
            continue
        if not isinstance(event, yaml.NodeEvent):
            continue
        line = event.start_mark.line + 1 if event.start_mark is not None else 1
        if key_next and key_next[-1]:
            key_next[-1] = False
            yield trail.key(str(getattr(event, "value", ""))), line
            continue
        item = trail.item()
        if item is not None:
            yield item, line
        elif key_next:
            key_next[-1] = True
        if kind in (yaml.MappingStartEvent, yaml.SequenceStartEvent):
            mapping = kind is yaml.MappingStartEvent
            trail.open(mapping=mapping)
            key_next.append(mapping)


def _yaml_events(text: str) -> Iterator[yaml.Event]:
    try:
        yield from yaml.parse(text, Loader=_LOADER)
    except yaml.YAMLError:  # found further down than what the walk is made for
        return


def _walk_json(text: str) -> Iterator[tuple[Path, int]]:
    trail = _Trail()
    line = 1
    before = ""  # the one before, line ends aside
    for match in _JSON_TOKEN.finditer(text):
        word = match.group()
        if word == "\n":
            line += 1
            continue
        in_mapping = bool(trail.in_mapping) and trail.in_mapping[-1]
        if in_mapping and before in ("{", ",") and word[0] == '"':
            yield trail.key(_unquoted(word)), line
        elif before in ("[", ",") and word != "]":
            item = trail.item()
            if item is not None:
                yield item, line
        if word in ("{", "["):
            trail.open(mapping=word == "{")
        elif word in ("}", "]"):
            trail.close()
        before = word


def _walk_toml(text: str) -> Iterator[tuple[Path, int]]:
    table: Path = ()
    counts: dict[Path, int] = {}
    for number, line in _toml_statements(text):
        header = _TOML_HEADER.match(line)
        if header is not None:
            table = _toml_path(header[2], counts)
            if header[1] == "[[":
                counts[table] = counts.get(table, -1) + 1
                table = (*table, counts[table])
            yield table, number
            continue
        assignment = _TOML_ASSIGNMENT.match(line)
        if assignment is not None:
            yield (*table, *_toml_keys(assignment[1])), number


def _toml_statements(text: str) -> Iterator[tuple[int, str]]:
    """Lines that begin a statement: those inside of a text or an open bracket do not."""
    depth = 0
    # Quoted texts and comments lose what could be taken for a bracket. The lines of a text over
    # several lines become comments.
    bare = _TOML_SKIPPED.sub(
        lambda match: _TOML_BRACKET.sub("_", match.group()).replace("\n", "\n#"), text
    )
    for number, (line, shown) in enumerate(
        zip(bare.split("\n"), text.split("\n"), strict=True), start=1
    ):
        if depth <= 0 and not line.startswith("#"):
            yield number, shown
        if depth > 0 or _TOML_HEADER.match(line) is None:
            depth += sum(line.count(c) for c in "[{") - sum(line.count(c) for c in "]}")


def _toml_keys(text: str) -> Path:
    return tuple(_unquoted(key) for key in re.findall(_TOML_KEY, text))


def _toml_path(text: str, counts: dict[Path, int]) -> Path:
    """A header's path; a list of tables on the way stands for its last table."""
    path: Path = ()
    keys = _toml_keys(text)
    for position, key in enumerate(keys):
        path = (*path, key)
        if position < len(keys) - 1 and path in counts:
            path = (*path, counts[path])
    return path


def _unquoted(token: str) -> str:
    if token[0] == '"':
        return _unescaped(token[1:-1])
    return token[1:-1] if token[0] == "'" else token


def _unescaped(text: str) -> str:
    simple = {"n": "\n", "t": "\t", "r": "\r", "b": "\b", "f": "\f"}

    def one(match: re.Match[str]) -> str:
        if match[3]:
            return simple.get(match[3], match[3])
        code = int(match[1] or match[2], 16)
        return chr(code) if code <= sys.maxunicode else "\N{REPLACEMENT CHARACTER}"

    unescaped = re.sub(r"\\(?:u([0-9a-fA-F]{4})|U([0-9a-fA-F]{8})|(.))", one, text)
    # JSON writes what lies beyond four digits as two halves: join them.
    return unescaped.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
