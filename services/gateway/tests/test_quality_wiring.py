"""Predictions and quality together: each answered request is seen once, after its answer."""

import numpy as np
import pytest

from ergonaut.errors import Refused
from ergonaut.events import RequestsLogged
from ergonaut_gateway.domain.inference import InferenceRequest
from ergonaut_gateway.fakes import FakeReferences
from ergonaut_gateway.service import Predictions
from ergonaut_gateway.service.quality import Quality
from ergonaut_gateway.service.request_log import Logging
from ergonaut_gateway.settings import Settings

from .conftest import Gateway


def request(at: int, *outputs: str) -> InferenceRequest:
    return InferenceRequest(f"id-{at}", {"x": np.ones((1, 3), dtype="<f4")}, outputs)


async def test_each_answered_request_is_seen_once_and_a_refused_one_is_not(gateway: Gateway) -> None:
    await gateway.deploy(b"model a")
    quality = Quality(gateway.announcer, FakeReferences(), gateway.clock, logging=Logging(rate=1.0))
    predictions = Predictions(gateway.catalogue, gateway.announcer, gateway.clock, watch=quality.served)
    for at in range(3):
        await predictions.infer("default", "digits", "", request(at))
    with pytest.raises(Refused):
        await predictions.infer("default", "digits", "", request(3, "nothing"))
    await quality.check()
    (told,) = [event for event in gateway.announcer.told if isinstance(event, RequestsLogged)]
    assert [each.request_id for each in told.requests] == ["id-0", "id-1", "id-2"]
    assert told.requests[0].outputs[0].values == (2.0, 2.0, 2.0)
    predictions.close()


def test_nothing_is_watched_unless_it_is_asked_for() -> None:
    settings = Settings()
    assert not settings.watch_rows_per_second
    assert not settings.labels_waiting_max
    assert not settings.request_log_rate
    assert not settings.request_log_rates


def test_settings_of_the_log_are_read_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ERGONAUT_GATEWAY_REQUEST_LOG_RATES", '{"digits": 0.1}')
    monkeypatch.setenv("ERGONAUT_GATEWAY_REQUEST_LOG_DROPPED", "inputs.age, outputs.score")
    settings = Settings()
    assert settings.request_log_rates == {"digits": 0.1}
    assert settings.request_log_dropped == ("inputs.age", "outputs.score")
