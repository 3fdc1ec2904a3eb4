"""Multipart bodies, read as they come: short fields into memory, the file into the spool."""

from collections.abc import Set
from typing import Final

from python_multipart import MultipartParser
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import parse_options_header

from roundsman.controller.spool import Received
from roundsman.errors import InvalidError, TooLargeError

FIELD_BYTES: Final = 64 << 10
PARTS: Final = 64
FILE: Final = "file"


class FormError(InvalidError):
    """A completion that lacks something, or has something malformed."""

    code = "completion.invalid"


class ResultTooLargeError(TooLargeError):
    """The result is larger than the controller accepts."""

    code = "completion.too_large"

    def __init__(self, limit: int) -> None:
        """Say the limit, in bytes."""
        super().__init__(
            f"the result is larger than {limit} bytes",
            remedy="raise controller.limits.result_bytes, or narrow the job",
        )


class Form:
    """One multipart body, taken in piece by piece."""

    def __init__(self, boundary: bytes, content: Received, *, names: Set[str], limit: int) -> None:
        """Keep the fields of these names, and the file's content, at most `limit` bytes."""
        self.fields: dict[str, str] = {}
        self.filename: str | None = None
        self.has_file = False
        self._names = names
        self._content = content
        self._limit = limit
        self._ended = False
        self._parts = 0
        self._header = (bytearray(), bytearray())
        self._name: str | None = None
        self._value = bytearray()
        self._pieces: list[bytes] = []
        try:
            self._parser = MultipartParser(
                boundary,
                {
                    "on_part_begin": self._on_part_begin,
                    "on_header_field": self._on_header_field,
                    "on_header_value": self._on_header_value,
                    "on_header_end": self._on_header_end,
                    "on_part_data": self._on_part_data,
                    "on_part_end": self._on_part_end,
                    "on_end": self._on_end,
                },
            )
        except FormParserError as error:
            raise FormError(f"body: {error}") from error

    @property
    def file_bytes(self) -> int:
        """How much of the file came so far."""
        return self._content.size

    async def take(self, data: bytes) -> None:
        """Read more of the body. Raises `FormError`, `ResultTooLargeError` and spool errors."""
        try:
            self._parser.write(data)
        except FormParserError as error:
            raise FormError(f"body: not multipart/form-data: {error}") from error
        pieces, self._pieces = self._pieces, []
        for piece in pieces:
            if self._content.size + len(piece) > self._limit:
                raise ResultTooLargeError(self._limit)
            if self._content.take(piece):
                await self._content.flush()

    async def finish(self) -> None:
        """Nothing follows. Raises `FormError` when the body did not end as it should."""
        if not self._ended:
            raise FormError("body: it ended before its last boundary; nothing was kept")
        if self.has_file:
            await self._content.finish()

    def _on_part_begin(self) -> None:
        self._parts += 1
        if self._parts > PARTS:
            raise FormError(f"body: more than {PARTS} parts")
        self._name = None
        self._value = bytearray()

    def _on_header_field(self, data: bytes, start: int, end: int) -> None:
        self._header[0].extend(data[start:end])

    def _on_header_value(self, data: bytes, start: int, end: int) -> None:
        self._header[1].extend(data[start:end])

    def _on_header_end(self) -> None:
        name, value = bytes(self._header[0]), bytes(self._header[1])
        self._header = (bytearray(), bytearray())
        if name.lower() == b"content-disposition":
            self._on_disposition(value)

    def _on_disposition(self, value: bytes) -> None:
        _, options = parse_options_header(value)
        name = options.get(b"name", b"").decode("latin-1")
        if name == FILE:
            if self.has_file:
                raise FormError("file: given twice")
            self.has_file = True
            self.filename = _text(FILE, options.get(b"filename", b"")) or None
        elif name not in self._names:
            return
        elif name in self.fields:
            raise FormError(f"{name}: given twice")
        self._name = name

    def _on_part_data(self, data: bytes, start: int, end: int) -> None:
        if self._name == FILE:
            self._pieces.append(data[start:end])
        elif self._name is not None:
            self._value += data[start:end]
            if len(self._value) > FIELD_BYTES:
                raise FormError(f"{self._name}: longer than {FIELD_BYTES} bytes")

    def _on_part_end(self) -> None:
        if self._name is not None and self._name != FILE:
            self.fields[self._name] = _text(self._name, bytes(self._value))

    def _on_end(self) -> None:
        self._ended = True


def parse_content_type(header: str) -> bytes:
    """The boundary that a `Content-Type` header names. Raises `FormError`."""
    kind, options = parse_options_header(header)
    boundary = options.get(b"boundary")
    if kind != b"multipart/form-data" or not boundary:
        raise FormError(
            f"Content-Type: expected multipart/form-data with a boundary, got {header[:100]!r}"
        )
    return boundary


def _text(name: str, value: bytes) -> str:
    try:
        return value.decode()
    except UnicodeDecodeError:
        raise FormError(f"{name}: expected UTF-8") from None
