"""An SSH server with one large file for each user, made as it is read.

Run as `python -m bench.large_files BYTES USER...`; prints its port, then for each user the SHA-256
of its file.
"""

import asyncio
import hashlib
import random
import sys

import asyncssh

BLOCK = 1 << 20


class LargeFile:
    """Blocks of noise, each beginning with its number."""

    def __init__(self, name: str, size: int) -> None:
        self._noise = random.Random(name).randbytes(BLOCK - 8)
        self._block = (-1, b"")
        self.size = size

    def read(self, offset: int, size: int) -> bytes:
        """What stands there, within one block."""
        number, start = divmod(offset, BLOCK)
        if self._block[0] != number:
            self._block = (number, number.to_bytes(8, "big") + self._noise)
        return self._block[1][start : min(start + size, start + self.size - offset)]

    def digest(self) -> str:
        """SHA-256 of all of it."""
        digest = hashlib.sha256()
        for offset in range(0, self.size, BLOCK):
            digest.update(self.read(offset, BLOCK))
        return digest.hexdigest()


class Files(asyncssh.SFTPServer):
    """One file, whatever its name."""

    size = 0

    def __init__(self, channel: "asyncssh.SSHServerChannel[bytes]") -> None:
        super().__init__(channel)
        self._file = LargeFile(channel.get_connection().get_extra_info("username"), self.size)

    def open(self, path: bytes, pflags: int, attrs: asyncssh.SFTPAttrs) -> object:
        """Open for reading."""
        return self._file

    def read(self, file_obj: object, offset: int, size: int) -> bytes:
        """The next of it; short at the end of a block."""
        return self._file.read(offset, size) if offset < self._file.size else b""

    def close(self, file_obj: object) -> None:
        """Nothing to let go."""

    def stat(self, path: bytes) -> asyncssh.SFTPAttrs:
        """Only the size is told."""
        return asyncssh.SFTPAttrs(size=self._file.size)

    lstat = stat

    def fstat(self, file_obj: object) -> asyncssh.SFTPAttrs:
        """Only the size is told."""
        return asyncssh.SFTPAttrs(size=self._file.size)


class Server(asyncssh.SSHServer):
    """Lets everybody in who says `secret`."""

    def password_auth_supported(self) -> bool:
        """Passwords are taken."""
        return True

    def validate_password(self, username: str, password: str) -> bool:
        """Whether this one is."""
        return password == "secret"


async def main() -> None:
    """Serve until told to stop."""
    _, size, *users = sys.argv
    Files.size = int(size)
    server = await asyncssh.listen(
        "127.0.0.1",
        0,
        server_factory=Server,
        sftp_factory=Files,
        server_host_keys=[asyncssh.generate_private_key("ssh-ed25519")],
    )
    print(server.sockets[0].getsockname()[1], flush=True)
    for user in users:
        print(LargeFile(user, Files.size).digest(), flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main())
