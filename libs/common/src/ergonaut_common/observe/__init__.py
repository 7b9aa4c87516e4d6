"""What a service tells about itself: log lines, spans, metrics."""

from ergonaut_common.observe.logs import get_logger, start_logging
from ergonaut_common.observe.metrics import serving_metrics
from ergonaut_common.observe.traces import (
    OpenedSpan,
    SpanContext,
    SpanEnd,
    carried_context,
    current_context,
    headers_under,
    opened_span,
    past_span,
    span,
    start_tracing,
    trace_headers,
)

__all__ = [
    "OpenedSpan",
    "SpanContext",
    "SpanEnd",
    "carried_context",
    "current_context",
    "get_logger",
    "headers_under",
    "opened_span",
    "past_span",
    "serving_metrics",
    "span",
    "start_logging",
    "start_tracing",
    "trace_headers",
]
