"""Giving an HTTP(S) remote the contents kept beside the repository, before their pointers.

As git LFS does it: the server is asked which of them it lacks (`/info/lfs/objects/batch`), and says
where to put each and whom to tell then. A content is streamed from its file and never held
whole. Blocks; for one thread at a time, but for `stop`.
"""

import hashlib
import http.client
import json
import socket
import ssl
from collections.abc import Iterator, Mapping
from contextlib import suppress
from itertools import islice
from pathlib import Path
from typing import IO, Final
from urllib.parse import SplitResult, urlsplit

import msgspec

from roundsman import logs
from roundsman.archive.large import kept_contents
from roundsman.archive.remotes.access import Access, RemoteError

_TYPE: Final = "application/vnd.git-lfs+json"
_AT_ONCE: Final = 100
"""Contents asked about at once, as stock clients do."""
_TIMEOUT_SECONDS: Final = 60.0
"""So long may a server say, or take, nothing."""
_PIECE: Final = 1 << 18
_HEARD: Final = 4 << 20
"""The most that is read of an answer."""
_TAKEN: Final = (200, 201, 202, 204)
_NOT_SPOKEN: Final = (404, 405, 406, 410, 501)
_REMEDY: Final = "see the remote; results wait here until it takes them"

log = logs.get(__name__)


class _Action(msgspec.Struct, frozen=True):
    href: str
    header: dict[str, str] = {}


class _Actions(msgspec.Struct, frozen=True):
    upload: _Action | None = None
    verify: _Action | None = None


class _Refusal(msgspec.Struct, frozen=True):
    code: int = 0
    message: str = ""


class _Object(msgspec.Struct, frozen=True):
    oid: str
    actions: _Actions = _Actions()
    error: _Refusal | None = None


class _Answer(msgspec.Struct, frozen=True):
    objects: list[_Object]


