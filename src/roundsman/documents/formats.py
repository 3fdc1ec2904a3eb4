"""Text to plain data: YAML, JSON or TOML by the file's suffix.

Keys are always texts. YAML is read by the core schema of YAML 1.2: `yes`, `on`, `1:30`, dates and
numbers with a leading zero are texts. No tag makes an object, a key given twice is refused, and
aliases may not swell the document.
"""

import json
import re
import tomllib
from collections.abc import Callable
from typing import Any, Final

import yaml

from roundsman.documents import lines
from roundsman.documents.problems import Finding

_LOADER: Final = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_DEEPEST: Final = 50  # levels; the deepest key of a configuration stands at 8
_MOST_SHARED: Final = 10_000  # texts of which only one copy is kept
_MOST_ALIASED: Final = 1_000_000  # values that aliases may stand for, all together
_INTEGER: Final = re.compile(r"[-+]?(?:0|[1-9][0-9]{0,300})")
_FLOAT: Final = re.compile(r"[-+]?(?:\.[0-9]+|(?:0|[1-9][0-9]*)(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?")
_WORDS: Final = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL"), None),
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
}
_TEXT_TAGS: Final = frozenset({"!", "tag:yaml.org,2002:str"})
_SURROGATE: Final = re.compile(r"\\u[dD][89a-fA-F]")
_TOML_LINE: Final = re.compile(r" \(at line (\d+), column \d+\)$")


class UnreadableError(Exception):
    """The text is not a document; `findings` say why, each with its line when known."""

    def __init__(self, *findings: tuple[Finding, int | None]) -> None:
        """Keep the findings with their lines."""
        super().__init__(findings)
        self.findings = findings


class _DuplicateKeyError(Exception):
    pass


def parse(text: str, suffix: str) -> Any:
    """The document as mappings, lists, texts, numbers, booleans and none.

    `suffix` is one of `SUFFIXES`. Raises `UnreadableError`.
    """
    try:
        return _READERS[suffix](text)
    except _DuplicateKeyError:
        pass
    except RecursionError:
        raise _syntax(f"more than {_DEEPEST} levels deep", None) from None
    except UnreadableError:
        if suffix != ".toml":
            raise
        # tomllib stops at the second of two equal keys; the lines tell whether that was it.
        if not any(lines.duplicates(text, suffix)):
            raise
    twice = [
        (Finding("config.duplicate_key", path, f"given before, in line {first}"), second)
        for path, first, second in lines.duplicates(text, suffix)
    ]
    raise UnreadableError(*twice) if twice else _syntax("a key is given twice", None)


def _syntax(text: str, line: int | None) -> UnreadableError:
    return UnreadableError((Finding("config.syntax", (), text), line))


def _json(text: str) -> Any:
    try:
        document = json.loads(text, object_pairs_hook=_unique, parse_constant=_no_constant)
        if _SURROGATE.search(text):
            json.dumps(document, ensure_ascii=False).encode()
        return document
    except UnicodeEncodeError:
        raise _syntax("half of a surrogate pair is no character", None) from None
    except json.JSONDecodeError as error:
        raise _syntax(error.msg, error.lineno) from None
    except ValueError as error:  # NaN, or a whole number of thousands of digits
        raise _syntax(str(error), None) from None


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    mapping = dict(pairs)
    if len(mapping) < len(pairs):
        raise _DuplicateKeyError
    return mapping


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is no JSON value")


def _toml(text: str) -> Any:
    try:
        return tomllib.loads(text)
    except ValueError as error:
        message = str(error)
        match = _TOML_LINE.search(message)
        if match is None:
            raise _syntax(message, None) from None
        raise _syntax(message[: match.start()], int(match[1])) from None


def _yaml(text: str) -> Any:
    try:
        return _YamlBuilder().build(text)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = mark.line + 1 if mark is not None else None
        raise _syntax(error.problem or "not YAML", line) from None
    except yaml.YAMLError as error:  # a character that YAML does not allow
        raise _syntax(str(getattr(error, "reason", "not YAML")), None) from None


