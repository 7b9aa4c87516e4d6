"""Turns a tracker's charges into samples with grams and dollars, by the rule of `ergonaut.carbon` that the agent follows too."""

import os
from datetime import datetime
from typing import Any

from ergonaut.carbon import Intensity, PueSource, electricity_usd, machine_source, operational_grams, rent_usd
from ergonaut.events.pricing import IntensityKind
from ergonaut.events.telemetry import Method, PowerSample, Share
from ergonaut.metering import Charge, Place, place_of_host
from ergonaut.runcontext import RunContext
from ergonaut.tracking.gridhours import GridHours, asker_from
from ergonaut.tracking.options import Options
from ergonaut.tracking.places import embodied_source, tell_of_unknown_zone
from ergonaut.tracking.summary import RENT_COMPONENT
from ergonaut.units import SECONDS_PER_HOUR


class Stamps:
    """Makes the samples of one run."""

    def __init__(self, context: RunContext, options: Options) -> None:
        self._context = context
        self._options = options
        self._embodied_source = embodied_source(os.environ, options.embodied_grams_co2e_per_hour)
        self._pue, self._pue_source = options.pue, options.pue_source
        self._hours = GridHours(options.intensity, asker_from(os.environ), place=self._found_place)
        self._hours.begin()
        if options.intensity.zone and options.intensity.kind == IntensityKind.WORLD_AVERAGE:
            tell_of_unknown_zone(options.intensity.zone)

    def intensity_at(self, moment: datetime) -> Intensity:
        """The grid's intensity at the time of use. The PUE known by now holds for all samples until this is asked again."""
        intensity, place = self._hours.at(moment), self._hours.place
        if place.pue is not None and self._options.pue_source is PueSource.NOT_TOLD:
            self._pue, self._pue_source = place.pue, PueSource.PROVIDER
        return intensity

    def _found_place(self, anew: bool) -> Place:
        return place_of_host(os.environ, self._options.home, anew=anew)

    def bases(self, intensity: Intensity) -> dict[str, Any]:
        """What `PowerSampled` says of an intensity and of the building."""
        return {
            "zone": intensity.zone,
            "intensity_grams_per_kwh": intensity.grams_per_kwh,
            "intensity_kind": intensity.kind,
            "intensity_source": intensity.source,
            "intensity_signal": intensity.signal,
            "intensity_accounting": intensity.accounting,
            "intensity_boundary": intensity.boundary,
            "pue": self._pue,
            "pue_source": self._pue_source.value,
        }

    def sample(self, charge: Charge, intensity: Intensity) -> PowerSample:
        """What the run used of one component; what was not measured has neither grams nor dollars."""
        joules, options = charge.energy_joules, self._options
        grams = operational_grams(joules, pue=self._pue, intensity_grams_per_kwh=intensity.grams_per_kwh)
        return self._sample(
            component=charge.reading.component,
            method=charge.reading.method,
            source=charge.reading.source,
            range_fraction=charge.reading.range_fraction,
            started_at=charge.started_at,
            ended_at=charge.ended_at,
            energy_joules=joules,
            carbon_grams_co2e=grams,
            cost_usd=electricity_usd(joules, pue=self._pue, price_usd_per_kwh=options.electricity_usd_per_kwh),
        )

    def machine(self, started_at: datetime, ended_at: datetime) -> list[PowerSample]:
        """What holding the machine came to: rent, and its share of having been made; empty where neither is known."""
        price_usd, per_hour = self._options.rent_usd_per_hour, self._options.embodied_grams_co2e_per_hour
        source = machine_source(price_usd, per_hour, self._embodied_source)
        if not source:
            return []
        seconds = max(0.0, (ended_at - started_at).total_seconds())
        sample = self._sample(
            component=RENT_COMPONENT,
            method=Method.NOT_MEASURED,
            source=source,
            started_at=started_at,
            ended_at=ended_at,
            cost_usd=rent_usd(price_usd, seconds) if price_usd else None,
            embodied_grams_co2e=per_hour * seconds / SECONDS_PER_HOUR if per_hour else None,
        )
        return [sample]

    def _sample(self, **told: Any) -> PowerSample:
        context, project = self._context, self._options.project or self._context.project
        return PowerSample(share=Share.RUN, run_id=context.run_id, job_id=context.job_id, project=project, **told)
