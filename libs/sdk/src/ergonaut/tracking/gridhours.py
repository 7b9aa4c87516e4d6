"""The grid's intensity at the time of use: hourly from `pricing` where one is named, else the zone's yearly factor.

Asked for in a thread of its own that is given little time, as is the place of a host that nobody set, so that neither start nor
sampling ever waits for the network.
"""

import contextlib
import threading
import time
from collections.abc import Callable, Mapping
from datetime import datetime

from ergonaut.carbon import Intensity, hourly_intensity, with_newly_told, yearly_intensity
from ergonaut.events.pricing import IntensityChanged
from ergonaut.metering import Place, ask_again_seconds

PRICING_VARIABLE = "ERGONAUT_PRICING_ADDRESS"

ASK_SECONDS_MAX = 5.0
"""One answer takes milliseconds; who is away for longer is asked again later."""

ASK_AGAIN_SECONDS = 600.0
"""Pause after an answer that did not come: a run that outlives an outage gets its hours, one that does not is not held up."""

HOURS_ASKED = 48
"""Two days, so that a run over midnight asks once a day or so."""

Ask = Callable[[str], IntensityChanged]
FindPlace = Callable[[bool], Place]
"""Finds out where this host stands; where true, also if nobody answered lately. May take a second."""

_SET_BY_HAND = "settings"


class GridHours:
    """Tells the intensity of any moment at once, by what is known by then."""

    def __init__(
        self,
        fallback: Intensity,
        ask: Ask | None,
        now_seconds: Callable[[], float] = time.monotonic,
        *,
        place: FindPlace | None = None,
    ) -> None:
        self._fallback = fallback
        # What was set by hand is what the operator wants to hear.
        set_by_hand = fallback.source == _SET_BY_HAND
        self._ask = None if set_by_hand else ask
        self._find_place = None if set_by_hand or fallback.zone else place
        self._place_asked = 0
        self._place = Place()
        self._now_seconds = now_seconds
        self._told: tuple[IntensityChanged, ...] = ()
        self._asked_at: float | None = None
        self._asking: threading.Thread | None = None

    def begin(self) -> None:
        """Find out the place at once where it is to be found out, so that the first sample need not do without it."""
        if self._find_place is not None:
            self._ask_in_background()

    @property
    def place(self) -> Place:
        """Where the host was found to stand; empty until then, and where the zone was set."""
        return self._place

    def at(self, moment: datetime) -> Intensity:
        """The intensity of the hour that holds a moment; the yearly factor until somebody has told of that hour."""
        told = hourly_intensity(self._told, moment)
        if told is not None:
            return told
        fallback = self._fallback
        self._ask_in_background()
        return fallback

    def wait(self, seconds: float) -> None:
        """Wait for a question that is under way."""
        if self._asking is not None:
            self._asking.join(seconds)

    def _ask_in_background(self) -> None:
        now = self._now_seconds()
        pause = ask_again_seconds(self._place_asked) if self._find_place and self._place_asked else ASK_AGAIN_SECONDS
        lately = self._asked_at is not None and (pause is None or now < self._asked_at + pause)
        if lately or not (self._find_place or (self._ask and self._knows_place)):
            return
        self._asked_at = now
        self._asking = threading.Thread(target=self._take_in, name="ergonaut-grid", daemon=True)
        self._asking.start()

    @property
    def _knows_place(self) -> bool:
        """Of an unknown zone nobody knows the hours; of one that our factors leave out, `pricing` may."""
        return bool(self._fallback.zone)

    def _take_in(self) -> None:
        # A meter must never fail the program it meters; each sample says by its kind what was known.
        with contextlib.suppress(Exception):
            if self._find_place is not None:
                find, self._find_place = self._find_place, None
                self._place = find(self._place_asked > 0)
                self._place_asked += 1
                if self._place.may_be_told_later:
                    self._find_place = find
                self._fallback = yearly_intensity(self._place.zone)
            if self._ask is not None and self._knows_place:
                self._told = with_newly_told(self._told, self._ask(self._fallback.zone))


def asker_from(environment: Mapping[str, str]) -> Ask | None:
    """How to ask the `pricing` at ERGONAUT_PRICING_ADDRESS with the key of this environment; None where none is named."""
    address = environment.get(PRICING_VARIABLE, "").strip()
    if not address:
        return None
    key = environment.get("ERGONAUT_API_KEY", "")

    def asked(zone: str) -> IntensityChanged:
        import asyncio

        return asyncio.run(_asked(address, key, zone))

    return asked


async def _asked(address: str, key: str, zone: str) -> IntensityChanged:
    # gRPC costs a fifth of a second to import; only who has a server to ask pays for it, and not at the start.
    import asyncio

    from ergonaut.client.connection import Connection
    from ergonaut.client.pricing import Prices, told_intensity
    from ergonaut.local.home import Home

    connection = Connection({"pricing": address}, key or Home.from_environment().client_key())
    try:
        async with asyncio.timeout(ASK_SECONDS_MAX):
            return told_intensity(await Prices(connection).forecast(zone, hours=HOURS_ASKED))
    finally:
        await connection.close()
