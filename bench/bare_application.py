"""An application that reads completions as the controller does, and keeps none of them.

Run as `python -m bench.bare_application`; prints its URL.
"""

import asyncio
import json
import socket
from typing import Any

import uvicorn
from multipart import PushMultipartParser, parse_options_header

_LEASED = [
    {"device": {"name": f"device-{n:06}"}, "job": {"name": "job-0"}, "timestamp": 1_700_000_000}
    for n in range(500)
]
_LEASES = json.dumps(_LEASED).encode()


async def application(scope: Any, receive: Any, send: Any) -> None:
    """Answer one call."""
    body = _LEASES
    if scope["method"] == "POST":
        body = b'{"run_id":"0"}'
        await _read(dict(scope["headers"])[b"content-type"].decode(), receive)
    headers = [
        (b"content-type", b"application/json"),
        (b"content-length", b"%d" % len(body)),
    ]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})


async def _read(content_type: str, receive: Any) -> None:
    _, options = parse_options_header(content_type)
    parser = PushMultipartParser(options["boundary"])
    more = True
    while more:
        message = await receive()
        for _ in parser.parse(message["body"]) if message["body"] else ():
            pass
        more = message["more_body"]
    parser.close()


async def main() -> None:
    """Serve until told to stop."""
    with socket.create_server(("127.0.0.1", 0)) as bound:
        bound.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        print(f"http://127.0.0.1:{bound.getsockname()[1]}", flush=True)
        config = uvicorn.Config(
            application, http="httptools", loop="asyncio", lifespan="off", log_config=None
        )
        await uvicorn.Server(config).serve(sockets=[bound])


if __name__ == "__main__":
    asyncio.run(main())
