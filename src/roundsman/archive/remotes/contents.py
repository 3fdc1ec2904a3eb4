"""Giving a remote on a server the contents kept beside the repository, before their pointers.

As git LFS does it: the server is asked which of them it lacks (`/objects/batch`), and says where to
put each and whom to tell then. Where that is, an address of HTTP(S) says by itself; a server of SSH
is asked by `git-lfs-authenticate`, and gives an address and what to show there. A content is
streamed from its file and never held whole. Blocks; for one thread at a time, but for `stop`.
"""

import hashlib
import http.client
import json
import socket
import ssl
from collections.abc import Callable, Iterator, Mapping
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
_SSH_FAILED: Final = 255
"""The exit status of ssh itself, where it did not come to run the command."""
_REMEDY: Final = "see the remote; results wait here until it takes them"

log = logs.get(__name__)


class _Action(msgspec.Struct, frozen=True):
    """An address, and what to show there."""

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

    def __init__(
        self,
        name: str,
        repository: Path,
        access: Access,
        ask_by_ssh: Callable[..., tuple[int, bytes, bytes]],
    ) -> None:
        """`ask_by_ssh` has the server run a command on the repository.

        It gives the exit status, what was printed, and what was complained of.
        """
        self._name = name
        self._repository = repository
        self._access = access
        self._ask_by_ssh = ask_by_ssh
        self._place = _Action("")
        """Where the API is, and what to show on that server."""
        self._there: set[str] = set()
        """The digests that the remote is known to have, in this life."""
        self._warned = False
        self._stopped = False
        self._connection: http.client.HTTPConnection | None = None

    def bring_up(self, branch: str) -> None:
        """Give the remote every content that it lacks. Raises `RemoteError`, `OSError`.

        A server that does not speak the protocol is left without, with a warning, and asked again
        with the next push.
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
        place = self._by_ssh() if self._access.is_ssh else self._beside_git()
        if place is None:
            return None
        self._place = place
        asked = {
            "operation": "upload",
            "transfers": ["basic"],
            "ref": {"name": branch},
            "objects": [{"oid": name, "size": path.stat().st_size} for name, path in some.items()],
            "hash_algo": "sha256",
        }
        headers = {"Accept": _TYPE, "Content-Type": _TYPE}
        url = f"{place.href.rstrip('/')}/objects/batch"
        status, said = self._send("POST", url, headers, json.dumps(asked).encode())
        if status in _NOT_SPOKEN:
            self._warn(f"its address of git LFS answered {status}")
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

    def _beside_git(self) -> _Action:
        """Where clients look for the API of an HTTP(S) server."""
        base = self._access.url.rstrip("/")
        authorization = self._access.authorization
        return _Action(
            f"{base if base.endswith('.git') else f'{base}.git'}/info/lfs",
            {} if authorization is None else {"Authorization": authorization},
        )

    def _by_ssh(self) -> _Action | None:
        """Where a server of SSH says that the API is; none where it has none that may be used."""
        status, printed, complaint = self._ask_by_ssh("git-lfs-authenticate", "upload")
        if status == _SSH_FAILED or status < 0:  # by itself, or by a signal: it was not heard
            said = self._access.scrubbed(complaint) or "nothing"
            raise self._failure(f"ssh ended with status {status} and said: {said}")
        if status:
            said = self._access.scrubbed(complaint) or "nothing"
            self._warn(f"git-lfs-authenticate ended with status {status} and said: {said}")
            return None
        try:
            place = msgspec.json.decode(printed, type=_Action)
        except msgspec.MsgspecError as error:
            raise self._failure(f"git-lfs-authenticate: expected its JSON, got: {error}") from None
        if urlsplit(place.href).scheme == "http":
            self._warn("git-lfs-authenticate gave an address of http://, which is not encrypted")
            return None
        return place

    def _warn(self, reason: str) -> None:
        """Say, once, that only pointers go there."""
        if not self._warned:
            log.warning("archive.remote_without_lfs", remote=self._name, reason=reason)
        self._warned = True

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
        if "authorization" not in (name.lower() for name in headers):
            headers.update(self._shown(parts))
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
            own = urlsplit(self._access.url).scheme
            if own != "http":
                raise self._failure(f"wants contents by http://, though it is one of {own}://")
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

    def _shown(self, parts: SplitResult) -> Mapping[str, str]:
        """What shows who asks, where it is the server that this is for."""
        own = urlsplit(self._place.href)
        if (own.scheme, own.hostname, own.port) != (parts.scheme, parts.hostname, parts.port):
            return {}
        return self._place.header

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
