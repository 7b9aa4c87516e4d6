"""The host is named as the telemetry agent names it, or a run's samples could not be told from another host's."""

import pytest

from ergonaut.metering import host_name
from ergonaut_orchestrator.settings import Settings


def test_the_host_is_named_as_the_meters_name_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ERGONAUT_HOST", raising=False)
    assert Settings().host == host_name()
    monkeypatch.setenv("ERGONAUT_HOST", "Desk_7")
    assert Settings().host == host_name() == "desk-7"
