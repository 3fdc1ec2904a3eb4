"""What a process wrote, kept on disk: numbered chunks of both streams in one append-only file.

The file is a row of frames, each a header and the bytes: number (4 bytes), stream (1), when it
was read in Unix seconds (8, a float), length (4), little-endian. It is never flushed to disk on
its own: it outlives the worker's death, and what a power cut takes with it ended there too.
"""

import contextlib
import os
import struct
from array import array
from pathlib import Path
from typing import BinaryIO, Final

from roundsman import logs
from roundsman.wire.process import OutputChunk

log = logs.get(__name__)

STDOUT: Final = 1
STDERR: Final = 2
REMARK: Final = 3
_NAMES: Final = {STDOUT: "stdout", STDERR: "stderr", REMARK: "roundsman"}

_HEADER: Final = struct.Struct("<IBdI")
_REMARK_ROOM: Final = 256  # bytes kept free below the limit for the remark that it was reached
_MARK_EVERY: Final = 64  # chunks; a reader skips at most this many headers to find its place
_JSON_OVERHEAD: Final = 100  # bytes that a chunk's keys and numbers take in a message, about


class OutputFile:
    """The output of one process: written by its runner, read by any number of readers."""

    def __init__(self, path: Path, *, limit_bytes: int) -> None:
        """Keep at most `limit_bytes` in `path`; nothing is created before the first chunk."""
        self._path = path
        self._limit = limit_bytes
        self._file: BinaryIO | None = None
        self._size = 0  # bytes of complete frames
        self._marks = array("Q")  # where the chunks 1, 1 + _MARK_EVERY, … begin
        self.last_number = 0
        self.cut = False

    @classmethod
    def reopen(cls, path: Path) -> "OutputFile":
        """The output of a process of an earlier life of this worker, up to a frame cut short."""
        output = cls(path, limit_bytes=0)
        output.cut = True
        output.refresh()
        return output

    @property
    def size(self) -> int:
        """Bytes of the file, as far as they are known here."""
        return self._size

    def refresh(self) -> None:
        """Take note of what its writer has appended since."""
        with contextlib.suppress(FileNotFoundError), self._path.open("rb") as file:
            total = os.fstat(file.fileno()).st_size
            file.seek(self._size)
            while header := _read_header(file):
                number, length = header[0], header[3]
                end = self._size + _HEADER.size + length
                if end > total:
                    break
                self._mark(number)
                self._size, self.last_number = end, number
                file.seek(length, os.SEEK_CUR)

    def append(self, stream: int, at: float, data: bytes) -> None:
        """Keep a chunk, or what of it still fits; beyond the limit a remark, then nothing more."""
        if self.cut:
            return
        room = self._limit - _REMARK_ROOM - self._size - _HEADER.size
        if room > 0:
            self._write(stream, at, data[:room])
        if len(data) > room:
            self._cut(at, f"output is cut here: more than {self._limit} bytes are not kept")

    def read(self, after: int, *, max_message_bytes: int) -> tuple[OutputChunk, ...]:
        """The chunks numbered above `after`, as many as fit a JSON message of that size."""
        if after >= self.last_number:
            return ()
        chunks: list[OutputChunk] = []
        room = max_message_bytes
        with self._path.open("rb") as file:
            file.seek(self._marks[after // _MARK_EVERY])
            while header := _read_header(file):
                number, stream, at, length = header
                if number <= after:
                    file.seek(length, os.SEEK_CUR)
                    continue
                room -= _JSON_OVERHEAD + length * 4 // 3  # base64
                if number > self.last_number or (chunks and room < 0):
                    break
                chunks.append(
                    OutputChunk(number=number, stream=_NAMES[stream], at=at, data=file.read(length))
                )
        return tuple(chunks)

    def close(self) -> None:
        """No more chunks; reading goes on."""
        self.cut = True
        if self._file is not None:
            self._file.close()
            self._file = None

    def _mark(self, number: int) -> None:
        if (number - 1) % _MARK_EVERY == 0:
            self._marks.append(self._size)

    def _write(self, stream: int, at: float, data: bytes) -> None:
        frame = _HEADER.pack(self.last_number + 1, stream, at, len(data)) + data
        try:
            if self._file is None:
                self._file = self._path.open("xb", buffering=0)
            written = self._file.write(frame)
        except OSError as error:
            self._give_up(at, error.strerror or str(error))
            return
        if written != len(frame):
            self._give_up(at, "the disk is full")
            return
        self._mark(self.last_number + 1)
        self.last_number += 1
        self._size += len(frame)

    def _give_up(self, at: float, reason: str) -> None:
        """Take back a frame written in part, so that the file stays readable; say why."""
        log.warning("process.output_lost", file=str(self._path), reason=reason)
        self._cut(at, f"output is cut here: {reason}")

    def _cut(self, at: float, remark: str) -> None:
        if self.cut:
            return
        self.cut = True
        if self._file is not None:
            with contextlib.suppress(OSError):  # the log has it
                self._file.truncate(self._size)
                self._file.seek(self._size)
                self._write(REMARK, at, remark.encode())
        self.close()


def _read_header(file: BinaryIO) -> tuple[int, int, float, int] | None:
    raw = file.read(_HEADER.size)
    if len(raw) < _HEADER.size:
        return None
    number, stream, at, length = _HEADER.unpack(raw)
    return number, stream, at, length
