"""Hetzner Cloud: the metadata service, which tells the data centre as plain text and the type of the server not at all."""

import re

from ergonaut.metering.clouds.asking import Cloud, Found, MetadataService

_OK = 200
_PATH = "/hetzner/v1/metadata/availability-zone"


def ask(service: MetadataService) -> Found | None:
    """The location, which is the data centre's name without its number."""
    answer = service.ask(_PATH, {})
    centre = re.fullmatch(r"([a-z]+\d*)-dc\d+", answer.text.strip())
    return Found(centre[1]) if answer.status == _OK and centre else None


CLOUD = Cloud(
    name="hetzner",
    vendor="Hetzner",
    ask=ask,
    # Falkenstein, Nuremberg, Helsinki, Ashburn, Hillsboro, Singapore.
    zones={"fsn1": "DE", "nbg1": "DE", "hel1": "FI", "ash": "US-VA", "hil": "US-OR", "sin": "SG"},
    source="https://docs.hetzner.com/cloud/general/locations/",
)
