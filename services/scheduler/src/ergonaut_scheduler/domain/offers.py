"""What is for sale and how clean its electricity will be, as the scheduler sees it."""

import itertools
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Self

_HOUR = timedelta(hours=1)
_DAY_HOURS = 24


@dataclass(frozen=True, slots=True)
class Offer:
    """A machine-hour for sale."""

    offer_id: str
    provider: str
    region: str
    zone: str
    machine_type: str
    vcpus: float
    memory_gib: float
    power_watts_expected: float
    accelerator: str = ""
    accelerator_count: int = 0
    price_microusd_per_hour: int = 0
    electricity_microusd_per_kwh: int = 0
    pue: float = 1.0
    billing_increment_seconds: int = 1


@dataclass(frozen=True, slots=True)
class Forecast:
    """A zone's intensity hour by hour; after the last hour that is known, the last day that is known repeats."""

    starts_at: datetime
    grams_per_kwh: tuple[float, ...]
    sums: tuple[float, ...]
    """Sums of the hours before each hour, so that any stretch of time costs two look-ups."""

    @classmethod
    def of(cls, starts_at: datetime, grams_per_kwh: tuple[float, ...]) -> Self:
        """A forecast of at least one hour, beginning on the hour."""
        assert grams_per_kwh, "a forecast tells at least one hour"
        return cls(starts_at, grams_per_kwh, tuple(itertools.accumulate(grams_per_kwh, initial=0.0)))

    def grams_hours_per_kwh(self, begin: datetime, end: datetime) -> float:
        """The intensity integrated over a time: grams that one kilowatt causes between the two moments."""
        return self._until(end) - self._until(begin)

    def _until(self, moment: datetime) -> float:
        hours = (moment - self.starts_at) / _HOUR
        if hours < 0:
            return hours * self.grams_per_kwh[0]
        whole = int(hours)
        return self._sum_before(whole) + (hours - whole) * (self._sum_before(whole + 1) - self._sum_before(whole))

    def _sum_before(self, hour: int) -> float:
        known = len(self.grams_per_kwh)
        if hour <= known:
            return self.sums[hour]
        day = min(_DAY_HOURS, known)
        days, rest = divmod(hour - known, day)
        last_day = known - day
        return (
            self.sums[known]
            + days * (self.sums[known] - self.sums[last_day])
            + (self.sums[last_day + rest] - self.sums[last_day])
        )
