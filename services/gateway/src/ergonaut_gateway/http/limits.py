"""How much the HTTP door takes in, and how long it waits for it."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class HttpLimits:
    """Bounds of one door. What is over them gets a clear refusal, or, where nobody listens, its connection closed."""

    body_bytes: int = 64 * 1024 * 1024
    """Of one request, packed and unpacked."""
    all_bodies_bytes: int = 512 * 1024 * 1024
    """Of all requests that are read or answered now."""
    connections: int = 1024
    body_seconds: float = 30.0
    """In which a body must come."""
    head_seconds: float = 10.0
    """In which a request line with its headers must come."""
    idle_seconds: float = 75.0
    """How long a connection may be without a request. More than the 60 s of common proxies, so that it is they who close."""
    write_seconds: float = 30.0
    """How long a caller may leave an answer unread."""
    head_bytes: int = 32 * 1024
    """Of a request line with its headers."""
    headers: int = 100
