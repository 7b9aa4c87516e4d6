"""Calls from one service to another: with the services' key, the trace, a deadline and keep-alive."""

import contextlib
from collections.abc import AsyncIterator, Sequence

from grpc import aio

from ergonaut.channels import open_channel
from ergonaut_common.observe import trace_headers
from ergonaut_common.rpc.calls import TENANT_METADATA
from ergonaut_common.settings import PlatformSettings


def for_tenant(tenant: str) -> Sequence[tuple[str, str]]:
    """Metadata with which a service acts for a tenant."""
    return ((TENANT_METADATA, tenant),)


@contextlib.asynccontextmanager
async def channel(address: str, platform: PlatformSettings, *, service: str) -> AsyncIterator[aio.Channel]:
    """A channel to another service; `service` says who calls."""
    key = platform.service_key()
    authorization = {"authorization": f"Bearer {key}"} if key else {}
    async with open_channel(address, lambda: authorization | trace_headers(), agent=f"ergonaut-{service}") as opened:
        yield opened
