"""Spans of what became of a traced request: its wait, the run that it was part of, and the model's computing in it.

They are made when the run is over, from times that are kept anyway, and only for requests of which a trace is told on; a run that
several such requests shared is one span with a link to each.
"""

import time
from typing import Any

from ergonaut_common.observe import past_span
from ergonaut_gateway.service.lanes import Batch, Ticket


def trace_run(ticket: Ticket, batch: Batch, key: tuple[str, str, int], now_seconds: float) -> None:
    """Tell of a traced request's wait, and of its run unless another request of it has done so."""
    # The wall clock as it stands to the one by which everything here is timed.
    offset_ns = time.time_ns() - int(now_seconds * 1e9)
    began_ns = offset_ns + int(ticket.began_seconds * 1e9)
    started_ns = offset_ns + int(batch.started_seconds * 1e9)
    request = ticket.request
    assert request is not None, "it is answered now"
    assert request.meter is not None, "it is traced"
    trace: Any = request.meter.trace
    past_span("wait", (began_ns, started_ns), under=trace)
    if not batch.is_traced:
        batch.is_traced = True
        _trace_batch(batch, key, started_ns)


def _trace_batch(batch: Batch, key: tuple[str, str, int], started_ns: int) -> None:
    requests = [ticket.request for ticket in batch.tickets]
    linked: list[Any] = [
        request.meter.trace
        for request in requests
        if request is not None and request.meter is not None and request.meter.trace is not None
    ]
    count = len(requests)
    about: dict[str, str | int | float] = {
        "tenant": key[0],
        "model": key[1],
        "version": key[2],
        "requests": count,
        "rows": batch.rows,
    }
    ended_ns = started_ns + int(batch.seconds * 1e9)
    # A run of one request is part of its trace; one of several has a trace of its own.
    alone = linked[0] if count == 1 else None
    run = past_span("run", (started_ns, ended_ns), under=alone, linked=() if alone else linked, attributes=about)
    input_ns, output_ns = int(batch.input_seconds * 1e9), int(batch.output_seconds * 1e9)
    past_span("compute", (started_ns + input_ns, ended_ns - output_ns), under=run)
