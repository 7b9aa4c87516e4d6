"""Spans that cross NATS and gRPC: the W3C `traceparent` travels in message headers and call metadata."""

import contextlib
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence

from opentelemetry import context, propagate, trace

from ergonaut_common.observe.unsent import UnsentSpans

SpanContext = trace.SpanContext
_tracer = trace.get_tracer("ergonaut")

for _noisy in ("opentelemetry.trace.propagation.tracecontext", "opentelemetry.baggage.propagation"):
    # What they warn of is in the hands of callers, who could fill a log with it.
    logging.getLogger(_noisy).setLevel(logging.ERROR)

SpanEnd = Callable[[BaseException | None], None]
"""Ends a span, told what went wrong in it."""

_sent = False
"""Whether this process sends its spans to anybody."""


def start_tracing(service: str, otlp_endpoint: str) -> None:
    """Make spans in this process; send them to a collector where one is named."""
    global _sent  # noqa: PLW0603 - as global as the provider itself
    _sent = bool(otlp_endpoint)
    trace.set_tracer_provider(_sending(service, otlp_endpoint) if _sent else UnsentSpans())


def _sending(service: str, otlp_endpoint: str) -> trace.TracerProvider:
    # Loaded here, since a process that sends no spans shall not wait for what sends them.
    from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    provider = TracerProvider(resource=Resource.create({"service.name": f"ergonaut-{service}"}))
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(endpoint=otlp_endpoint)))
    return provider


def trace_headers() -> dict[str, str]:
    """What to send along so that the receiver's spans join ours."""
    headers: dict[str, str] = {}
    propagate.inject(headers)
    return headers


def headers_under(span_context: trace.SpanContext) -> dict[str, str]:
    """The same for work that belongs to another span than the one at hand."""
    headers: dict[str, str] = {}
    propagate.inject(headers, trace.set_span_in_context(trace.NonRecordingSpan(span_context), context.Context()))
    return headers


@contextlib.contextmanager
def carried_context(headers: Mapping[str, str]) -> Iterator[None]:
    """Within the block, spans join the trace that the headers tell of."""
    token = context.attach(propagate.extract(dict(headers)))
    try:
        yield
    finally:
        context.detach(token)


@contextlib.contextmanager
def span(name: str, **attributes: str | int | float) -> Iterator[None]:
    """One piece of work, timed; failures are marked in it."""
    with _tracer.start_as_current_span(name, attributes=attributes):
        yield


class OpenedSpan:
    """A span for work that ends in a callback; called at its end, told what went wrong."""

    __slots__ = ("_span", "context")

    def __init__(self, opened: trace.Span) -> None:
        self._span = opened
        context = opened.get_span_context()
        self.context: trace.SpanContext | None = context if _sent and context.trace_flags.sampled else None
        """What further spans of the work may be put under; None where nobody would get them."""

    def __call__(self, error: BaseException | None) -> None:
        if error is not None:
            self._span.record_exception(error)
            self._span.set_status(trace.StatusCode.ERROR, str(error))
        self._span.end()


def opened_span(name: str, headers: Mapping[str, str], **attributes: str | int | float) -> OpenedSpan | None:
    """A span for work that ends in a callback; it joins the trace that the headers tell of. None where spans are sent to
    nobody and no trace is told of, which spares a service that answers very many requests the cost."""
    if not _sent and "traceparent" not in headers:
        return None
    parent = propagate.extract(dict(headers))
    return OpenedSpan(_tracer.start_span(name, context=parent, attributes=attributes))


def current_context() -> trace.SpanContext | None:
    """What further spans of the work at hand may be put under; None where nobody would get them."""
    if not _sent:
        return None
    here = trace.get_current_span().get_span_context()
    return here if here.is_valid and here.trace_flags.sampled else None


def past_span(
    name: str,
    times_ns: tuple[int, int],
    *,
    under: trace.SpanContext | None = None,
    linked: Sequence[trace.SpanContext] = (),
    attributes: Mapping[str, str | int | float] | None = None,
) -> trace.SpanContext:
    """A span for work that is over, by its beginning and end in Unix nanoseconds: under one span, or linked to several."""
    around = trace.set_span_in_context(trace.NonRecordingSpan(under)) if under is not None else context.Context()
    links = [trace.Link(each) for each in linked]
    past = _tracer.start_span(name, around, attributes=attributes, links=links, start_time=times_ns[0])
    past.end(times_ns[1])
    return past.get_span_context()
