"""Whom the OpenAI-compatible door tells what it served, and how often; apart, so that `main` need not load the whole door."""

from dataclasses import dataclass

from ergonaut_gateway.ports import Announcer


@dataclass(frozen=True, slots=True)
class Reporting:
    """To whom and how often."""

    announcer: Announcer
    every_seconds: float
