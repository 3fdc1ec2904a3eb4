"""The stock git program, reading what we wrote as anybody would."""

import subprocess
from pathlib import Path


class StockGit:
    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def run(self, *arguments: str, stdin: bytes = b"") -> bytes:
        done = subprocess.run(
            ["git", f"--git-dir={self.folder}", *arguments],
            input=stdin,
            capture_output=True,
            check=False,
        )
        assert done.returncode == 0, (arguments, done.stdout, done.stderr)
        return done.stdout

    def fsck(self) -> None:
        done = subprocess.run(
            ["git", f"--git-dir={self.folder}", "fsck", "--strict", "--no-dangling"],
            capture_output=True,
            check=False,
        )
        said = [
            line
            for line in (done.stdout + done.stderr).splitlines()
            if not line.startswith(b"notice: ")  # an empty repository has no HEAD, says git
        ]
        assert (done.returncode, said) == (0, [])

    def commits(self, *arguments: str) -> list[str]:
        """Ids, newest first; none in an empty repository."""
        return self.run("rev-list", "--all", *arguments).decode().split()

    def show(self, commit: str, device: str = "edge1", job: str = "show_run") -> bytes:
        return self.run("cat-file", "blob", f"{commit}:by_device/{device}/{job}")
