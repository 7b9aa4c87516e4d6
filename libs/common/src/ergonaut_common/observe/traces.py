"""Spans that cross NATS and gRPC: the W3C `traceparent` travels in message headers and call metadata."""

import contextlib
from collections.abc import Callable, Iterator, Mapping

from opentelemetry import context, propagate, trace
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor

_tracer = trace.get_tracer("ergonaut")

SpanEnd = Callable[[BaseException | None], None]
"""Ends a span, told what went wrong in it."""

_sent = False
"""Whether this process sends its spans to anybody."""


def start_tracing(service: str, otlp_endpoint: str) -> None:
    """Make spans in this process; send them to a collector where one is named."""
    provider = TracerProvider(resource=Resource.create({"service.name": f"ergonaut-{service}"}))
    if otlp_endpoint:
        # The exporter takes long to import; a process that sends no spans shall not wait for it.
        from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter

        provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(endpoint=otlp_endpoint)))
    global _sent  # noqa: PLW0603 - as global as the provider itself
    _sent = bool(otlp_endpoint)
    trace.set_tracer_provider(provider)


def trace_headers() -> dict[str, str]:
    """What to send along so that the receiver's spans join ours."""
    headers: dict[str, str] = {}
    propagate.inject(headers)
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


def opened_span(name: str, headers: Mapping[str, str], **attributes: str | int | float) -> SpanEnd | None:
    """A span for work that ends in a callback; it joins the trace that the headers tell of. None where spans are sent to
    nobody and no trace is told of, which spares a service that answers very many requests the cost."""
    if not _sent and "traceparent" not in headers:
        return None
    parent = propagate.extract(dict(headers))
    opened = _tracer.start_span(name, context=parent, attributes=attributes)

    def end(error: BaseException | None) -> None:
        if error is not None:
            opened.record_exception(error)
            opened.set_status(trace.StatusCode.ERROR, str(error))
        opened.end()

    return end
