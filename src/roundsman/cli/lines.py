"""Lines of a report on a terminal: a mark, a word, and what there is to say, well aligned."""

from typing import Final

from rich.console import Console
from rich.table import Table
from rich.text import Text

_WORD: Final = 10
_MARGIN: Final = _WORD + 4


def step(console: Console, word: str, what: str, more: str = "", *, style: str = "green") -> None:
    """One step: what it is about, and what is to be known of it."""
    left = Text.assemble(("  ● ", style), (f"{word:{_WORD}}", "bold"))
    _print(console, left, Text.assemble(what, "  " if more else "", (more, "dim")))


def detail(console: Console, text: str, *, style: str = "dim") -> None:
    """A line below a step."""
    _print(console, Text(" " * _MARGIN), Text(text, style))


def _print(console: Console, left: Text, right: Text) -> None:
    """On a terminal what is long goes on below itself; elsewhere a line stays a line."""
    if not console.is_terminal:
        console.print(left + right, soft_wrap=True)
        return
    grid = Table.grid()
    grid.add_column(width=_MARGIN, no_wrap=True)
    grid.add_column(overflow="fold")
    grid.add_row(left, right)
    console.print(grid)
