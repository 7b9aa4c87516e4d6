"""What JetStream refuses only for a moment is asked again. The moment is rare on real servers, so a stand-in has it."""

from typing import Any, cast

from nats.js import JetStreamContext
from nats.js.api import PubAck
from nats.js.errors import APIError

from ergonaut_vectors.adapters.log import JetStreamLog
from ergonaut_vectors.domain.records import Key

KEY = Key("acme", "replicated")


class Agreeing:
    """A cluster that has not agreed yet on the message that it is sent for the second time."""

    def __init__(self) -> None:
        self.asked = 0

    async def publish(self, *_: Any, **__: Any) -> PubAck:
        self.asked += 1
        if self.asked == 1:
            raise APIError(code=409, err_code=10158, description="duplicate message id is in process")
        return PubAck(stream="VEC_acme_replicated", seq=1, duplicate=True)


async def test_a_write_that_is_still_agreed_upon_is_asked_for_again() -> None:
    jetstream = Agreeing()
    log = JetStreamLog(cast(JetStreamContext, jetstream), 1 << 20)
    assert await log.append(KEY, b"message", 0, name="batch") == 1
    assert jetstream.asked == 2
