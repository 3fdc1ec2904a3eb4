"""Template values: `{{name}}` in a text stands for a value.

A name is letters, digits, `_`, `-` and `.`, a letter or `_` first; blanks around it are ignored.
`{{{{` stands for two braces. Any other `{{` is a mistake; `}}` alone is plain text.
"""

import re
from collections.abc import Mapping
from typing import Final

_NAME: Final = r"[A-Za-z_][A-Za-z0-9_.-]*"
_BRACES: Final = re.compile(rf"\{{\{{(?:(\{{\{{)|[ \t]*({_NAME})[ \t]*\}}\}})?")


def variables(text: str) -> tuple[str, ...]:
    """The names in a text, in order.

    Raises `ValueError` with what follows two braces that are no variable.

    >>> variables("show vlan {{vlan}} on {{ port }}, not {{{{this}}")
    ('vlan', 'port')
    """
    names = []
    for match in _BRACES.finditer(text):
        if match[2]:
            names.append(match[2])
        elif not match[1]:
            raise ValueError(text[match.start() : match.start() + 30])
    return tuple(names)


def fill(text: str, values: Mapping[str, str]) -> str:
    """The text with its values in place; what has none is left as it is written.

    >>> fill("{{greeting}}, {{{{name}} or {{ other }}", {"greeting": "hello"})
    'hello, {{name}} or {{ other }}'
    """

    def one(match: re.Match[str]) -> str:
        if match[1]:
            return "{{"
        return values.get(match[2], match[0])

    return _BRACES.sub(one, text)
