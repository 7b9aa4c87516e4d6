"""A sample of the answered requests, written down in batches and told as events."""

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from ergonaut.events import RequestsLogged
from ergonaut.events.quality import REQUESTS_MAX, LoggedRequest
from ergonaut_common.clock import Clock
from ergonaut_gateway.domain.drift.features import TEXTS_MAX
from ergonaut_gateway.domain.inference import InferenceRequest
from ergonaut_gateway.domain.models import ModelRecord
from ergonaut_gateway.domain.request_log import Redaction, is_sampled, logged_tensors
from ergonaut_gateway.domain.tensors import Tensor

BATCH_BYTES_MAX = 256 * 1024
"""Of one event; a quarter of what NATS takes."""

WAITING_MAX = 200
"""Batches that wait to be told, of all models: at most 50 MiB. Beyond it requests are dropped; the next event says how many."""


@dataclass(frozen=True, slots=True)
class Logging:
    """How much is written down; a rate of 0 is nothing."""

    rate: float = 0.0
    rates: Mapping[str, float] = field(default_factory=dict)
    """By the name of the model, where it is another."""
    requests_per_second: int = 100
    """The most of one version, whatever the rate, so that a flood costs no more than this."""
    redaction: Redaction = field(default_factory=Redaction)

    @property
    def is_on(self) -> bool:
        """Whether anything is."""
        return self.rate > 0 or any(rate > 0 for rate in self.rates.values())


@dataclass(slots=True)
class _Batch:
    """What a version's next event holds."""

    record: ModelRecord
    rate: float
    requests: list[LoggedRequest] = field(default_factory=list)
    size_bytes: int = 0
    dropped: int = 0
    second: int = 0
    in_second: int = 0


class RequestLog:
    """Samples requests; `batches` gives what is to be told."""

    def __init__(self, logging: Logging, clock: Clock) -> None:
        self._logging = logging
        self._clock = clock
        self._open: dict[tuple[str, str, int], _Batch] = {}
        self._full: deque[RequestsLogged] = deque()

    def answered(
        self,
        record: ModelRecord,
        request: InferenceRequest,
        outputs: Mapping[str, Tensor],
        seconds: float | None = None,
    ) -> None:
        """Write a request down if it belongs to the sample; `seconds` is how long its answer took."""
        request_id, inputs = request.id, request.inputs
        rate = self._logging.rates.get(record.name, self._logging.rate)
        if rate <= 0.0 or not is_sampled(request_id or _content(inputs), rate):
            return
        batch = self._batch(record, rate)
        if self._is_too_much(batch):
            batch.dropped += 1
            return
        redaction = self._logging.redaction
        logged = LoggedRequest.model_construct(
            request_id=request_id,
            answered_at=self._clock.now(),
            latency_ms=None if seconds is None else seconds * 1000,
            inputs=logged_tensors("inputs", inputs, redaction),
            outputs=logged_tensors("outputs", outputs, redaction),
        )
        size_bytes = len(logged.model_dump_json())
        if batch.requests and batch.size_bytes + size_bytes > BATCH_BYTES_MAX:
            self._close(batch)
        batch.requests.append(logged)
        batch.size_bytes += size_bytes
        if len(batch.requests) >= REQUESTS_MAX:
            self._close(batch)

    def batches(self) -> deque[RequestsLogged]:
        """All that waits to be told, the oldest first; the caller takes out what it told."""
        for batch in self._open.values():
            self._close(batch)
        self._open = {key: batch for key, batch in self._open.items() if batch.dropped}
        return self._full

    def _batch(self, record: ModelRecord, rate: float) -> _Batch:
        key = (record.tenant, record.name, record.version)
        if key not in self._open:
            self._open[key] = _Batch(record, rate)
        return self._open[key]

    def _is_too_much(self, batch: _Batch) -> bool:
        second = int(self._clock.monotonic())
        if second != batch.second:
            batch.second, batch.in_second = second, 0
        batch.in_second += 1
        return batch.in_second > self._logging.requests_per_second or len(self._full) >= WAITING_MAX

    def _close(self, batch: _Batch) -> None:
        if not batch.requests:
            return
        record = batch.record
        self._full.append(
            RequestsLogged(
                tenant=record.tenant,
                model=record.name,
                version=record.version,
                occurred_at=self._clock.now(),
                rate=batch.rate,
                requests=tuple(batch.requests),
                dropped=batch.dropped,
            )
        )
        batch.requests, batch.size_bytes, batch.dropped = [], 0, 0


def _content(inputs: Mapping[str, Tensor]) -> str:
    """What stands for the id of a request without one: the beginning of its first tensor, so that equal ones fare alike."""
    for tensor in inputs.values():
        first = tensor.ravel()[:TEXTS_MAX]
        return repr(first.tolist()) if first.dtype == np.object_ else first.tobytes().hex()
    return ""
