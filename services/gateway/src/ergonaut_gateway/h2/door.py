"""The gateway's HTTP/2 door: gRPC methods by their paths, and ModelInfer by a way of its own. `main` makes one."""

import contextlib
from collections.abc import AsyncIterator, Sequence

from ergonaut_common import h2
from ergonaut_common.auth import KeyRing
from ergonaut_common.entrance import Entrance
from ergonaut_common.h2.door import CLOSE_SECONDS, Add
from ergonaut_common.observe import get_logger
from ergonaut_gateway.h2 import inference
from ergonaut_gateway.h2.inference import Inferring
from ergonaut_gateway.http.callers import Callers
from ergonaut_gateway.service.predictions import Predictions

log = get_logger(__name__)


class H2Door(h2.H2Door):
    """Makes the protocol of each connection that begins as HTTP/2 does."""

    def __init__(
        self, add: Add, predictions: Predictions, keys: KeyRing, names: Sequence[str], limits: h2.H2Limits
    ) -> None:
        super().__init__(add, keys, names, limits)
        self._methods[inference.PATH] = Inferring(predictions, Callers(keys), self.room, limits)

    @contextlib.asynccontextmanager
    async def listening(self, way_in: Entrance) -> AsyncIterator[int]:
        """Answer on a port of gRPC's own, too, while the block runs; gives the port. Raises Unavailable where it is taken."""
        port = way_in.port
        await way_in.open(self)
        log.info("door is open", service="gateway", protocol="grpc", address=way_in.address, port=port)
        try:
            yield port
        finally:
            way_in.close()


@contextlib.asynccontextmanager
async def opened(
    add: Add,
    predictions: Predictions,
    keys: KeyRing,
    names: Sequence[str],
    limits: h2.H2Limits | None = None,
    *,
    close_seconds: float = CLOSE_SECONDS,
) -> AsyncIterator[H2Door]:
    """A door for the block; call it for the protocol of a connection. `add` and `names` are as `rpc.serving` takes them."""
    door = H2Door(add, predictions, keys, names, limits or h2.H2Limits())
    async with door.at_work(close_seconds=close_seconds):
        yield door
