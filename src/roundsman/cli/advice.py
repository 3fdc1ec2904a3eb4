"""What a platform file may lack, told from the line at which a session got stuck."""

import re
from typing import Final

import regex

_MOST_EDITS: Final = 4
_SECONDS: Final = 0.2

_WAITS: Final = re.compile(r"(?i)more|press|any key|continue|<space>|\bpage\b|--")
_ASKS: Final = re.compile(r"(?i)(?:\?|\[[yn]/[yn]\]|\(yes/no\)):?\s*$")
_MAY_BE_PROMPT: Final = re.compile(r"^.{0,100}[^\w\s.,;(]$")
_SECRET: Final = re.compile(r"(?i)pass\w*|pin|secret")


def propose_prompt(line: str) -> str:
    r"""A regular expression for a prompt like this one.

    >>> propose_prompt("core-1.ams>"), propose_prompt("admin@fw1:~$ ")
    ('[\\w.-]+>', '[\\w.-]+@[\\w.-]+:~\\$')
    >>> propose_prompt("sw1(config-if)#"), propose_prompt("<HUAWEI>")
    ('[\\w.-]+(?:\\([^)]*\\))?#', '<[\\w.-]+>')
    """
    text = line.strip()
    parts = re.split(r"(\([^)]*\)|[\w][\w.-]*)", text)
    shapes = (
        r"(?:\([^)]*\))?"
        if part.startswith("(")
        else r"[\w.-]+"
        if part[:1].isalnum() or part[:1] == "_"
        else _literal(part)
        for part in parts
        if part
    )
    return "".join(shapes)


def _literal(text: str) -> str:
    return re.sub(r"([\\.^$*+?{}\[\]|()])", r"\\\1", text)


def distance(pattern: str, line: str) -> int | None:
    r"""How many characters would have to be other for a pattern to match a line; none: too many.

    >>> distance(r"\w+#", "router>"), distance(r"\w+#", "router#"), distance("a", "x" * 40)
    (1, 0, None)
    """
    for edits in range(_MOST_EDITS + 1):
        fuzzy = f"(?:{pattern}){{e<={edits}}}" if edits else pattern
        try:
            if regex.fullmatch(fuzzy, line.strip(), timeout=_SECONDS):
                return edits
        except (regex.error, TimeoutError):
            return None
    return None


def nearest(patterns: list[tuple[str, str]], line: str) -> tuple[str, str, int] | None:
    r"""Of named patterns the one that comes nearest to a line, with how many characters it lacks.

    >>> nearest([("prompts[0]", r"\w+#"), ("prompts[1]", "<.*>")], "router>")
    ('prompts[0]', '\\w+#', 1)
    """
    measured = [(distance(text, line), name, text) for name, text in patterns]
    known = [(edits, name, text) for edits, name, text in measured if edits is not None]
    if not known:
        return None
    edits, name, text = min(known)
    return name, text, edits


def advise(line: str, *, in_command: bool) -> list[str]:
    r"""What might be added to a platform file for a line at which the device waits.

    >>> advise("  --More-- (q to quit)", in_command=True)
    ["more:\n  - {pattern: '\\s*--More-- \\(q to quit\\)', key: ' '}"]
    >>> advise("core-1>", in_command=False)
    ["prompts: ['[\\w.-]+>']"]
    >>> print(*advise("Continue? [y/n]:", in_command=True))
    questions:
      - {pattern: 'Continue\? \[y/n\]:', answer: "y\n"}
    >>> advise("", in_command=True), advise("Cisco IOS Software, ASR920 (", in_command=True)
    ([], [])
    """
    text = line.strip()
    if not text:
        return []
    shape = _literal(text).replace("'", "''")
    if text.endswith(":") and _SECRET.search(text):
        return [f"login:\n  password: '{shape}'   # or enable: {{password: …}}, where it is that"]
    if _ASKS.search(text):
        return [f"questions:\n  - {{pattern: '{shape}', answer: \"y\\n\"}}"]
    if _WAITS.search(text):
        if in_command:
            blanks = r"\s*" if line[:1].isspace() else ""
            return [f"more:\n  - {{pattern: '{blanks}{shape}', key: ' '}}"]
        return [f"questions:\n  - {{pattern: '{shape}', answer: \"\\n\"}}"]
    if text.endswith(":"):
        return [f"login:\n  user: '{shape}'"]
    return [f"prompts: ['{propose_prompt(text)}']"] if _MAY_BE_PROMPT.search(text) else []
