"""Where the services are, with which key they are called, and what becomes of failures. Shared by all areas of the client."""

import contextlib
import os
from collections.abc import AsyncIterator, Iterator
from datetime import datetime
from typing import Self

import grpc
from google.protobuf.timestamp_pb2 import Timestamp
from grpc import aio

from ergonaut.channels import open_channel
from ergonaut.errors import NotAllowed, NotFound, Unavailable
from ergonaut.local.home import SERVICES, Home
from ergonaut.statuses import error_of

CHUNK_BYTES = 512 * 1024
"""Size of the pieces in which files travel; doors take at most 1 MiB."""


class Connection:
    """Channels to the services, opened when first used."""

    def __init__(self, services: dict[str, str], key: str, *, gateway_http: str = "") -> None:
        self.services = services
        self.gateway_http = gateway_http
        self._key = key
        self._channels: dict[str, aio.Channel] = {}

    @classmethod
    def from_environment(cls, *, as_operator: bool = False) -> Self:
        """The system that the environment names, else the one on this machine. Raises NotFound where there is none.

        `as_operator` takes the key of whoever runs the platform on this machine, where the environment names no other.
        """
        home = Home.from_environment()
        services = {name: os.environ.get(f"ERGONAUT_{name.upper()}_ADDRESS", "") for name in SERVICES}
        gateway_http = os.environ.get("ERGONAUT_GATEWAY_HTTP_ADDRESS", "")
        if not all(services.values()):
            with contextlib.suppress(NotFound) if any(services.values()) else contextlib.nullcontext():
                addresses = home.addresses()
                services = {name: services[name] or addresses.services[name] for name in SERVICES}
                gateway_http = gateway_http or addresses.gateway_http
        key = os.environ.get("ERGONAUT_API_KEY") or (home.operator_key() if as_operator else home.client_key())
        return cls(services, key, gateway_http=gateway_http)

    @property
    def headers(self) -> dict[str, str]:
        """What every call carries."""
        return {"authorization": f"Bearer {self._key}"}

    def channel(self, service: str) -> aio.Channel:
        """The channel to a service. Raises NotFound where its address is not known."""
        if service not in self._channels:
            address = self.services.get(service)
            if not address:
                raise NotFound(f"where {service} listens is not known; set ERGONAUT_{service.upper()}_ADDRESS")
            self._channels[service] = open_channel(address, lambda: self.headers, agent="ergonaut-sdk")
        return self._channels[service]

    async def close(self) -> None:
        """Close every channel."""
        for channel in self._channels.values():
            await channel.close()
        self._channels.clear()


@contextlib.contextmanager
def doing(what: str) -> Iterator[None]:
    """Turn the failure of a call within the block into one of our errors that says what was attempted."""
    try:
        yield
    except grpc.RpcError as error:
        failure = error_of(error, doing=what)
        if isinstance(failure, Unavailable):
            raise type(failure)(f"{failure}; `ergonaut status` tells what runs") from error
        if isinstance(failure, NotAllowed):
            raise type(failure)(f"{failure}; ERGONAUT_API_KEY sets which key is sent") from error
        raise failure from error


def stamp(moment: datetime) -> Timestamp:
    """A time as it travels by gRPC; one without a zone is taken to be UTC."""
    travelling = Timestamp()
    travelling.FromDatetime(moment)
    return travelling


async def pieces(content: bytes) -> AsyncIterator[bytes]:
    """A file's content in pieces; one empty piece where it is empty."""
    for start in range(0, max(len(content), 1), CHUNK_BYTES):
        yield content[start : start + CHUNK_BYTES]
