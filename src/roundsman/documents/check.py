"""Plain data against a record of the schema: every unknown key and every wrong type.

Msgspec says quickly whether an entry is right, and stops at the first thing wrong. Only then is
the entry walked here, to find them all and to say what was expected. A value is never shown: it
may be a secret that was put in the wrong place.
"""

from collections.abc import Iterator
from itertools import islice
from pathlib import Path as FilePath
from typing import Any, Final

import msgspec
from msgspec import inspect

from roundsman.documents.problems import Finding, Path, did_you_mean, one_of
from roundsman.secret import Secret

_BAD: Final = object()
_AT_ONCE: Final = 1000
_GOT: Final[dict[type, str]] = {
    type(None): "nothing",
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    str: "a text",
    list: "a list",
    dict: "a mapping",
}


def check(value: Any, record: type) -> tuple[Any, list[Finding]]:
    """What of a mapping a record of the schema allows, and what is wrong with the rest."""
    try:
        for part in _parts(value):
            msgspec.convert(part, record, dec_hook=as_value)
    except msgspec.ValidationError:
        findings: list[Finding] = []
        rest = _check(value, inspect.type_info(record), (), findings)
        return ({} if rest is _BAD else rest), findings
    return value, []


def _parts(value: Any) -> Iterator[Any]:
    """A mapping with some entries of its sections at a time.

    So that of a large fleet only some devices at a time are records, beside the plain data.
    """
    if not isinstance(value, dict):
        yield value
        return
    small = {}
    for key, section in value.items():
        if isinstance(section, dict) and len(section) > _AT_ONCE:
            entries = iter(section.items())
            while some := dict(islice(entries, _AT_ONCE)):
                yield {key: some}
        else:
            small[key] = section
    yield small


def as_value(wanted: type, value: Any) -> Any:
    """A text as the path that it names, or as a secret's reference; for msgspec."""
    if wanted is Secret and isinstance(value, str):
        return Secret(value)
    if wanted is FilePath and isinstance(value, str):
        return FilePath(value)
    raise msgspec.ValidationError(f"expected {wanted.__name__}")


def _check(value: Any, kind: inspect.Type, path: Path, findings: list[Finding]) -> Any:
    """The value without what is wrong in it, or `_BAD` when nothing of it is left."""
    alternatives = kind.types if isinstance(kind, inspect.UnionType) else (kind,)
    for alternative in alternatives:
        if _fits(value, alternative):
            return _check_fitting(value, alternative, path, findings)
    # An alternative to "nothing" is how the schema says that a key may be left out.
    expected = [_name(a) for a in alternatives if not isinstance(a, inspect.NoneType)]
    findings.append(
        Finding(
            "config.wrong_type",
            path,
            f"expected {' or '.join(expected)}, got {_GOT.get(type(value), 'a date or time')}",
            _fix(value, expected),
        )
    )
    return _BAD


def _fix(value: Any, expected: list[str]) -> str | None:
    if "a text" in expected and isinstance(value, bool | int | float):
        return "put it in quotes"
    if expected == ["true or false"] and isinstance(value, str):  # yes and on are texts here
        return "write true or false, without quotes"
    return None


def _fits(value: Any, kind: inspect.Type) -> bool:
    """Whether a value is of the right sort, whatever is inside of it."""
    match kind:
        case inspect.NoneType():
            return value is None
        case inspect.BoolType():
            return isinstance(value, bool)
        case inspect.IntType():
            return isinstance(value, int) and not isinstance(value, bool)
        case inspect.StrType() | inspect.EnumType() | inspect.CustomType():
            return isinstance(value, str)
        case inspect.ListType() | inspect.VarTupleType():
            return isinstance(value, list)
        case _:
            return isinstance(value, dict)


def _name(kind: inspect.Type) -> str:
    """What a kind is called in a sentence."""
    match kind:
        case inspect.BoolType():
            return "true or false"
        case inspect.IntType():
            return "a whole number" + _bounds(kind)
        case inspect.StrType() | inspect.EnumType() | inspect.CustomType():
            return "a text"
        case inspect.ListType() | inspect.VarTupleType():
            return "a list"
        case _:
            return "a mapping"


def _bounds(kind: inspect.IntType) -> str:
    return "" if kind.ge is None else f" from {kind.ge} to {kind.le}"


def _check_fitting(value: Any, kind: inspect.Type, path: Path, findings: list[Finding]) -> Any:
    match kind:
        case inspect.StructType():
            return _check_struct(value, kind, path, findings)
        case inspect.DictType():
            return _without_bad(
                {k: _check(v, kind.value_type, (*path, k), findings) for k, v in value.items()}
            )
        case inspect.ListType() | inspect.VarTupleType():
            items = [_check(v, kind.item_type, (*path, i), findings) for i, v in enumerate(value)]
            return _BAD if _BAD in items else items
        case inspect.EnumType():
            return _check_enum(value, kind, path, findings)
        case inspect.IntType() if kind.ge is not None and kind.le is not None:
            if not kind.ge <= value <= kind.le:
                text = f"expected {_name(kind)}, got {_short(value)}"
                findings.append(Finding("config.out_of_range", path, text))
                return _BAD
    return value


def _check_struct(
    value: dict[str, Any], kind: inspect.StructType, path: Path, findings: list[Finding]
) -> Any:
    fields = {field.encode_name: field for field in kind.fields}
    rest = {}
    for key, item in value.items():
        if key in fields:
            rest[key] = _check(item, fields[key].type, (*path, key), findings)
            continue
        text = f"unknown key, {one_of(fields)}"
        findings.append(
            Finding("config.unknown_key", (*path, key), text, did_you_mean(key, fields))
        )
    missing = [name for name, field in fields.items() if field.required and name not in value]
    findings += [Finding("config.missing", path, f"{name} is needed") for name in missing]
    bad = missing or any(rest.get(name) is _BAD for name, field in fields.items() if field.required)
    return _BAD if bad else _without_bad(rest)


def _check_enum(value: str, kind: inspect.EnumType, path: Path, findings: list[Finding]) -> Any:
    names = [str(member.value) for member in kind.cls]
    if value in names:
        return value
    text = f'{one_of(names)}, got "{value[:50]}"'
    findings.append(Finding("config.unknown_value", path, text, did_you_mean(value, names)))
    return _BAD


def _without_bad(mapping: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in mapping.items() if value is not _BAD}


def _short(number: int) -> str:
    """A number, unless it is too long to be worth reading."""
    return str(number) if abs(number) < 10**20 else "a number of more than 20 digits"
