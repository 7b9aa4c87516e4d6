"""Requests for models that are asleep wait in their lanes, under the same bounds as all that waits, until the model is there."""

import asyncio
from collections.abc import Callable, Iterator

from ergonaut.errors import ErgonautError, Unavailable
from ergonaut_common.observe import get_logger
from ergonaut_gateway.service.lanes import Lane

log = get_logger(__name__)


class Holding:
    """The lanes whose models are being woken."""

    def __init__(self, awake: Callable[[Lane], None], monotonic: Callable[[], float]) -> None:
        self._awake = awake
        self._monotonic = monotonic
        self._waking: dict[Lane, asyncio.Task[None]] = {}

    def __iter__(self) -> Iterator[Lane]:
        return iter(list(self._waking))

    def __bool__(self) -> bool:
        return bool(self._waking)

    def hold(self, lane: Lane) -> None:
        """Have a lane's model woken; whatever waits there meanwhile is asked of it then."""
        if lane not in self._waking:
            self._waking[lane] = asyncio.get_running_loop().create_task(self._wake(lane))

    def close(self) -> None:
        """Wake nobody any more."""
        for task in self._waking.values():
            task.cancel()

    async def _wake(self, lane: Lane) -> None:
        assert lane.dozing is not None, "only what may doze off is held"
        begun = self._monotonic()
        try:
            await lane.dozing.wake()
        except ErgonautError as error:
            self._give_up(lane, Unavailable(f"the model was asleep and could not be loaded: {error}; ask again"))
        except Exception:
            log.exception("model not woken")
            self._give_up(lane, Unavailable("the model was asleep and could not be loaded; ask again"))
        else:
            log.info("model awake", waited_seconds=round(self._monotonic() - begun, 3), requests=len(lane.waiting))
        finally:
            del self._waking[lane]
        self._awake(lane)

    def _give_up(self, lane: Lane, why: Unavailable) -> None:
        for ticket in list(lane.waiting):
            lane.give_up(ticket, why)
