"""Multipart bodies, read as they come: short fields into memory, the file into the spool."""

from collections.abc import Set
from typing import Final

from multipart import (
    MultipartError,
    MultipartSegment,
    PushMultipartParser,
    parse_options_header,
)

from roundsman.controller.spool import Received
from roundsman.errors import InvalidError, TooLargeError

FIELD_BYTES: Final = 64 << 10
PARTS: Final = 64
FILE: Final = "file"
OVERHEAD_BYTES: Final = 1 << 20
"""What a body may be longer than its file: fields, headers and boundaries."""


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

    def __init__(self, boundary: str, content: Received, *, names: Set[str], limit: int) -> None:
        """Keep the fields of these names, and the file's content, at most `limit` bytes."""
        self.fields: dict[str, str] = {}
        self.filename: str | None = None
        self.has_file = False
        self._names = names
        self._content = content
        self._limit = limit
        self._came = 0
        self._parts = 0
        self._name: str | None = None
        self._value = b""
        try:
            self._parser = PushMultipartParser(boundary)
        except MultipartError as error:
            raise FormError(f"Content-Type: {error}") from error

    @property
    def file_bytes(self) -> int:
        """How much of the file came so far."""
        return self._content.size

    async def take(self, data: bytes) -> None:
        """Read more of the body. Raises `FormError`, `ResultTooLargeError` and spool errors."""
        if not data:
            return
        try:
            for event in self._parser.parse(data):
                if isinstance(event, MultipartSegment):
                    self._begin(event)
                elif event is None:
                    self._end()
                elif self._name != FILE:
                    self._add(event)
                elif self._add_to_file(event):
                    await self._content.flush()
        except MultipartError as error:
            raise FormError(f"body: not multipart/form-data: {error}") from error
        self._came += len(data)
        if self._came - self._content.size > OVERHEAD_BYTES:
            raise FormError(f"body: more than {OVERHEAD_BYTES} bytes beside the file")

    async def finish(self) -> None:
        """Nothing follows. Raises `FormError` when the body did not end as it should."""
        try:
            self._parser.close()
        except MultipartError as error:
            if not self._parts and self._came:
                text = "body: not multipart/form-data: its boundary does not occur"
            else:
                text = "body: it ended before its last boundary; nothing was kept"
            raise FormError(text) from error
        if self.has_file:
            await self._content.finish()

    def _begin(self, part: MultipartSegment) -> None:
        self._parts += 1
        if self._parts > PARTS:
            raise FormError(f"body: more than {PARTS} parts")
        name = part.name or ""
        self._name = name if name in self._names or name == FILE else None
        self._value = b""
        if name == FILE:
            if self.has_file:
                raise FormError("file: given twice")
            self.has_file = True
            self.filename = part.filename or None
        elif name in self.fields:
            raise FormError(f"{name}: given twice")

    def _add(self, data: bytes) -> None:
        if self._name is not None:
            self._value += data
            if len(self._value) > FIELD_BYTES:
                raise FormError(f"{self._name}: longer than {FIELD_BYTES} bytes")

    def _add_to_file(self, data: bytes) -> bool:
        """Whether the content is to be flushed before more of it is taken."""
        if self._content.size + len(data) > self._limit:
            raise ResultTooLargeError(self._limit)
        return self._content.take(data)

    def _end(self) -> None:
        if self._name is not None and self._name != FILE:
            self.fields[self._name] = _text(self._name, self._value)


def parse_content_type(header: str) -> str:
    """The boundary that a `Content-Type` header names. Raises `FormError`."""
    kind, options = parse_options_header(header)
    boundary: str | None = options.get("boundary")
    if kind != "multipart/form-data" or not boundary:
        raise FormError(
            f"Content-Type: expected multipart/form-data with a boundary, got {header[:100]!r}"
        )
    return boundary


def _text(name: str, value: bytes) -> str:
    try:
        return value.decode()
    except UnicodeDecodeError:
        raise FormError(f"{name}: expected UTF-8") from None
