"""Structured logs: one event name each, masked, on standard error."""

import logging
import sys
from typing import Any, TextIO

import structlog

from roundsman.secret import MASK, Secret

Logger = structlog.stdlib.BoundLogger

_SECRET_KEYS = frozenset(
    {"pass", "password", "passphrase", "token", "authorization", "private_key"}
)


def _mask(_: Any, __: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
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


def get(name: str) -> Logger:
    """The logger of a module: `log = logs.get(__name__)`, then `log.info("event.name", key=…)`."""
    return structlog.stdlib.get_logger(name)
