"""Real git servers on the loopback interface: `git http-backend` behind HTTP with a password."""

import base64
import contextlib
import os
import subprocess
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from tests.archive.stock_git import StockGit


def bare(folder: Path) -> StockGit:
    """An empty repository that may be pushed to."""
    subprocess.run(
        ["git", "init", "--bare", "--quiet", "--initial-branch=main", str(folder)], check=True
    )
    return StockGit(folder)


def commit(
    stock: StockGit, files: dict[str, str], *, message: str = "by others", on: str | None = "main"
) -> str:
    """A commit by somebody else, on what is there; its id."""
    feed = ["commit refs/heads/main", "committer Other <o@example.org> 1700000000 +0000"]
    feed += [f"data {len(message)}", message]
    if on is not None:
        feed.append(f"from {stock.run('rev-parse', on).decode().strip()}")
    for path, text in files.items():
        feed += [f"M 100644 inline {path}", f"data {len(text)}", text]
    stock.run("fast-import", "--quiet", stdin=("\n".join(feed) + "\n").encode())
    return stock.run("rev-parse", "main").decode().strip()


class _Backend(BaseHTTPRequestHandler):
    """Hands requests to `git http-backend`, as a web server does by CGI."""

    protocol_version = "HTTP/1.1"
    root: Path
    authorization: str
    seen: list[str]

    def do_GET(self) -> None:
        self._serve(b"")

    def do_POST(self) -> None:
        if self.headers.get("Transfer-Encoding") == "chunked":
            body = b""
            while size := int(self.rfile.readline(), 16):
                body += self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
        else:
            body = self.rfile.read(int(self.headers["Content-Length"]))
        self._serve(body)

    def _serve(self, body: bytes) -> None:
        self.seen.append(self.path)
        if self.headers.get("Authorization") != self.authorization:
            self.send_response(401)
            self.send_header("WWW-Authenticate", 'Basic realm="git"')
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        path, _, query = self.path.partition("?")
        done = subprocess.run(
            ["git", "http-backend"],
            input=body,
            capture_output=True,
            check=True,
            env={
                "PATH": os.environ["PATH"],
                "GIT_PROJECT_ROOT": str(self.root),
                "GIT_HTTP_EXPORT_ALL": "1",
                "PATH_INFO": path,
                "QUERY_STRING": query,
                "REQUEST_METHOD": self.command,
                "CONTENT_TYPE": self.headers.get("Content-Type", ""),
                "CONTENT_LENGTH": str(len(body)),
                "HTTP_CONTENT_ENCODING": self.headers.get("Content-Encoding", ""),
                "GIT_PROTOCOL": self.headers.get("Git-Protocol", ""),
                "REMOTE_USER": "ada",
            },
        )
        head, _, content = done.stdout.partition(b"\r\n\r\n")
        fields = dict(line.split(": ", 1) for line in head.decode().split("\r\n"))
        self.send_response(int(fields.pop("Status", "200 OK").split()[0]))
        for name, value in fields.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - as in the base
        """Say nothing."""


@contextlib.contextmanager
def git_over_http(root: Path, *, user: str, password: str) -> Iterator[tuple[int, list[str]]]:
    """Serve the repositories in a folder; the port, and the paths that are asked for."""
    seen: list[str] = []
    token = base64.b64encode(f"{user}:{password}".encode()).decode()
    handler = type(
        "Backend",
        (_Backend,),
        {"root": root, "authorization": f"Basic {token}", "seen": seen},
    )
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield server.server_address[1], seen
        finally:
            server.shutdown()
            thread.join()
