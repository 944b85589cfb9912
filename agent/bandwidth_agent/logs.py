"""Logs by structlog, on stderr: text for people at a terminal, one JSON object a line for programs.

Owns the form of a line. What is logged is the caller's business; results (reports, plans, tables) go to stdout and are
no logs.
"""

from __future__ import annotations

import logging
import sys
from typing import TextIO

import structlog

LEVELS = {"debug": logging.DEBUG, "info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR}


def configure(form: str, level: str, stream: TextIO | None = None) -> None:
    """Set the form ("auto", "text" or "json") and the lowest level of what is logged from now on."""
    target = sys.stderr if stream is None else stream
    as_text = form == "text" or (form == "auto" and target.isatty())
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True) if not as_text else _clock_time(),
            structlog.processors.EventRenamer("message") if not as_text else _as_it_is,
            *_renderers(as_text, colors=target.isatty()),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(LEVELS[level]),
        logger_factory=structlog.WriteLoggerFactory(file=target),
        cache_logger_on_first_use=False,
    )
    # What libraries say goes the same way; only warnings and worse.
    logging.basicConfig(stream=target, level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s", force=True)


def _clock_time() -> structlog.types.Processor:
    return structlog.processors.TimeStamper(fmt="%H:%M:%S", utc=False)


def _as_it_is(
    _logger: structlog.types.WrappedLogger, _method: str, event: structlog.types.EventDict
) -> structlog.types.EventDict:
    return event


def _renderers(as_text: bool, *, colors: bool) -> list[structlog.types.Processor]:
    if as_text:
        plain = structlog.dev.plain_traceback
        return [
            structlog.dev.ConsoleRenderer(colors=colors, pad_event_to=0, pad_level=False, exception_formatter=plain)
        ]
    return [structlog.processors.format_exc_info, structlog.processors.JSONRenderer()]
