"""Looks through every tracked file for what must not be committed.

- The name of a package registry: the project installs from whichever mirror the reader uses
  (docs/adr/0001-lock-without-hosts.md).
- A path of the machine that a file was written on: it means nothing elsewhere.
- What a merge that was not finished leaves behind.
- Words on how a text came to be: the project speaks of itself alone.

Each pattern holds a character class where a plain letter would do, so that this file does not find
itself.
"""

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

FORBIDDEN = {
    "package registry": re.compile(
        r"pyp[i]\.org|pythonhoste[d]|registry\.npmj[s]|crate[s]\.io|de[b]\.debian|archive\.ubunt[u]"
        r"|--(extra-)?inde[x]-url|--find-link[s]"
    ),
    "machine path": re.compile(
        r"(?<![\w.-])/(wor[k]/\w|op[t]/(wheels|pypi)|roo[t]/\.|hom[e]/runner/)|\.pyen[v]/|\.librar[y]/"
    ),
    "origin of a text": re.compile(
        r"\b(claud[e]|anthropi[c]|opena[i]|chatgp[t]|copilo[t]|ll[m]s?|language mode[l]s?)\b"
        r"|\ba[i][- ](generated|assisted)\b|co-authored-b[y]:",
        re.IGNORECASE,
    ),
    "conflict marker": re.compile(r"^(<{7}|>{7})( |$)"),
}


def tracked_files() -> list[Path]:
    # safe.directory: a checkout that belongs to another user (a container's volume) is read too.
    listing = subprocess.run(
        ["git", "-c", "safe.directory=*", "ls-files", "-z"],
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    return [Path(name) for name in listing.split("\0") if name]


def findings(path: Path) -> Iterator[str]:
    if not path.is_file():  # deleted but not yet committed, or a submodule
        return
    for number, line in enumerate(path.read_text("utf-8", "replace").splitlines(), start=1):
        for kind, pattern in FORBIDDEN.items():
            if match := pattern.search(line):
                yield f"{path}:{number}: {kind}: {match.group()!r}"


def main() -> int:
    found = [finding for path in tracked_files() for finding in findings(path)]
    for finding in found:
        print(finding)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
