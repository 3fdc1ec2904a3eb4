"""The body of `POST /worker/complete`: multipart, read as it comes, the file into the spool."""

import asyncio
import base64
import binascii
import re
from typing import Annotated, Final, TypeAlias, cast

import msgspec
from litestar.types import HTTPReceiveMessage, Receive
from msgspec import Meta

from roundsman.controller.api.multipart import (
    OVERHEAD_BYTES,
    Form,
    FormError,
    ResultTooLargeError,
    parse_content_type,
)
from roundsman.controller.intake import Completion
from roundsman.controller.spool import Received
from roundsman.errors import RoundsmanError
from roundsman.wire.run import FailureClass, SecretFinding

SILENCE_SECONDS: Final = 60.0
"""A client that sends nothing for so long has gone, or means harm."""

_FIELDS: Final = frozenset(
    {
        "device",
        "job",
        "job_timestamp",
        "start_timestamp",
        "end_timestamp",
        "failure",
        "failure_class",
        "epoch",
        "detected_secrets",
        "recording",
    }
)
_Findings: TypeAlias = Annotated[tuple[SecretFinding, ...], Meta(max_length=100)]
_findings: Final[msgspec.json.Decoder[_Findings]] = msgspec.json.Decoder(_Findings)
# Twelve digits reach beyond the year 30000.
_WHOLE: Final = re.compile(r"[0-9]{1,12}")
# After a failover of the ledger's database epochs are large; all stay below 2**53.
_EPOCH: Final = re.compile(r"[0-9]{1,16}")
_SECONDS: Final = re.compile(r"[0-9]{1,12}(\.[0-9]{1,9})?")


class SilentClientError(RoundsmanError):
    """The client stopped sending in the middle of the body."""

    code = "completion.silent"


async def receive(
    receive: Receive,
    *,
    content_type: str,
    content_length: int | None,
    content: Received,
    limit: int,
) -> tuple[Completion, Received | None]:
    """Read a whole completion; the content is none where no file came.

    A body announced as too large, or too large for the disk, is refused before any of it is read.
    Raises `FormError`, `ResultTooLargeError`, `SilentClientError`, `SpoolUnavailableError`.
    """
    if content_length is not None:
        if content_length > limit + OVERHEAD_BYTES:
            raise ResultTooLargeError(limit)
        content.announce(content_length)
    form = Form(parse_content_type(content_type), content, names=_FIELDS, limit=limit)
    try:
        await _feed(form, receive)
    except TimeoutError:
        raise SilentClientError(
            f"no more of the body came for {SILENCE_SECONDS:.0f} s; nothing was kept"
        ) from None
    await form.finish()
    completion = read_fields(form)
    return completion, content if content.size else None


async def _feed(form: Form, receive: Receive) -> None:
    """Give the form the body as it comes. Raises `TimeoutError` when its next piece is late."""
    loop = asyncio.get_running_loop()
    async with asyncio.timeout(None) as silence:
        more = True
        while more:
            silence.reschedule(loop.time() + SILENCE_SECONDS)
            message = cast("HTTPReceiveMessage", await receive())
            silence.reschedule(None)  # what the disk takes is not the client's fault
            if message["type"] == "http.disconnect":
                return  # what is missing now, the form says
            await form.take(message["body"])
            more = message["more_body"]


def read_fields(form: Form) -> Completion:
    """The fields of a form, checked. Raises `FormError` that names what is missing or wrong."""
    fields = form.fields
    # No database takes a NUL in a text.
    failure = fields.get("failure", "").replace("\0", "\N{REPLACEMENT CHARACTER}").strip() or None
    if not form.has_file and failure is None:
        raise FormError("file: missing, and no failure says why")
    if form.has_file and not form.file_bytes and failure is None:
        raise FormError("file: empty, and no failure says why")
    return Completion(
        device=_required(fields, "device"),
        job=_job(fields, form.filename),
        due=int(_number(fields, "job_timestamp", _WHOLE, "a Unix time in whole seconds")),
        started_at=float(_number(fields, "start_timestamp", _SECONDS, "a Unix time")),
        ended_at=float(_number(fields, "end_timestamp", _SECONDS, "a Unix time")),
        failure=failure,
        failure_class=_failure_class(fields) if failure else None,
        epoch=int(_number(fields, "epoch", _EPOCH, "a whole number"))
        if "epoch" in fields
        else None,
        detected_secrets=_detected_secrets(fields),
        recording=_recording(fields) if failure else None,
    )


def _required(fields: dict[str, str], name: str) -> str:
    value = fields.get(name, "")
    if not value:
        raise FormError(f"{name}: missing")
    return value


def _job(fields: dict[str, str], filename: str | None) -> str:
    job = fields.get("job") or None
    if job is None and filename is None:
        raise FormError("job: missing, as the file's filename or as the field job")
    if job is not None and filename is not None and job != filename:
        raise FormError(f"job: the field says {job!r}, the file's filename {filename!r}")
    return job or filename or ""


def _number(fields: dict[str, str], name: str, pattern: re.Pattern[str], expected: str) -> str:
    value = _required(fields, name)
    if not pattern.fullmatch(value):
        raise FormError(f"{name}: expected {expected}, got {value[:100]!r}")
    return value


def _detected_secrets(fields: dict[str, str]) -> tuple[SecretFinding, ...]:
    try:
        return _findings.decode(fields.get("detected_secrets", "[]"))
    except msgspec.DecodeError as error:
        raise FormError(f"detected_secrets: {error}") from None


def _recording(fields: dict[str, str]) -> bytes | None:
    try:
        return base64.b64decode(fields.get("recording", ""), validate=True) or None
    except binascii.Error as error:
        raise FormError(f"recording: expected base64: {error}") from None


def _failure_class(fields: dict[str, str]) -> FailureClass:
    try:
        return FailureClass(fields.get("failure_class", FailureClass.OTHER))
    except ValueError:  # a word of a newer release
        return FailureClass.OTHER
