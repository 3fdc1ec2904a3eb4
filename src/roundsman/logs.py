"""Structured logs: one event name each, masked, on standard error.

The library is loaded with the first event: a program of maintenance that has nothing to say starts
in a quarter of the time without it.
"""

import logging
import sys
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any, TextIO, TypeAlias, cast

from roundsman.secret import MASK, Secret

if TYPE_CHECKING:
    import structlog

Logger: TypeAlias = "structlog.stdlib.BoundLogger"
Listener: TypeAlias = Callable[..., None]
"""Is told an event's logger, level and name, and its values by keyword."""

_SECRET_KEYS = frozenset(
    {"pass", "password", "passphrase", "token", "authorization", "private_key"}
)


def _mask(_: Any, __: str, event: "structlog.typing.EventDict") -> "structlog.typing.EventDict":
    """Replace secrets, and whatever is kept under a name that promises one."""
    for key, value in event.items():
        if isinstance(value, Secret) or key.lower() in _SECRET_KEYS:
            event[key] = MASK
    return event


def configure(*, level: str = "info", json: bool = False, stream: TextIO | None = None) -> None:
    """Set up logging for the whole process, once, at its start.

    `level` is one of debug, info, warning, error. With `json` each event is one JSON object on a
    line; otherwise it is written for eyes. What libraries log from warnings up joins the stream.
    """
    import structlog  # noqa: PLC0415  # see the module

    out = stream if stream is not None else sys.stderr
    number = logging.getLevelNamesMapping()[level.upper()]
    renderer: structlog.typing.Processor = (
        structlog.processors.JSONRenderer()
        if json
        else structlog.dev.ConsoleRenderer(colors=out.isatty())
    )
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        _mask,
    ]
    handler = logging.StreamHandler(out)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                structlog.processors.format_exc_info,
                renderer,
            ],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(max(number, logging.WARNING))
    logging.getLogger("roundsman").setLevel(number)
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *shared,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        wrapper_class=structlog.stdlib.BoundLogger,
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=True,
    )


class _Later:
    """A logger that is made when it is first used, or told to a listener instead."""

    listener: Listener | None = None

    def __init__(self, name: str) -> None:
        self._name = name
        self._logger: Logger | None = None

    def __getattr__(self, level: str) -> Any:
        if _Later.listener is not None:
            return partial(_Later.listener, self._name, level)
        if self._logger is None:
            import structlog  # noqa: PLC0415  # see the module

            self._logger = structlog.stdlib.get_logger(self._name)
        return getattr(self._logger, level)


def get(name: str) -> Logger:
    """The logger of a module: `log = logs.get(__name__)`, then `log.info("event.name", key=…)`."""
    return cast("Logger", _Later(name))


def tell(listener: Listener) -> None:
    """Have a listener hear all events of this process: another process writes its log."""
    _Later.listener = listener
