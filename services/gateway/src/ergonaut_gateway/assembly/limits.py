"""The bounds of doors and engine, from the settings."""

from ergonaut_gateway import h2
from ergonaut_gateway.http import HttpLimits
from ergonaut_gateway.service import EngineLimits
from ergonaut_gateway.settings import Settings


def http_limits(settings: Settings) -> HttpLimits:
    """Of the HTTP door."""
    return HttpLimits(
        body_bytes=settings.body_bytes_max,
        all_bodies_bytes=settings.bodies_bytes_max,
        connections=settings.connections_max,
        body_seconds=settings.body_timeout_seconds,
        head_seconds=settings.head_timeout_seconds,
        idle_seconds=settings.idle_timeout_seconds,
        write_seconds=settings.write_timeout_seconds,
    )


def h2_limits(settings: Settings) -> h2.H2Limits:
    """Of the gRPC door on our own server."""
    return h2.H2Limits(
        connections=settings.connections_max,
        all_messages_bytes=settings.bodies_bytes_max,
        idle_seconds=max(settings.idle_timeout_seconds, h2.H2Limits().idle_seconds),
        write_seconds=settings.write_timeout_seconds,
        body_seconds=settings.body_timeout_seconds,
    )


def engine_limits(settings: Settings) -> EngineLimits:
    """Of what waits and runs."""
    return EngineLimits(
        threads=settings.run_threads,
        waiting=settings.waiting_max,
        model_waiting=settings.model_waiting_max,
        batch_rows=settings.batch_rows_max,
        run_timeout_seconds=settings.run_timeout_seconds,
        cache_bytes=settings.cache_bytes_max,
    )
