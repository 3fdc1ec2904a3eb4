"""Multipart bodies byte by byte, as clients of the published contract send them."""

from collections.abc import Iterable

BOUNDARY = "8f2c1e7b9d"
HEADERS = {"Content-Type": f"multipart/form-data; boundary={BOUNDARY}"}

Part = tuple[str, str | bytes]


def field(name: str, value: str | bytes) -> bytes:
    value = value.encode() if isinstance(value, str) else value
    return b'Content-Disposition: form-data; name="%s"\r\n\r\n%s' % (name.encode(), value)


def file(filename: str | bytes | None, content: bytes) -> bytes:
    named = b""
    if filename is not None:
        raw = filename.encode() if isinstance(filename, str) else filename
        named = b'; filename="%s"' % raw
    return (
        b'Content-Disposition: form-data; name="file"%s\r\n'
        b"Content-Type: application/octet-stream\r\n\r\n%s" % (named, content)
    )


def body(parts: Iterable[bytes], *, closed: bool = True) -> bytes:
    delimiter = b"--" + BOUNDARY.encode()
    text = b"".join(delimiter + b"\r\n" + part + b"\r\n" for part in parts)
    return text + delimiter + b"--\r\n" if closed else text


def parts(
    device: str,
    job: str,
    due: int,
    content: bytes | None = None,
    *,
    failure: str | None = None,
    **more: str,
) -> list[bytes]:
    """The parts in the order in which the published contract's own client sends them."""
    listed = [
        field("job", job),
        field("device", device),
        field("job_timestamp", str(due)),
        field("start_timestamp", str(due + 1)),
        field("end_timestamp", str(due + 3)),
    ]
    listed += [field(name, value) for name, value in more.items()]
    if failure is not None:
        listed.append(field("failure", failure))
    if content is not None:
        listed.append(file(job, content))
    return listed


def completion(
    device: str,
    job: str,
    due: int,
    content: bytes | None = None,
    *,
    failure: str | None = None,
    **more: str,
) -> bytes:
    return body(parts(device, job, due, content, failure=failure, **more))
