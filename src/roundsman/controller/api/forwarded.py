"""Where a call came from, when a proxy stands in front."""

from typing import Final

from litestar.enums import ScopeType
from litestar.types import ASGIApp, Receive, Scope, Send

_FOR: Final = b"x-forwarded-for"
_PROTO: Final = b"x-forwarded-proto"


class BehindProxy:
    """Wraps the application: whoever reaches it is the proxy, which says for whom it speaks.

    Of `X-Forwarded-For` only the last address counts: the proxy added it. Those before it came
    from the client, who may claim anything.
    """

    def __init__(self, app: ASGIApp) -> None:
        """Serve this application."""
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one call as the client's own."""
        headers = dict(scope["headers"])  # of a name given twice the last, as with addresses
        if address := _last(headers.get(_FOR, b"")):
            scope["client"] = (address, 0)
        scheme = headers.get(_PROTO, b"").decode("latin-1").strip()
        if scheme in ("http", "https"):
            is_socket = scope["type"] == ScopeType.WEBSOCKET
            scope["scheme"] = scheme.replace("http", "ws") if is_socket else scheme
        await self._app(scope, receive, send)


def _last(addresses: bytes) -> str:
    """The last of a list of addresses, without a port.

    >>> _last(b"203.0.113.9, 192.0.2.1"), _last(b"[2001:db8::1]:443"), _last(b"")
    ('192.0.2.1', '2001:db8::1', '')
    """
    text = addresses.decode("latin-1").rpartition(",")[2].strip()
    if text.startswith("["):
        return text[1:].partition("]")[0]
    return text.partition(":")[0] if text.count(":") == 1 else text
