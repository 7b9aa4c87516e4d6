"""What a place for references promises, held by the fake and by the adapter on a real NATS."""

from datetime import UTC, datetime
from uuid import uuid4

import numpy as np
import pytest

from ergonaut_common.bus import open_bus
from ergonaut_common.settings import PlatformSettings
from ergonaut_gateway.adapters.references import KvReferences
from ergonaut_gateway.domain.drift.sketches import packed, reference_of
from ergonaut_gateway.domain.models import ModelRecord, Signature
from ergonaut_gateway.fakes import FakeReferences
from ergonaut_gateway.ports import References
from ergonaut_gateway.service.drifts import REFERENCE_BYTES_MAX


@pytest.fixture(params=["fake", "nats"])
async def references(request: pytest.FixtureRequest, nats_url: str):
    if request.param == "fake":
        yield FakeReferences()
        return
    async with open_bus(PlatformSettings(nats_url=nats_url), "test") as bus:
        yield KvReferences(await bus.key_value(f"references-{uuid4().hex}"))


def record(version: int) -> ModelRecord:
    return ModelRecord(
        "default", "digits", version, "sha256-00", 7, "file", Signature((), ()), datetime(2026, 1, 1, tzinfo=UTC)
    )


async def test_the_first_reference_of_a_side_of_a_version_stays(references: References) -> None:
    assert await references.get(record(1), "inputs") is None
    assert await references.keep(record(1), "inputs", b"first") == b"first"
    assert await references.keep(record(1), "inputs", b"second") == b"first"
    assert await references.get(record(1), "inputs") == b"first"
    assert await references.get(record(1), "outputs") is None
    assert await references.get(record(2), "inputs") is None


async def test_the_largest_reference_that_is_sent_can_be_kept(references: References) -> None:
    largest = bytes(REFERENCE_BYTES_MAX)
    assert await references.keep(record(1), "inputs", largest) == largest


def test_a_thousand_features_fit() -> None:
    rows = np.random.default_rng(1).normal(size=(1_000, 1_000))
    assert len(packed(reference_of(rows, np.zeros(1_000, dtype=bool)))) < REFERENCE_BYTES_MAX
