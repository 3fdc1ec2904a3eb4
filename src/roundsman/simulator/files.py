"""A device's files, over SFTP: read only, made when they are opened."""

import io
from collections.abc import Callable, Mapping

import asyncssh


class DeviceFiles(asyncssh.SFTPServer):
    """Files by absolute path, each made by a function when it is asked for."""

    def __init__(
        self, channel: "asyncssh.SSHServerChannel[bytes]", files: Mapping[str, Callable[[], bytes]]
    ) -> None:
        """Serve `files`."""
        super().__init__(channel)
        self._files = files

    def _content(self, path: bytes) -> bytes:
        make = self._files.get(path.decode("utf-8", "replace"))
        if make is None:
            raise asyncssh.SFTPNoSuchFile("no such file")
        return make()

    def open(self, path: bytes, pflags: int, attrs: asyncssh.SFTPAttrs) -> object:
        """Open for reading."""
        if pflags & ~asyncssh.FXF_READ:
            raise asyncssh.SFTPPermissionDenied("read only")
        return io.BytesIO(self._content(path))

    def stat(self, path: bytes) -> asyncssh.SFTPAttrs:
        """Only the size is told."""
        return asyncssh.SFTPAttrs(size=len(self._content(path)))

    lstat = stat

    def fstat(self, file_obj: object) -> asyncssh.SFTPAttrs:
        """Only the size is told."""
        assert isinstance(file_obj, io.BytesIO)
        return asyncssh.SFTPAttrs(size=len(file_obj.getbuffer()))
