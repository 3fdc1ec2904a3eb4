"""An HTTP client that costs next to nothing, so that what is measured is the other side."""

import asyncio
import json
from contextlib import AbstractAsyncContextManager
from typing import Any, Self
from urllib.parse import urlsplit


class LeanClient(AbstractAsyncContextManager["LeanClient"]):
    """Calls one server over connections that it keeps; as many as there are calls at once."""

    def __init__(self, url: str) -> None:
        """Nothing is connected yet."""
        parts = urlsplit(url)
        self._host, self._port = parts.hostname or "", parts.port or 80
        self._idle: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *error: object) -> None:
        for _, writer in self._idle:
            writer.close()

    async def call(self, method: str, path: str, body: Any = None) -> tuple[int, bytes]:
        """The status and the body of the answer, which must say how long it is."""
        data = b"" if body is None else json.dumps(body).encode()
        head = f"{method} {path} HTTP/1.1\r\nHost: {self._host}:{self._port}\r\n"
        if data:
            head += f"Content-Type: application/json\r\nContent-Length: {len(data)}\r\n"
        if not self._idle:
            self._idle.append(await asyncio.open_connection(self._host, self._port))
        reader, writer = self._idle.pop()
        writer.write(head.encode() + b"\r\n" + data)
        answer = (await reader.readuntil(b"\r\n\r\n")).lower()
        length = answer.partition(b"content-length:")[2].partition(b"\r\n")[0]
        said = await reader.readexactly(int(length))
        self._idle.append((reader, writer))
        return int(answer[9:12]), said
