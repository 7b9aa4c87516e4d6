"""Spans that cross NATS and gRPC: the W3C `traceparent` travels in message headers and call metadata."""

import contextlib
from collections.abc import Iterator, Mapping

from opentelemetry import context, propagate, trace
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor

_tracer = trace.get_tracer("ergonaut")


def start_tracing(service: str, otlp_endpoint: str) -> None:
    """Make spans in this process; send them to a collector where one is named."""
    provider = TracerProvider(resource=Resource.create({"service.name": f"ergonaut-{service}"}))
    if otlp_endpoint:
        # The exporter takes long to import; a process that sends no spans shall not wait for it.
        from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter

        provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(endpoint=otlp_endpoint)))
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
