"""Real git servers on the loopback interface: `git http-backend` behind HTTP with a password.

Beside it git LFS's batch API as it is published, on the folders where a stock client looks too.
"""

import base64
import contextlib
import hashlib
import json
import os
import ssl
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
    lfs: bool
    context: ssl.SSLContext | None

    def do_GET(self) -> None:
        if self.lfs and "/lfs/objects/" in self.path:
            self.seen.append(self.path)
            self._answer(200, self._kept(self.path.rpartition("/")[2]).read_bytes())
            return
        self._serve(b"")

    def do_PUT(self) -> None:
        """A content, by an address that only the batch API tells."""
        self.seen.append(f"PUT {self.path}")
        name = self.path.rpartition("/")[2]
        assert self.headers["X-Told"] == name
        if (self.root / "full").exists():
            for _ in self._pieces():
                pass
            self._answer(507, b"no room")
            return
        path = self._kept(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        digest = hashlib.sha256()
        with path.open("wb") as file:
            for piece in self._pieces():
                digest.update(piece)
                file.write(piece)
        if digest.hexdigest() != name:
            path.unlink()
            self._answer(422, b"not what its name says")
            return
        self._answer(200, b"")

    def _pieces(self) -> Iterator[bytes]:
        if self.headers.get("Transfer-Encoding") == "chunked":
            while size := int(self.rfile.readline(), 16):
                yield self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
            return
        left = int(self.headers["Content-Length"])
        while left:
            piece = self.rfile.read(min(left, 1 << 16))
            left -= len(piece)
            yield piece

    def _kept(self, name: str) -> Path:
        repository = self.path.split("/")[1]
        return self.root / repository / "lfs" / "objects" / name[:2] / name[2:4] / name

    def _batch(self, body: bytes) -> None:
        asked = json.loads(body)
        scheme = "http" if self.context is None else "https"
        host = f"{scheme}://{self.headers['Host']}/{self.path.split('/')[1]}/lfs/objects"
        objects = []
        for item in asked["objects"]:
            is_here = self._kept(item["oid"]).is_file()
            header = {"X-Told": item["oid"]}
            if item["size"] % 2:
                header["Transfer-Encoding"] = "chunked"  # as some hosts have it
            actions = {}
            if asked["operation"] == "upload" and not is_here:
                actions["upload"] = {"href": f"{host}/{item['oid']}", "header": header}
                actions["verify"] = {"href": f"{host}/verify"}
            elif asked["operation"] == "download" and is_here:
                actions["download"] = {"href": f"{host}/{item['oid']}"}
            objects.append({**item, **({"actions": actions} if actions else {})})
        self._answer(200, json.dumps({"transfer": "basic", "objects": objects}).encode())

    def _answer(self, status: int, content: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", "application/vnd.git-lfs+json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

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
        if self.lfs and path.endswith("/info/lfs/objects/batch"):
            self._batch(body)
            return
        if self.lfs and path.endswith("/lfs/objects/verify"):
            told = json.loads(body)
            is_here = self._kept(told["oid"]).stat().st_size == told["size"]
            self._answer(200 if is_here else 404, b"{}")
            return
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
def git_over_http(
    root: Path,
    *,
    user: str,
    password: str,
    lfs: bool = False,
    context: ssl.SSLContext | None = None,
) -> Iterator[tuple[int, list[str]]]:
    """Serve the repositories in a folder; the port, and the paths that are asked for."""
    seen: list[str] = []
    token = base64.b64encode(f"{user}:{password}".encode()).decode()
    handler = type(
        "Backend",
        (_Backend,),
        {
            "root": root,
            "authorization": f"Basic {token}",
            "seen": seen,
            "lfs": lfs,
            "context": context,
        },
    )
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        if context is not None:
            server.socket = context.wrap_socket(server.socket, server_side=True)
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield server.server_address[1], seen
        finally:
            server.shutdown()
            thread.join()
