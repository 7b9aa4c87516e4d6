"""Rate limits of each tenant on each route. The service asks before a request, and tells the tokens after it."""

import math

from ergonaut_gateway.openai.domain.limits import Bucket
from ergonaut_gateway.openai.errors import limited
from ergonaut_gateway.openai.routes import RouteConfig

BUCKETS_MAX = 4096
"""Buckets of tenants that are kept. Tenants come from our own keys, so this many means that old ones are left over."""


class RateLimits:
    """The buckets of one route."""

    def __init__(self, route: RouteConfig) -> None:
        self._limits = {"requests": route.requests_per_minute, "tokens": route.tokens_per_minute}
        self._buckets: dict[tuple[str, str], Bucket] = {}

    def admit(self, tenant: str, now_seconds: float) -> dict[str, str]:
        """Take one request of a tenant; the headers that tell what is left. Raises OpenAiError with 429.

        How many tokens a request costs is known after it; it is let in while the tenant has any left.
        """
        buckets = self._of(tenant, now_seconds)
        headers: dict[str, str] = {}
        for what, bucket in buckets.items():
            headers[f"x-ratelimit-limit-{what}"] = str(int(bucket.per_minute))
            headers[f"x-ratelimit-remaining-{what}"] = str(max(0, int(bucket.level(now_seconds))))
        for what, bucket in buckets.items():
            wait_seconds = bucket.wait_seconds(1, now_seconds)
            if wait_seconds > 0:
                told = str(max(1, math.ceil(wait_seconds)))
                raise limited(what, headers | {"retry-after": told, f"x-ratelimit-reset-{what}": f"{told}s"})
        if "requests" in buckets:
            buckets["requests"].spend(1, now_seconds)
            headers["x-ratelimit-remaining-requests"] = str(max(0, int(buckets["requests"].level(now_seconds))))
        return headers

    def spent(self, tenant: str, tokens: int, now_seconds: float) -> None:
        """Take the tokens that a request used."""
        bucket = self._of(tenant, now_seconds).get("tokens")
        if bucket is not None:
            bucket.spend(tokens, now_seconds)

    def _of(self, tenant: str, now_seconds: float) -> dict[str, Bucket]:
        found: dict[str, Bucket] = {}
        for what, per_minute in self._limits.items():
            if per_minute is None:
                continue
            if len(self._buckets) >= BUCKETS_MAX:
                self._buckets.clear()
            found[what] = self._buckets.setdefault((tenant, what), Bucket(per_minute, now_seconds))
        return found
