"""What an expanded job holds, in one form however it was written, with where each part stands."""

from collections.abc import Mapping
from typing import Any

from roundsman.documents.problems import Path
from roundsman.wire import job as wire


def commands_of(says: Mapping[str, Any]) -> list[tuple[Path, dict[str, Any]]]:
    """The commands, in one form, with where each stands."""
    found: list[tuple[Path, dict[str, Any]]] = [
        (("command", "inline", i), {"command": line})
        for i, line in enumerate(says.get("command", {}).get("inline", ()))
    ]
    for i, item in enumerate(says.get("commands", ())):
        command = {"command": item} if isinstance(item, str) else item
        found.append((("commands", i), {k: v for k, v in command.items() if v is not None}))
    return found


def files_of(says: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The files, in one form."""
    by_name = says.get("file", {})
    listed: list[dict[str, Any]] = says.get("files", [])
    return [{"name": name, **options} for name, options in by_name.items()] + listed


def texts_of(says: Mapping[str, Any]) -> list[tuple[Path, str]]:
    """Every text that may hold variables, with where it stands."""
    texts: list[tuple[Path, str]] = []
    for path, command in commands_of(says):
        inline = path[0] == "command" or isinstance(says["commands"][path[-1]], str)
        texts.append((path if inline else (*path, "command"), command["command"]))
    texts += expressions_of(says)
    for i, rule in enumerate(says.get("scrubbers", ())):
        if rule["type"] == wire.ScrubberType.SIMPLE:
            texts.append((("scrubbers", i, "search"), rule["search"]))
        texts.append((("scrubbers", i, "replace"), rule.get("replace") or ""))
    return texts


def expressions_of(says: Mapping[str, Any]) -> list[tuple[Path, str]]:
    """Every regular expression, with where it stands."""
    found: list[tuple[Path, str]] = []
    for path, command in commands_of(says):
        for key in ("expect", "expect_not"):
            found += [((*path, key, i), text) for i, text in enumerate(command.get(key, ()))]
    for i, rule in enumerate(says.get("scrubbers", ())):
        if rule["type"] != wire.ScrubberType.SIMPLE:
            found.append((("scrubbers", i, "search"), rule["search"]))
    return found
