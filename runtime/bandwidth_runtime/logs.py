"""Logs by structlog, on stderr: text for people at a terminal, one JSON object a line for programs.

Owns the form of a line, for both programs and for the libraries that they use, and escapes text from outside, so that
it can neither control a terminal nor look like a line of its own. `log_writer` writes the lines. Results (reports,
plans, tables) go to stdout and are no logs.
"""

from __future__ import annotations

import atexit
import datetime
import io
import json
import logging
import sys
from typing import Any, TextIO

import structlog

from bandwidth_runtime import printable
from bandwidth_runtime.log_writer import LogWriter

LEVELS = {
    "debug": logging.DEBUG,
    "info": logging.INFO,
    "warning": logging.WARNING,
    "error": logging.ERROR,
    "critical": logging.CRITICAL,
}


def configure(form: str, level: str, stream: TextIO | None = None, *, message_key: str = "message") -> None:
    """Set the form ("auto", "text" or "json") and the lowest level of the log.

    `message_key` is the key of the message in a JSON line. Lines go through a queue to stderr; with a `stream` they
    are written to it directly, in the thread that logs.
    """
    terminal = (sys.stderr if stream is None else stream).isatty()
    as_text = form == "text" or (form == "auto" and terminal)
    target: Any = stream if stream is not None else _writer(as_text, message_key) or sys.stderr
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            *(_text(colors=terminal) if as_text else _json(message_key)),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(LEVELS[level]),
        logger_factory=structlog.WriteLoggerFactory(file=target),
        cache_logger_on_first_use=False,
    )
    # Lines of libraries go the same way; only warnings and worse.
    handler = logging.StreamHandler(target)
    handler.setFormatter(_OfLibraries(as_text, message_key))
    logging.basicConfig(handlers=[handler], level=max(logging.WARNING, LEVELS[level]), force=True)


def _writer(as_text: bool, message_key: str) -> LogWriter | None:
    """The way to stderr; None where that is no descriptor."""

    def lost(count: int, why: str) -> str:
        message = f"{count} lines of the log were lost: {why}"
        if as_text:
            return f"{_now():%H:%M:%S} [warning] {message}"
        return json.dumps({"level": "warning", "timestamp": _timestamp(), message_key: message, "lost": count})

    try:
        writer = LogWriter(sys.stderr.fileno(), lost)
    except io.UnsupportedOperation:
        return None
    atexit.register(writer.close)
    return writer


def _text(*, colors: bool) -> list[structlog.types.Processor]:
    def plain(stream: TextIO, exc_info: structlog.types.ExcInfo) -> None:
        written = io.StringIO()
        structlog.dev.plain_traceback(written, exc_info)
        stream.write(printable.lines(written.getvalue()))

    return [
        _escaped,
        structlog.processors.TimeStamper(fmt="%H:%M:%S", utc=False),
        structlog.dev.ConsoleRenderer(colors=colors, pad_event_to=0, pad_level=False, exception_formatter=plain),
    ]


def _json(message_key: str) -> list[structlog.types.Processor]:
    return [
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.EventRenamer(message_key),
        structlog.processors.format_exc_info,
        structlog.processors.JSONRenderer(),  # in ASCII: nothing in it can steer a terminal
    ]


def _escaped(
    _logger: structlog.types.WrappedLogger, _method: str, event: structlog.types.EventDict
) -> structlog.types.EventDict:
    return {key: printable.line(value) if isinstance(value, str) else value for key, value in event.items()}


class _OfLibraries(logging.Formatter):
    def __init__(self, as_text: bool, message_key: str) -> None:
        super().__init__("%(levelname)s %(name)s: %(message)s")
        self._as_text = as_text
        self._message_key = message_key

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - logging's name
        record.message = printable.line(record.message)
        return super().formatMessage(record)

    def format(self, record: logging.LogRecord) -> str:
        if self._as_text:
            return printable.lines(super().format(record))
        line = {
            "logger": record.name,
            "level": record.levelname.lower(),
            "timestamp": _timestamp(),
            self._message_key: record.getMessage(),
        }
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line)


def _now() -> datetime.datetime:
    return datetime.datetime.now(datetime.UTC).astimezone()


def _timestamp() -> str:
    return datetime.datetime.now(datetime.UTC).isoformat().replace("+00:00", "Z")
