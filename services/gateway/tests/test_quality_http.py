"""Labels and figures over HTTP."""

import asyncio
import json
from pathlib import Path

import numpy as np
import pytest

from ergonaut_common.auth import KeyRing
from ergonaut_common.testing import key_ring_file
from ergonaut_gateway.domain.inference import InferenceRequest
from ergonaut_gateway.http import Callers, QualityDoor, Router
from ergonaut_gateway.service.quality import Quality

from .exchanges import KeptExchange
from .test_quality import World, record


class Door:
    """A router with the door, asked without a socket."""

    def __init__(self, quality: Quality, ring: Path, key: str) -> None:
        self.router, self._key = Router(), key
        QualityDoor(quality, Callers(KeyRing.load(ring))).add_to(self.router)

    async def ask(self, method: str, path: str, body: bytes = b"", key: str | None = None) -> KeptExchange:
        headers = {"authorization": f"Bearer {self._key if key is None else key}"}
        exchange = KeptExchange(f"/v2/models/{path}", method, headers=headers, body=body)
        self.router.handle(exchange)
        while not exchange.status:
            await asyncio.sleep(0)
        return exchange


@pytest.fixture
def world() -> World:
    return World()


@pytest.fixture
def quality(world: World) -> Quality:
    return world.quality()


@pytest.fixture
def keys(tmp_path: Path) -> tuple[Path, dict[str, str]]:
    return key_ring_file(tmp_path, ("default", "other"))


@pytest.fixture
def door(quality: Quality, keys: tuple[Path, dict[str, str]]) -> Door:
    return Door(quality, keys[0], keys[1]["default"])


def body(**labels: object) -> bytes:
    return json.dumps({"labels": labels}).encode()


def predict(world: World, quality: Quality, request_id: str) -> int:
    inputs, outputs = world.batch(1)
    quality.answered(record(), InferenceRequest(request_id, inputs), outputs)
    return int(outputs["label"][0])


async def test_labels_are_joined_and_counted_and_again_is_harmless(world: World, quality: Quality, door: Door) -> None:
    labels = body(one=predict(world, quality, "one"), two=1 - predict(world, quality, "two"), three=1)
    first = await door.ask("POST", "digits/labels", labels)
    assert (first.status, first.document) == (200, {"scored": 2, "repeated": 0, "unknown": 1, "unfit": 0})
    assert (await door.ask("POST", "digits/labels", labels)).document["repeated"] == 2
    told = (await door.ask("GET", "digits/quality")).document
    assert told["versions"]["1"]["scores"]["accuracy"]["value"] == 0.5


async def test_drift_is_shown_by_version_and_side(world: World, quality: Quality, door: Door) -> None:
    await world.send(quality, 2_000)
    await world.send(quality, 1_000, shift=3.0)
    inputs, outputs = (await door.ask("GET", "digits/quality")).document["versions"]["1"]["drift"]
    assert (inputs["side"], inputs["is_drifting"], outputs["is_drifting"]) == ("inputs", True, False)
    assert inputs["distances"]["ks"] > 0.5


@pytest.mark.parametrize(
    ("sent", "word"),
    [
        (b"", "JSON"),
        (b"[]", "object"),
        (b'{"labels": {"a": null}}', "labels"),
        (b'{"labels": {"a": [1]}}', "labels"),
        (b'{"other": {}}', "unknown field"),
        (b'{"labels": {"a": "%s"}}' % (b"a" * 4_200_000), "larger than"),
        (b'{"labels": {"a": 1%s}}' % (b"0" * 400), "labels"),
        (json.dumps({"labels": {str(at): 1 for at in range(10_001)}}).encode(), "length"),
    ],
)
async def test_labels_that_are_none_are_refused_with_the_place(
    world: World, quality: Quality, door: Door, sent: bytes, word: str
) -> None:
    predict(world, quality, "a")
    refused = await door.ask("POST", "digits/labels", sent)
    assert refused.status == 400
    assert word in refused.document["error"]


async def test_others_and_strangers_see_nothing(world: World, quality: Quality, door: Door, keys) -> None:
    predict(world, quality, "a")
    other = keys[1]["other"]
    assert (await door.ask("POST", "digits/labels", body(a=1), key=other)).status == 404
    assert (await door.ask("GET", "digits/quality", key=other)).status == 404
    assert (await door.ask("POST", "digits/labels", body(a=1), key="nobody")).status == 401
    assert (await door.ask("GET", "digits/quality", key="nobody")).status == 401


async def test_numbers_may_be_labels(world: World, quality: Quality, door: Door) -> None:
    quality.answered(record(), InferenceRequest("a", world.batch(1)[0]), {"y": np.array([[2.5]])})
    assert (await door.ask("POST", "digits/labels", body(a=3))).document["scored"] == 1
    told = (await door.ask("GET", "digits/quality")).document
    assert told["versions"]["1"]["scores"]["mae"]["value"] == 0.5
