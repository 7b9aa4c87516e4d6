"""Whom the OpenAI-compatible door tells what it served, how often, and by what it weighs that; apart, so that who has no such
door need not load it."""

from dataclasses import dataclass, field

from ergonaut_gateway.ports import Announcer
from ergonaut_gateway.service.places import Places


@dataclass(frozen=True, slots=True)
class Reporting:
    """To whom and how often, and what is drawn where."""

    announcer: Announcer
    every_seconds: float
    places: Places = field(default_factory=Places)
