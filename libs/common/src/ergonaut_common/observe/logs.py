"""Logs as JSON lines on stderr, one an event of note, ids as fields. Never a secret, a prompt or a whole payload."""

import logging
import sys
from typing import Any

import structlog
from opentelemetry import trace
from structlog.typing import EventDict, FilteringBoundLogger, WrappedLogger


def get_logger(name: str) -> FilteringBoundLogger:
    """A logger: `log.info("run started", run_id=...)`."""
    logger: FilteringBoundLogger = structlog.get_logger(module=name)
    return logger


def start_logging(service: str, level: str) -> None:
    """Send this process's logs, and those of its libraries from WARNING up, to stderr as JSON lines."""
    structlog.contextvars.bind_contextvars(service=service)
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            _add_trace,
            structlog.processors.format_exc_info,
            structlog.processors.JSONRenderer(),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelNamesMapping()[level.upper()]),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )
    logging.basicConfig(level=logging.WARNING, handlers=[_LibraryHandler()], force=True)


class _LibraryHandler(logging.Handler):
    """Turns the log records of libraries into the same JSON lines."""

    def emit(self, record: logging.LogRecord) -> None:
        error: Any = record.exc_info
        get_logger(record.name).log(record.levelno, record.getMessage(), exc_info=error)


def _add_trace(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
    context = trace.get_current_span().get_span_context()
    if context.is_valid:
        event["trace_id"] = trace.format_trace_id(context.trace_id)
    return event