class ContentUploads:
    """Keeps one remote supplied."""

    def __init__(self, name: str, repository: Path, access: Access) -> None:
        self._name = name
        self._repository = repository
        self._access = access
        self._there: set[str] = set()
        """The digests that the remote is known to have, in this life."""
        self._warned = False
        self._stopped = False
        self._connection: http.client.HTTPConnection | None = None

    def bring_up(self, branch: str) -> None:
        """Give the remote every content that it lacks. Raises `RemoteError`, `OSError`.

        A server that does not speak the protocol is left without, with a warning.
        """
        missing = (path for path in kept_contents(self._repository) if path.name not in self._there)
        while some := {path.name: path for path in islice(missing, _AT_ONCE)}:
            answer = self._ask(branch, some)
            if answer is None:
                return
            for item in answer.objects:
                if item.error is not None:
                    said = self._access.scrubbed(item.error.message.encode())
                    raise self._failure(f"content {item.oid[:80]}: {item.error.code} {said}")
                if item.oid in some:
                    self._give(some[item.oid], item.actions)
            self._there |= some.keys()

    def stop(self) -> None:
        """Cut off what runs; nothing runs any more after that."""
        self._stopped = True
        connection = self._connection
        if connection is not None and connection.sock is not None:
            with suppress(OSError):
                connection.sock.shutdown(socket.SHUT_RDWR)

    def reset(self) -> None:
        """Let it run again, as for an archive that is opened anew."""
        self._stopped = False

    def _ask(self, branch: str, some: Mapping[str, Path]) -> _Answer | None:
        """Which of these are to go where; none where the server has no such thing."""
        asked = {
            "operation": "upload",
            "transfers": ["basic"],
            "ref": {"name": branch},
            "objects": [{"oid": name, "size": path.stat().st_size} for name, path in some.items()],
            "hash_algo": "sha256",
        }
        base = self._access.url.rstrip("/")
        url = base if base.endswith(".git") else f"{base}.git"
        headers = {"Accept": _TYPE, "Content-Type": _TYPE}
        url += "/info/lfs/objects/batch"
        status, said = self._send("POST", url, headers, json.dumps(asked).encode())
        if status in _NOT_SPOKEN:
            if not self._warned:
                log.warning("archive.remote_without_lfs", remote=self._name, status=status)
            self._warned = True
            return None
        if status != http.client.OK:
            raise self._refused("asked which contents it lacks", status, said)
        try:
            answer = msgspec.json.decode(said, type=_Answer)
        except msgspec.MsgspecError as error:
            raise self._failure(f"expected an answer of git LFS, got: {error}") from None
        untold = some.keys() - {item.oid for item in answer.objects}
        if untold:
            raise self._failure(f"said nothing of content {min(untold)}")
        return answer

    def _give(self, path: Path, actions: _Actions) -> None:
        """Put one content where the server says, and tell it then; it has it if it says nothing."""
        if actions.upload is None:
            return
        with path.open("rb") as file:
            body = _Body(file)
            headers = {"Content-Type": "application/octet-stream", **actions.upload.header}
            if "chunked" not in (value.lower() for value in headers.values()):
                headers["Content-Length"] = str(path.stat().st_size)
            status, said = self._send("PUT", actions.upload.href, headers, body)
        if body.is_read and body.digest != path.name:  # it would hold up all that is to be pushed
            log.error("archive.content_damaged", digest=path.name, remote=self._name)
            return
        if status not in _TAKEN:
            raise self._refused(f"given content {path.name}", status, said)
        if actions.verify is not None:
            told = json.dumps({"oid": path.name, "size": path.stat().st_size}).encode()
            headers = {"Accept": _TYPE, "Content-Type": _TYPE, **actions.verify.header}
            status, said = self._send("POST", actions.verify.href, headers, told)
            if status != http.client.OK:
                raise self._refused(f"told of content {path.name}", status, said)
        log.debug("archive.content_pushed", remote=self._name, digest=path.name)

    def _send(
        self, method: str, url: str, headers: Mapping[str, str], body: "bytes | _Body"
    ) -> tuple[int, bytes]:
        """Send one request, and follow nowhere; status and beginning of the answer."""
        parts = urlsplit(url)
        headers = {"User-Agent": "roundsman", **headers}
        lower = {name.lower() for name in headers}
        own = self._access.authorization
        if own is not None and "authorization" not in lower and self._is_own(parts):
            headers["Authorization"] = own
        connection = self._connection = self._connect(parts)
        try:
            if self._stopped:
                raise self._failure("the archive is being closed")
            path = parts.path or "/"
            target = f"{path}?{parts.query}" if parts.query else path
            chunked = isinstance(body, _Body) and "Content-Length" not in headers
            connection.request(method, target, body, headers, encode_chunked=chunked)
            answer = connection.getresponse()
            return answer.status, answer.read(_HEARD)
        except (http.client.HTTPException, ValueError) as error:
            raise self._failure(f"expected HTTP, got: {type(error).__name__}") from None
        except OSError as error:
            said = self._access.scrubbed(str(error).encode())
            raise self._failure(f"{parts.hostname}: {said}") from None
        finally:
            self._connection = None
            connection.close()

    def _connect(self, parts: SplitResult) -> http.client.HTTPConnection:
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise self._failure(f"expected http:// or https://, got {parts.scheme[:20]!r}")
        if parts.scheme == "http":
            if urlsplit(self._access.url).scheme == "https":
                raise self._failure("wants contents by http://, though it is one of https://")
            return http.client.HTTPConnection(
                parts.hostname, parts.port, timeout=_TIMEOUT_SECONDS, blocksize=_PIECE
            )
        return http.client.HTTPSConnection(
            parts.hostname,
            parts.port,
            timeout=_TIMEOUT_SECONDS,
            blocksize=_PIECE,
            context=ssl.create_default_context(),
        )

    def _is_own(self, parts: SplitResult) -> bool:
        """Whether it is the server that the credentials are for."""
        own = urlsplit(self._access.url)
        return (own.scheme, own.hostname, own.port) == (parts.scheme, parts.hostname, parts.port)

    def _refused(self, what: str, status: int, said: bytes) -> RemoteError:
        text = self._access.scrubbed(said) or "nothing"
        return self._failure(f"{what}, it answered {status} and said: {text}")

    def _failure(self, text: str) -> RemoteError:
        return RemoteError(f"{self._name}: {text}", remedy=_REMEDY)


class _Body:
    """A file that is read once, and its digest."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._digest = hashlib.sha256()
        self.is_read = False
        """Whether it was read to its end."""

    @property
    def digest(self) -> str:
        """SHA-256 of what was read, hexadecimal."""
        return self._digest.hexdigest()

    def __iter__(self) -> Iterator[bytes]:
        while piece := self._file.read(_PIECE):
            self._digest.update(piece)
            yield piece
        self.is_read = True
