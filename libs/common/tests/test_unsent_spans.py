"""Spans that are sent to nobody still carry a trace on."""

import pytest
from opentelemetry import trace
from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags

from ergonaut_common.observe.unsent import UnsentSpans


@pytest.fixture
def tracer() -> trace.Tracer:
    return UnsentSpans().get_tracer("test")


def test_a_span_within_another_is_of_the_same_trace_and_has_a_number_of_its_own(tracer: trace.Tracer) -> None:
    with tracer.start_as_current_span("outer") as outer, tracer.start_as_current_span("inner") as inner:
        assert trace.get_current_span() is inner
        ours, theirs = inner.get_span_context(), outer.get_span_context()
    assert ours.is_valid
    assert ours.trace_id == theirs.trace_id
    assert ours.span_id != theirs.span_id
    assert ours.trace_flags.sampled, "whoever sends theirs shall send those that come of ours"


def test_two_spans_that_are_in_no_other_are_of_two_traces(tracer: trace.Tracer) -> None:
    one, two = (tracer.start_span(name).get_span_context().trace_id for name in ("one", "two"))
    assert one != two


def test_a_caller_who_wants_no_trace_kept_is_heeded(tracer: trace.Tracer) -> None:
    asked = SpanContext(1, 2, is_remote=True, trace_flags=TraceFlags(0))
    within = trace.set_span_in_context(NonRecordingSpan(asked))
    own = tracer.start_span("ours", within).get_span_context()
    assert (own.trace_id, own.trace_flags.sampled) == (1, False)


def test_an_error_passes_through(tracer: trace.Tracer) -> None:
    with pytest.raises(ValueError, match="mine"), tracer.start_as_current_span("work"):
        raise ValueError("mine")
    assert not trace.get_current_span().get_span_context().is_valid
