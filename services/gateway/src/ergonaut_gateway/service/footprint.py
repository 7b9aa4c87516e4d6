"""What one request used, told in its answer where somebody asked for that. Used by all doors; it costs others nothing."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import msgspec

from ergonaut_common.observe import SpanContext
from ergonaut_gateway.domain.energy import Meter
from ergonaut_gateway.domain.inference import InferenceRequest
from ergonaut_gateway.service.energy import Energy

ASKING = "x-ergonaut-energy"
"""The header, or gRPC metadata, that asks as the parameter `energy` does."""

YES = ("1", "true")

Footprint = Callable[[], Mapping[str, Any]]
"""Gives what was used, once the answer is there."""


def metered(request: InferenceRequest, energy: Energy) -> tuple[InferenceRequest, Footprint]:
    """A request that counts what it uses, and what tells that."""
    meter = Meter()
    return msgspec.structs.replace(request, meter=meter), partial(energy.footprint, meter)


def traced(request: InferenceRequest, trace: SpanContext) -> InferenceRequest:
    """A request whose wait and run are told as spans under one of its own."""
    if request.meter is not None:
        request.meter.trace = trace
        return request
    return msgspec.structs.replace(request, meter=Meter(trace))


def headers_of(told: Mapping[str, Any]) -> tuple[tuple[str, str], ...]:
    """The same as headers of an answer: joules, the range that they lie in, and how they came to be."""
    method = ((f"{ASKING}-method", str(told["energy_method"])),)
    if "energy_joules" not in told:
        return method
    joules = ((f"{ASKING}-joules", f"{told['energy_joules']:.6g}"),)
    if "energy_joules_low" not in told:
        return (*joules, *method)
    limits = f"{told['energy_joules_low']:.6g}-{told['energy_joules_high']:.6g}"
    return (*joules, (f"{ASKING}-range", limits), *method)
