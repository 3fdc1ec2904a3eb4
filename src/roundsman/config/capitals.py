"""Names that differ in capitals alone: two files in git, one where a file system folds them."""

from collections.abc import Iterable


def capital_warnings(kind: str, names: Iterable[str]) -> tuple[str, ...]:
    """What is to be said of the names of devices, or whatever folders are named after.

    >>> capital_warnings("devices", ["edge1", "core1"])
    ()
    """
    alike: dict[str, list[str]] = {}
    for name in names:
        alike.setdefault(name.casefold(), []).append(name)
    groups = [" and ".join(group) for group in alike.values() if len(group) > 1]
    if not groups:
        return ()
    more = f", and {len(groups) - 1} more such" if len(groups) > 1 else ""
    text = (
        f"{kind} {groups[0]}{more}: the names differ in capitals alone, so a clone of the archive "
        "on Windows or macOS, where file systems take them for one, shows only one of them"
    )
    return (text,)
