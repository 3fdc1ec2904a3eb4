"""What the records mean, as their source says: for the OpenAPI document."""

import ast
import enum
import inspect
from functools import cache
from types import ModuleType
from typing import Final, NamedTuple

import msgspec

# Names are unique here; elsewhere, a record of the same name may mean its form in a file.
_SPOKEN: Final = ("roundsman.wire.", "roundsman.controller.")


class Meaning(NamedTuple):
    """What a record or an enumeration, and each of its parts, means."""

    text: str
    """First paragraph of the class' docstring."""
    parts: dict[str, str]
    """Field names as they travel, or values of the enumeration."""


def meanings() -> dict[str, Meaning]:
    """Every record and enumeration that the API may speak of, by class name."""
    found: dict[str, Meaning] = {}
    waiting: list[type] = [msgspec.Struct, enum.StrEnum]
    while waiting:
        kind = waiting.pop()
        waiting += kind.__subclasses__()
        if kind.__module__.startswith(_SPOKEN):
            found.setdefault(kind.__name__, meaning(kind))
    return found


def meaning(kind: type) -> Meaning:
    """What one record or enumeration means."""
    # A record's fields may be described in its base.
    texts = {name: text for base in reversed(kind.__mro__) for name, text in _parts(base) if text}
    return Meaning(_first_paragraph(inspect.getdoc(kind) or ""), texts)


def _parts(kind: type) -> list[tuple[str, str]]:
    module = inspect.getmodule(kind)
    if module is None or not module.__name__.startswith("roundsman."):
        return []
    texts = _texts(module).get(kind.__name__, {})
    if issubclass(kind, enum.Enum):
        return [(member.value, texts.get(name, "")) for name, member in kind.__members__.items()]
    if not issubclass(kind, msgspec.Struct):
        return []
    return [
        (field.encode_name, texts.get(field.name, "")) for field in msgspec.structs.fields(kind)
    ]


@cache
def _texts(module: ModuleType) -> dict[str, dict[str, str]]:
    """The text under each attribute of each class of a module."""
    tree = ast.parse(inspect.getsource(module))
    return {
        node.name: dict(_under_attributes(node))
        for node in tree.body
        if isinstance(node, ast.ClassDef)
    }


def _under_attributes(node: ast.ClassDef) -> list[tuple[str, str]]:
    found: list[tuple[str, str]] = []
    for before, after in zip(node.body, node.body[1:], strict=False):
        match before, after:
            case (
                ast.AnnAssign(target=ast.Name(id=name)) | ast.Assign(targets=[ast.Name(id=name)]),
                ast.Expr(value=ast.Constant(value=str(text))),
            ):
                found.append((name, " ".join(text.split())))
    return found


def _first_paragraph(text: str) -> str:
    return " ".join(text.partition("\n\n")[0].split())
