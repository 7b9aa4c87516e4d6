"""What a gateway says of where it is reached."""

import pytest

from ergonaut_gateway.assembly.addresses import with_real_port
from ergonaut_gateway.settings import Settings


@pytest.mark.parametrize(
    ("advertised", "told"),
    [("", ""), ("10.0.0.7:7405", "10.0.0.7:7405"), ("10.0.0.7:0", "10.0.0.7:31234"), ("[::1]:0", "[::1]:31234")],
)
def test_a_gateway_that_takes_any_free_port_tells_the_one_that_it_has(advertised: str, told: str) -> None:
    settings = Settings(advertised_address=advertised)
    assert with_real_port(settings, 31234).advertised_address == told
    assert settings.advertised_address == advertised
