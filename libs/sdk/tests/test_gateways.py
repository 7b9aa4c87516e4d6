"""What gateways tell each other: nobody without the services' key is believed, and readers of different ages understand it."""

import hmac
import json
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ergonaut.announcements import APART_MAX
from ergonaut.errors import Refused
from ergonaut.events import STREAMS
from ergonaut.gateways import ANNOUNCEMENTS, SUBJECT, GatewayAnnounced

NOW = datetime(2026, 1, 5, 12, tzinfo=UTC)
KEY = "ergo_0123_secret"
sealed, unsealed = ANNOUNCEMENTS.sealed, ANNOUNCEMENTS.unsealed
ANNOUNCED = GatewayAnnounced(
    replica="eu-1", process="gateway-1", address="10.0.0.1:7405", told_at=NOW, at_work=3, at_work_max=10, cores=0.5
)


def test_what_was_told_is_read_by_who_has_the_same_key() -> None:
    assert unsealed(sealed(ANNOUNCED, KEY), KEY, NOW) == ANNOUNCED


def test_what_earlier_versions_told_is_read() -> None:
    body = b'{"protocol":1,"replica":"eu-1","process":"gateway-1","told_at":"2026-01-05T12:00:00Z","models":""}'
    signature = hmac.digest(KEY.encode(), b"ergonaut gateway announcement\n" + body, "sha256")
    assert unsealed(signature + body, KEY, NOW) == GatewayAnnounced(replica="eu-1", process="gateway-1", told_at=NOW)


def test_what_is_not_measured_is_not_told_as_nothing() -> None:
    told = ANNOUNCED.model_copy(update={"cores": None})
    assert b"cores" not in sealed(told, KEY)
    assert unsealed(sealed(told, KEY), KEY, NOW).cores is None


@pytest.mark.parametrize("key", ["", "ergo_0123_other"])
def test_nobody_is_believed_without_the_key(key: str) -> None:
    with pytest.raises(Refused, match="give all gateways the same"):
        unsealed(sealed(ANNOUNCED, key), KEY, NOW)


def test_a_gateway_without_a_key_believes_nobody() -> None:
    with pytest.raises(Refused):
        unsealed(sealed(ANNOUNCED, ""), "", NOW)


@given(st.integers(0, 400), st.integers(1, 255))
def test_no_byte_can_be_changed_on_the_way(at: int, change: int) -> None:
    message = bytearray(sealed(ANNOUNCED, KEY))
    message[at % len(message)] ^= change
    with pytest.raises(Refused):
        unsealed(bytes(message), KEY, NOW)


@given(st.binary(max_size=200))
def test_what_is_no_announcement_is_refused(message: bytes) -> None:
    with pytest.raises(Refused):
        unsealed(message, KEY, NOW)


def test_what_is_too_long_is_not_even_read() -> None:
    with pytest.raises(Refused):
        unsealed(sealed(ANNOUNCED.model_copy(update={"models": "A" * ANNOUNCEMENTS.message_bytes_max}), KEY), KEY, NOW)


@pytest.mark.parametrize("apart", [APART_MAX, -APART_MAX])
def test_an_announcement_cannot_be_told_again_later(apart: timedelta) -> None:
    assert unsealed(sealed(ANNOUNCED, KEY), KEY, NOW + apart) == ANNOUNCED
    with pytest.raises(Refused, match="set the clocks"):
        unsealed(sealed(ANNOUNCED, KEY), KEY, NOW + apart * 1.1)


def test_fields_of_later_versions_are_passed_over_and_promised_ones_stay() -> None:
    later = json.loads(ANNOUNCED.model_dump_json()) | {"something": "new"}
    assert GatewayAnnounced.model_validate(later) == ANNOUNCED
    promised = {"protocol", "replica", "process", "address", "host", "tls", "told_at", "draining", "weight", "at_work",
                "at_work_max", "cores", "replicas_wanted", "models", "models_told"}  # fmt: skip
    assert promised <= set(GatewayAnnounced.model_fields)
    required = {name for name, field in GatewayAnnounced.model_fields.items() if field.is_required()}
    assert required == {"replica", "process", "told_at"}


def test_no_stream_keeps_announcements() -> None:
    assert SUBJECT.split(".")[3] not in STREAMS
