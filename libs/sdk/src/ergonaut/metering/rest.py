"""A meter at the host's supply beside meters of its parts: what the parts do not account for is component `rest`.

The supply's meter counts the parts once more, so its figure is never added to theirs: docs/adr/0010-whole-host-meters.md.
"""

from collections.abc import Mapping, Sequence

from ergonaut.events.telemetry import Method
from ergonaut.metering.meters import PLATFORM, Meter, Reading

REST = "rest"


class WithRest:
    """The parts as they are, and `rest`: fans, disks, board and losses, which run whatever the host does."""

    def __init__(self, meters: Sequence[Meter]) -> None:
        """Read these, of which one has the component `platform`."""
        self._meters = meters
        self._before: Mapping[str, Reading] | None = None
        self._rest_joules = 0.0
        # The supply's meter is slower than the parts', so a step of theirs may show before it does in the supply.
        self._owed_joules = 0.0
        self._off_joules = 0.0
        self.accelerators = tuple(name for meter in meters for name in getattr(meter, "accelerators", ()))

    def read(self) -> Sequence[Reading]:
        readings = [reading for meter in self._meters for reading in meter.read()]
        platform = next((reading for reading in readings if reading.component == PLATFORM), None)
        parts = [reading for reading in readings if reading.component != PLATFORM]
        return [*parts, self._rest(platform, parts)]

    def users(self) -> Mapping[str, Mapping[int, float]]:
        return {component: users for meter in self._meters for component, users in meter.users().items()}

    def close(self) -> None:
        for meter in self._meters:
            meter.close()

    def _rest(self, platform: Reading | None, parts: Sequence[Reading]) -> Reading:
        if platform is None or platform.energy_joules is None:
            self._before = None
            source = platform.source if platform else "the host's meter has gone"
            return Reading(REST, Method.NOT_MEASURED, source)
        now = {reading.component: reading for reading in (platform, *parts) if reading.measured}
        if self._before is not None:
            self._advance(self._before, now)
        # A part that could not be read this time is bridged by its next reading, and is taken off then.
        self._before = {**(self._before or {}), **now}
        source = f"{platform.source}, less {', '.join(name for name in now if name != PLATFORM) or 'nothing'}"
        range_fraction = self._off_joules / self._rest_joules if self._rest_joules else None
        return Reading(REST, platform.method, source, range_fraction, self._rest_joules, idle_fraction=1.0)

    def _advance(self, before: Mapping[str, Reading], now: Mapping[str, Reading]) -> None:
        for component in before.keys() & now.keys():
            if now[component].method is not before[component].method:
                continue
            # A counter that a driver's restart set back has lost what it had; nothing is made up for it.
            step = max(0.0, (now[component].energy_joules or 0.0) - (before[component].energy_joules or 0.0))
            self._owed_joules += step if component == PLATFORM else -step
            # The rest is off by what all that it is the difference of is off by.
            self._off_joules += step * (now[component].range_fraction or 0.0)
        self._rest_joules += max(0.0, self._owed_joules)
        self._owed_joules = min(0.0, self._owed_joules)
