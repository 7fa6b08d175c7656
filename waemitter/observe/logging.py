"""One JSON object a line, or colours on a terminal; the libraries' own logs take the same road.

A line after a quiet moment leaves at the end of the event loop's turn, or at once where no loop runs; those that follow
gather for a blink, so that a busy daemon does not pay a system call for each. What still waits when the interpreter ends is
written then; only a kill -9 loses it.
A stream that cannot be written to costs its lines, never a message.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import sys
from datetime import UTC, datetime
from typing import Final, TextIO, cast

import orjson
import structlog
from structlog.typing import EventDict, FilteringBoundLogger, Processor, WrappedLogger
from typing_extensions import override

from waemitter.errors import UsageError
from waemitter.observe.redaction import redact

LIBRARY_EVENT: Final = "LIBRARY_LOGGED"
"""The event of a line that a library wrote; `logger` names it, `msg` is what it said."""

CHATTY: Final = ("httpx", "httpx2")
"""Libraries that write a line for each request, of what our own lines tell already."""

LEVELS: Final = ("debug", "info", "warning", "error", "critical")


def configure(
    *,
    level: str,
    format: str = "auto",  # noqa: A002  the setting's own name
    stream: TextIO | None = None,
) -> FilteringBoundLogger:
    """Set up structlog and the standard library's root logger; return the logger for `Events`.

    `format` is `json`, `console`, or `auto`: console when `stream` (by default stderr) is a
    terminal, else JSON. May be called again. Raises UsageError for an unknown level or format.
    """
    if level.lower() not in LEVELS:
        raise UsageError(f"logging level {level!r}: use one of {', '.join(LEVELS)}")
    if format not in {"auto", "json", "console"}:
        raise UsageError(f"logging format {format!r}: use one of auto, json, console")
    out = sys.stderr if stream is None else stream
    console = format == "console" or (format == "auto" and out.isatty())
    threshold = logging.getLevelNamesMapping()[level.upper()]
    lines = _Lines(out)
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            _arrange,
            _console_renderer(out) if console else _render,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(threshold),
        logger_factory=lambda *_: lines,
        cache_logger_on_first_use=False,
    )
    logger = cast("FilteringBoundLogger", structlog.get_logger().bind())
    _adopt_libraries(logger, threshold)
    return logger


def _arrange(logger: WrappedLogger, level: str, fields: EventDict) -> EventDict:
    """Put the fixed keys first, leave out what is None, and mask the rest."""
    event = fields.pop("event", None)
    if "exc_info" in fields:
        fields = structlog.processors.format_exc_info(logger, level, fields)
    return {"timestamp": datetime.now(UTC), "level": level, "event": event, **redact(fields)}


def _render(_logger: WrappedLogger, _level: str, line: EventDict) -> bytes:
    try:
        return orjson.dumps(line, option=orjson.OPT_UTC_Z | orjson.OPT_APPEND_NEWLINE)
    except TypeError:
        # orjson refuses lone surrogates and integers past 64 bits; escaped, they do no harm.
        return json.dumps(line, default=datetime.isoformat).encode() + b"\n"


def _console_renderer(out: TextIO) -> Processor:
    # On a terminal the sentence is the headline and the event one of its facts.
    renderer = structlog.dev.ConsoleRenderer(
        colors=out.isatty(), event_key="msg", pad_event_to=48, sort_keys=False
    )

    def render(logger: WrappedLogger, level: str, line: EventDict) -> bytes:
        line["timestamp"] = f"{line['timestamp'].astimezone():%H:%M:%S}"
        return renderer(logger, level, line).encode(errors="backslashreplace") + b"\n"

    return render


GATHER: Final = 0.02
"""Seconds between two writes under load."""


class _Lines:
    """Where structlog's lines go. A full disk or a closed pipe loses them, and nothing else."""

    __slots__ = ("_flush", "_flush_is_due", "_leaves_at", "_write")

    def __init__(self, out: TextIO) -> None:
        self._write = out.buffer.write
        self._flush = out.buffer.flush
        self._flush_is_due = False
        self._leaves_at = float("-inf")

    def write(self, line: bytes) -> None:
        try:
            self._write(line)
        except (OSError, ValueError):  # ValueError: the stream was closed
            return
        if not self._flush_is_due:
            try:
                loop = asyncio.get_running_loop()
                self._leaves_at = max(self._leaves_at + GATHER, loop.time())
                loop.call_at(self._leaves_at, self.flush)
            except RuntimeError:  # no loop runs, or it is closed
                self.flush()
            else:
                self._flush_is_due = True

    def flush(self) -> None:
        self._flush_is_due = False
        with contextlib.suppress(OSError, ValueError):
            self._flush()

    debug = info = warning = error = critical = write


class _Adopted(logging.Handler):
    """Hands a library's record to our own logger, so that it is arranged and masked as ours are."""

    def __init__(self, logger: FilteringBoundLogger) -> None:
        super().__init__()
        self._logger = logger

    @override
    def emit(self, record: logging.LogRecord) -> None:
        # structlog knows the five round levels; libraries have been seen to use others.
        level = min(max(record.levelno // 10 * 10, logging.DEBUG), logging.CRITICAL)
        try:
            self._logger.log(
                level,
                LIBRARY_EVENT,
                logger=record.name,
                exc_info=record.exc_info,
                msg=record.getMessage(),
            )
        except Exception:  # noqa: BLE001  a library's broken format string is not our crash
            self.handleError(record)


def _adopt_libraries(logger: FilteringBoundLogger, threshold: int) -> None:
    root = logging.getLogger()
    for handler in [handler for handler in root.handlers if isinstance(handler, _Adopted)]:
        root.removeHandler(handler)
    root.addHandler(_Adopted(logger))
    root.setLevel(threshold)
    for chatty in CHATTY:
        logging.getLogger(chatty).setLevel(max(threshold, logging.WARNING))
