"""Patterns of secrets that leave alone what is hidden already.

Of a device several patterns may know the same secret, and a text may be filtered twice. Without a
guard the second would hide the first word of `<secret hidden>`, or that on how it was encrypted.
"""

import re
from typing import Final

_HOW: Final = (
    r"\d{1,3}[a-z]? |sha-?\d* |md5 |encrypted |cipher |ciphertext |plain |plaintext |simple |hash "
    r"|ENC |mode |password |plaintext-password |local |remote |level |version |noauth |auth |priv "
    r"|ro |rw |informs |traps |user-name \S+ |vrf \S+ "
)
"""Words between a keyword and its secret, one or several."""
_GUARD: Final = rf"(?!(?:{_HOW})*<secret|(?:hidden|removed)>)"

_PARTS: Final = re.compile(
    r"\\.|\[\^?\]?(?:\\.|[^\\\]])*\]|(?P<opens>\((?P<kind>\?)?)|(?P<closes>\))"
)


def once(pattern: str) -> str:
    r"""The pattern, which keeps its first group, guarded behind that group.

    >>> once(r"^(key (?:7 )?)\S+").startswith(r"^(key (?:7 )?)(?!"), once("key") == "key"
    (True, True)
    """
    depth = 0
    kept: int | None = None  # how deep the first group that captures is
    for part in _PARTS.finditer(pattern):
        if part["opens"]:
            depth += 1
            if kept is None and not part["kind"]:
                kept = depth
        elif part["closes"]:
            if depth == kept:
                return pattern[: part.end()] + _GUARD + pattern[part.end() :]
            depth -= 1
    return pattern
