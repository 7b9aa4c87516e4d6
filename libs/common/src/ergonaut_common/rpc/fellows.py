"""Channels to other processes of the same service, which find each other by what they announce. Used by gateways, and by nodes of
the vector index."""

import asyncio

import grpc
from grpc import aio

from ergonaut.channels import MESSAGE_BYTES_MAX
from ergonaut.tls import channel_credentials

OPTIONS = (
    ("grpc.max_receive_message_length", MESSAGE_BYTES_MAX),
    ("grpc.max_send_message_length", MESSAGE_BYTES_MAX),
    # A machine that vanished sends no end of its connections: within five seconds it is noticed, and others are asked.
    ("grpc.keepalive_time_ms", 2_000),
    ("grpc.keepalive_timeout_ms", 3_000),
    # Without it grpcio waits a minute for the answer to a ping, whatever the line above says.
    ("grpc.http2.ping_timeout_ms", 3_000),
    ("grpc.http2.max_pings_without_data", 0),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 2_000),
    # Each has a connection of its own, also where several processes listen at one address and share those that come.
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.enable_http_proxy", 0),
)


class FellowChannels:
    """Opens channels, and closes them beside other work."""

    def __init__(
        self, *, close_seconds: float | None = None, credentials: grpc.ChannelCredentials | None = None
    ) -> None:
        """`close_seconds` is how long what is asked may still be answered over a channel that is closed; None has it fail at
        once. Without credentials those are taken that `ergonaut.tls` finds whenever a channel is opened."""
        self._close_seconds = close_seconds
        self._credentials = credentials
        self._closing: set[asyncio.Task[None]] = set()

    def open(self, address: str, *, tls: bool) -> aio.Channel:
        """A channel to host:port. Raises Refused where what TLS needs is wrong."""
        if tls:
            return aio.secure_channel(address, self._credentials or channel_credentials(), options=OPTIONS)
        return aio.insecure_channel(address, options=OPTIONS)

    def close(self, channel: aio.Channel) -> None:
        """Let nothing more be asked over a channel."""
        task = asyncio.get_running_loop().create_task(channel.close(self._close_seconds))
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)

    async def closed(self) -> None:
        """Return when all that were opened and closed are gone, with what was asked over them."""
        for task in self._closing:
            task.cancel()
        await asyncio.gather(*self._closing, return_exceptions=True)