class _YamlBuilder:
    """Makes plain data from the parser's events.

    A tree of nodes with two marks each, as the usual loader makes first, takes ten times as long
    and as much memory; lines are looked for only when there is something to report.
    """

    def __init__(self) -> None:
        self.anchors: dict[str, tuple[Any, int]] = {}
        self.aliased = 0
        self.size = 0
        # Open collections: the collection, the key awaiting its value, the anchor, the size before.
        self.stack: list[tuple[Any, list[str], str | None, int]] = []
        self.root: Any = None
        self.texts: dict[str, str] = {}

    def build(self, text: str) -> Any:
        documents = 0
        for event in yaml.parse(text, Loader=_LOADER):
            if isinstance(event, yaml.ScalarEvent):
                self.scalar(event)
            elif isinstance(event, yaml.MappingStartEvent):
                self.start(event, {})
            elif isinstance(event, yaml.SequenceStartEvent):
                self.start(event, [])
            elif isinstance(event, yaml.CollectionEndEvent):
                self.end()
            elif isinstance(event, yaml.AliasEvent):
                self.alias(event)
            elif isinstance(event, yaml.DocumentStartEvent):
                documents += 1
                if documents > 1:
                    raise _syntax("a second document begins: expected one", _line(event))
        return self.root

    def scalar(self, event: yaml.ScalarEvent) -> None:
        if self.stack and type(self.stack[-1][0]) is dict and not self.stack[-1][1]:
            self.key(event)
            return
        if event.tag is None:
            value = _scalar(event.value) if event.implicit[0] else event.value
        elif event.tag in _TEXT_TAGS:
            value = event.value
        else:
            raise _syntax(f"the tag {event.tag} is not supported", _line(event))
        if event.anchor is not None:
            self.anchors[event.anchor] = (value, 1)
        self.put(self.shared(value) if type(value) is str else value)

    def shared(self, text: str) -> str:
        """The same text, said before, if it was: a large fleet says few words again and again."""
        if len(self.texts) < _MOST_SHARED:
            return self.texts.setdefault(text, text)
        return self.texts.get(text, text)

    def key(self, event: yaml.ScalarEvent) -> None:
        mapping, awaiting, _, _ = self.stack[-1]
        key = self.shared(event.value)
        if key in mapping:
            raise _DuplicateKeyError
        if key == "<<" and event.implicit[0]:
            raise _syntax("merging by << is not supported: name a generic instead", _line(event))
        if event.anchor is not None:
            self.anchors[event.anchor] = (key, 1)
        awaiting.append(key)

    def start(self, event: yaml.CollectionStartEvent, collection: Any) -> None:
        if self.stack and type(self.stack[-1][0]) is dict and not self.stack[-1][1]:
            raise _syntax("a key has to be a text", _line(event))
        if not event.implicit and event.tag not in (
            "tag:yaml.org,2002:map",
            "tag:yaml.org,2002:seq",
        ):
            raise _syntax(f"the tag {event.tag} is not supported", _line(event))
        if len(self.stack) >= _DEEPEST:
            raise _syntax(f"more than {_DEEPEST} levels deep", _line(event))
        self.stack.append((collection, [], event.anchor, self.size))

    def end(self) -> None:
        collection, _, anchor, before = self.stack.pop()
        self.put(collection)
        if anchor is not None:  # only now: an alias inside of what it stands for has no end
            self.anchors[anchor] = (collection, self.size - before)

    def alias(self, event: yaml.AliasEvent) -> None:
        known = self.anchors.get(str(event.anchor))
        if known is None:
            raise _syntax(f"no finished anchor &{event.anchor} stands before here", _line(event))
        if self.stack and type(self.stack[-1][0]) is dict and not self.stack[-1][1]:
            raise _syntax("a key has to be a text", _line(event))
        value, size = known
        self.aliased += size
        if self.aliased > _MOST_ALIASED:
            raise _syntax(
                f"aliases stand for more than {_MOST_ALIASED:,} values: write them out, "
                "or name a generic",
                _line(event),
            )
        self.size += size
        self.put(value)

    def put(self, value: Any) -> None:
        self.size += 1
        if not self.stack:
            self.root = value
            return
        collection, awaiting, _, _ = self.stack[-1]
        if type(collection) is dict:
            collection[awaiting.pop()] = value
        else:
            collection.append(value)


def _line(event: Any) -> int:
    return int(event.start_mark.line) + 1


def _scalar(text: str) -> Any:
    """What an unquoted scalar means."""
    if text in _WORDS:
        return _WORDS[text]
    if text[0] in "+-.0123456789":
        if _INTEGER.fullmatch(text):
            return int(text)
        if _FLOAT.fullmatch(text):
            return float(text)
    return text


_READERS: Final[dict[str, Callable[[str], Any]]] = {
    ".yaml": _yaml,
    ".yml": _yaml,
    ".json": _json,
    ".toml": _toml,
}
SUFFIXES: Final = tuple(_READERS)
