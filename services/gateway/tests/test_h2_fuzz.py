"""Whatever bytes a caller sends over HTTP/2: no crash, little memory, and an answer or the end of the connection."""

import asyncio
from pathlib import Path
from struct import pack

from hypothesis import given, settings
from hypothesis import strategies as st

from ergonaut_common.auth import KeyRing
from ergonaut_common.h2.frames import PREFACE, SETTINGS, frame
from ergonaut_common.h2.headers import Malformed, checked
from ergonaut_gateway import h2
from ergonaut_gateway.rpc import NAMES, door

from .conftest import Gateways
from .test_h2 import ASK, LIMITS, REQUEST, headers


class Sink(asyncio.Transport):
    """Where answers go when nobody reads them; it counts them."""

    def __init__(self) -> None:
        super().__init__()
        self.closed = False
        self.sent_bytes = 0

    def write(self, data: bytes) -> None:
        self.sent_bytes += len(data)

    def close(self) -> None:
        self.closed = True

    abort = close

    def is_closing(self) -> bool:
        return self.closed

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        pass


a_frame = st.builds(
    frame,
    st.integers(0, 10),
    st.integers(0, 255),
    st.sampled_from([0, 1, 1, 2, 3, 5, 2**31 - 1]),
    st.one_of(
        st.binary(max_size=40),
        st.just(headers(*REQUEST.items())),
        st.just(ASK),
        st.builds(lambda key, value: pack(">HI", key, value), st.integers(0, 7), st.integers(0, 2**32 - 1)),
    ),
)


@settings(deadline=None, max_examples=300)
@given(
    begun=st.booleans(), sent=st.lists(st.one_of(a_frame, a_frame, st.binary(max_size=60)), max_size=30), data=st.data()
)
async def test_any_bytes_end_in_answers_or_in_the_end_of_the_connection(
    begun: bool, sent: list[bytes], data: st.DataObject
) -> None:
    gateway = Gateways(Path("nowhere")).another()
    add = door(gateway.models, gateway.catalogue, gateway.predictions)
    async with h2.opened(add, gateway.predictions, KeyRing(), NAMES, LIMITS, close_seconds=0) as own:
        connection, sink = own(), Sink()
        connection.connection_made(sink)
        whole = (PREFACE + frame(SETTINGS, 0, 0) if begun else b"") + b"".join(sent)
        at = 0
        while at < len(whole) and not sink.closed:
            size = data.draw(st.integers(1, 400))
            connection.data_received(whole[at : at + size])
            at += size
        await asyncio.sleep(0)
        (held,) = own.connections
        assert len(held.streams) <= LIMITS.streams
        assert sink.sent_bytes <= 10_000 + 40 * len(whole)
        connection.connection_lost(None)
        assert not own.connections
        assert not held.streams


@given(st.lists(st.tuples(st.binary(max_size=12), st.binary(max_size=12)), max_size=5))
def test_any_list_of_headers_is_read_or_is_malformed(pairs: list[tuple[bytes, bytes]]) -> None:
    try:
        fields = checked(pairs)
    except Malformed:
        return
    assert all(name == name.lower() and "\n" not in value for name, value in fields.items())
