"""The request log: which requests, how much of them, and never what must not leave."""

import json
from datetime import UTC, datetime

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ergonaut.events import RequestsLogged
from ergonaut_common.clock import FakeClock
from ergonaut_gateway.domain.inference import InferenceRequest
from ergonaut_gateway.domain.models import ModelRecord, Signature
from ergonaut_gateway.domain.request_log import Redaction, is_sampled, logged_tensors
from ergonaut_gateway.domain.tensors import object_array
from ergonaut_gateway.fakes import FakeAnnouncer, FakeReferences
from ergonaut_gateway.service import request_log as request_log_module
from ergonaut_gateway.service.quality import Quality
from ergonaut_gateway.service.request_log import BATCH_BYTES_MAX, Logging

from .drawn_tensors import tensors

RECORD = ModelRecord(
    "default", "digits", 3, "sha256-00", 7, "file", Signature((), ()), datetime(2026, 1, 1, tzinfo=UTC)
)
INPUTS = {"x": np.array([[1.5, np.nan]], dtype="<f4"), "name": object_array([b"Ada"])}
OUTPUTS = {"label": np.array([7], dtype="<i8")}


class World:
    """A quality that only logs."""

    def __init__(self, logging: Logging) -> None:
        self.announcer, self.clock = FakeAnnouncer(), FakeClock()
        self.quality = Quality(self.announcer, FakeReferences(), self.clock, logging=logging)

    def answer(self, count: int = 1, inputs=INPUTS, begin: int = 0) -> None:
        for at in range(begin, begin + count):
            self.quality.answered(RECORD, InferenceRequest(f"id-{at}", inputs), OUTPUTS)

    def told(self) -> list[RequestsLogged]:
        """What was told, as a reader of the bus gets it."""
        return [RequestsLogged.model_validate_json(event.model_dump_json()) for event in self.announcer.told]


async def test_a_logged_request_has_its_id_time_and_tensors_but_no_text() -> None:
    world = World(Logging(rate=1.0))
    world.answer()
    await world.quality.check()
    (event,) = world.told()
    assert (event.model, event.version, event.rate, event.dropped) == ("digits", 3, 1.0, 0)
    (request,) = event.requests
    assert request.request_id == "id-0"
    assert request.answered_at == world.clock.now()
    assert [(each.name, each.values, each.redaction) for each in request.inputs] == [
        ("x", (1.5, None), ""),
        ("name", (), "dropped"),
    ]
    assert request.outputs[0].values == (7,)


@settings(deadline=None)
@given(tensors())
def test_any_tensor_can_be_logged_and_read_again(tensor: np.ndarray) -> None:
    (logged,) = logged_tensors("inputs", {"x": tensor}, Redaction(texts_allowed=frozenset({"*"})))
    again = type(logged).model_validate_json(logged.model_dump_json())
    assert (again.datatype, again.shape, again.values) == (logged.datatype, logged.shape, logged.values)


def test_tensors_are_dropped_hashed_or_allowed_by_name() -> None:
    redaction = Redaction(frozenset({"inputs.x"}), frozenset({"inputs.name"}), frozenset({"inputs.free"}), b"salt")
    given = {"x": INPUTS["x"], "name": INPUTS["name"], "free": object_array([b"yes"])}
    dropped, hashed, free = logged_tensors("inputs", given, redaction)
    assert (dropped.values, dropped.redaction) == ((), "dropped")
    assert hashed.redaction == "hashed"
    assert len(hashed.values[0]) == 32
    assert free.values == ("yes",)
    others = logged_tensors("inputs", given, Redaction(hashed=frozenset({"*"}), salt=b"other"))
    assert others[1].values != hashed.values


def test_large_tensors_and_texts_are_cut_and_say_so() -> None:
    given = {"x": np.zeros((1, 1_000)), "text": object_array([b"a" * 1_000])}
    x, text = logged_tensors("inputs", given, Redaction(texts_allowed=frozenset({"*"})))
    assert (len(x.values), x.redaction, x.shape) == (512, "truncated", (1, 1_000))
    assert (len(text.values[0]), text.redaction) == (256, "truncated")
    many = logged_tensors("inputs", {f"x{at}": np.zeros(500) for at in range(50)}, Redaction())
    assert len(many) == 16
    assert sum(len(each.values) for each in many) <= 1_024


@settings(deadline=None)
@given(st.text(max_size=20), st.floats(0, 1), st.floats(0, 1))
def test_a_sample_of_a_lower_rate_is_part_of_that_of_a_higher(request_id: str, one: float, other: float) -> None:
    low, high = sorted((one, other))
    assert is_sampled(request_id, high) or not is_sampled(request_id, low)


def test_the_sample_is_as_large_as_its_rate() -> None:
    sampled = sum(is_sampled(f"id-{at}", 0.1) for at in range(20_000))
    assert 1_800 <= sampled <= 2_200


async def test_rates_are_those_of_the_model() -> None:
    for logging in (Logging(rate=1.0, rates={"digits": 0.0}), Logging(rates={"other": 1.0})):
        world = World(logging)
        world.answer(10)
        await world.quality.check()
        assert world.told() == []


async def test_batches_are_bounded_in_rows() -> None:
    world = World(Logging(rate=1.0, requests_per_second=1_000))
    world.answer(250)
    await world.quality.check()
    assert [len(event.requests) for event in world.told()] == [100, 100, 50]


async def test_batches_are_bounded_in_bytes() -> None:
    world = World(Logging(rate=1.0, requests_per_second=1_000))
    wide = {f"x{at}": np.random.default_rng(1).random(512) for at in range(4)}
    world.answer(50, wide)
    await world.quality.check()
    sizes = [len(event.model_dump_json()) for event in world.told()]
    assert len(sizes) > 1
    assert max(sizes) <= BATCH_BYTES_MAX + 1_000


async def test_a_flood_is_cut_and_the_event_says_how_much_was_left_out() -> None:
    world = World(Logging(rate=1.0, requests_per_second=10))
    world.answer(25)
    await world.quality.check()
    await world.clock.advance(1)
    world.answer(1, begin=25)
    await world.quality.check()
    assert sum(len(event.requests) for event in world.told()) == 11
    assert sum(event.dropped for event in world.told()) == 15


async def test_while_nobody_can_be_told_only_so_much_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(request_log_module, "WAITING_MAX", 2)
    world = World(Logging(rate=1.0, requests_per_second=10_000))
    world.announcer.away = True
    world.answer(1_000)
    await world.quality.check()
    world.announcer.away = False
    await world.quality.check()
    world.answer(1)
    await world.quality.check()
    assert sum(len(event.requests) for event in world.told()) == 201
    assert world.told()[-1].dropped == 800


def test_an_event_is_plain_json_without_figures_that_json_lacks() -> None:
    (logged,) = logged_tensors("inputs", {"x": np.array([np.inf, -np.inf, np.nan, 0.0])}, Redaction())
    assert json.loads(logged.model_dump_json())["values"] == [None, None, None, 0.0]
