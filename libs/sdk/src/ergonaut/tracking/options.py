"""What may be set about tracking, read from the environment; `track()` can override some of it."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Self

from ergonaut.carbon import Intensity, PueSource
from ergonaut.errors import Refused
from ergonaut.ids import NAME_RULE, is_name
from ergonaut.jobs import Budget
from ergonaut.metering import host_name, zone_from
from ergonaut.metering.location import ZONE_VARIABLE
from ergonaut.runcontext import PUE_MAX, RunContext
from ergonaut.tracking.budgeting import checked_budget
from ergonaut.tracking.exporting import Exporter, exporters_of
from ergonaut.tracking.places import embodied_per_hour, place_intensity, pue_source_of
from ergonaut.tracking.pruning import Retention
from ergonaut.tracking.wishes import Wishes
from ergonaut.units import MICROUSD_PER_USD

# Below this the tracker would be a noticeable part of what it measures; above, a killed run would lose too much.
_INTERVAL_SECONDS = (0.05, 60.0)
_INTERVAL_VARIABLE = "ERGONAUT_TRACK_INTERVAL_SECONDS"
_ELECTRICITY_VARIABLE = "ERGONAUT_ELECTRICITY_USD_PER_KWH"
_PROJECT_VARIABLE = "ERGONAUT_PROJECT"
# A century, and a petabyte: all that is ever written.
_KEPT_DAYS_MAX = 36_500.0
_KEPT_GIBIBYTES_MAX = 1_048_576.0


@dataclass(frozen=True, slots=True)
class BusAddress:
    """Where NATS is and who we are there. The password stays in its file until it is needed."""

    url: str
    user: str = ""
    password_file: Path | None = None

    def password(self) -> str:
        """The password from its file; empty where there is none."""
        return self.password_file.read_text().strip() if self.password_file else ""


@dataclass(frozen=True, slots=True)
class Options:
    """Everything that tracking depends on beside the program itself."""

    home: Path
    tenant: str
    host: str
    intensity: Intensity
    pue: float = 1.0
    pue_source: PueSource = PueSource.NOT_TOLD
    embodied_grams_co2e_per_hour: float = 0.0
    electricity_usd_per_kwh: float | None = None
    rent_usd_per_hour: float = 0.0
    interval_seconds: float = 1.0
    bus: BusAddress | None = field(default=None, repr=False)
    project: str = ""
    budget: Budget | None = None
    exporters: tuple[Exporter, ...] = ()
    retention: Retention = field(default_factory=Retention)

    @property
    def runs_folder(self) -> Path:
        """Under which every run of this home has a folder."""
        return self.home / "runs"

    @classmethod
    def from_environment(
        cls,
        environment: Mapping[str, str],
        *,
        zone: str | None = None,
        electricity_usd_per_kwh: float | None = None,
        interval_seconds: float | None = None,
        project: str | None = None,
    ) -> Self:
        """The options that the environment sets. Raises Refused, naming the variable, for a value that cannot be."""
        given = {
            ZONE_VARIABLE: zone,
            _INTERVAL_VARIABLE: interval_seconds,
            _ELECTRICITY_VARIABLE: electricity_usd_per_kwh,
            _PROJECT_VARIABLE: project,
        }
        environment = {**environment, **{name: str(value) for name, value in given.items() if value is not None}}
        context = RunContext.from_environment(environment)
        price_of_context = context.electricity_microusd_per_kwh / MICROUSD_PER_USD if context else 0.0
        price = _number(environment, _ELECTRICITY_VARIABLE, 0.0, 100.0)
        return cls(
            home=home_from(environment),
            tenant=_name(environment, "ERGONAUT_TENANT") or "default",
            host=host_name(),
            intensity=place_intensity(environment, zone_from(environment)),
            pue=_number(environment, "ERGONAUT_PUE", 1.0, PUE_MAX) or 1.0,
            pue_source=pue_source_of(environment, context),
            embodied_grams_co2e_per_hour=embodied_per_hour(environment, context),
            electricity_usd_per_kwh=price if price is not None else price_of_context or None,
            rent_usd_per_hour=context.price_microusd_per_hour / MICROUSD_PER_USD if context else 0.0,
            interval_seconds=_number(environment, _INTERVAL_VARIABLE, *_INTERVAL_SECONDS) or 1.0,
            bus=_bus(environment),
            project=_name(environment, _PROJECT_VARIABLE),
            retention=retention_from(environment),
        )


def retention_from(environment: Mapping[str, str]) -> Retention:
    """How much of past runs is kept. Raises Refused, naming the variable, for a value that cannot be."""
    days = _number(environment, "ERGONAUT_KEEP_DAYS", 0.0, _KEPT_DAYS_MAX)
    gibibytes = _number(environment, "ERGONAUT_KEEP_GIB", 0.0, _KEPT_GIBIBYTES_MAX)
    usual = Retention()
    return Retention(usual.days if days is None else days, usual.gibibytes if gibibytes is None else gibibytes)


def home_from(environment: Mapping[str, str]) -> Path:
    """The folder under which runs are kept: ERGONAUT_HOME, else `~/.ergonaut`."""
    named = environment.get("ERGONAUT_HOME", "")
    try:
        return Path(named or "~/.ergonaut").expanduser()
    except RuntimeError:
        # A container's user who is in no list of users and has no HOME; where HOME is set for such users it is the root.
        return Path("/.ergonaut")


def _name(environment: Mapping[str, str], variable: str) -> str:
    name = environment.get(variable, "")
    if name and not is_name(name):
        raise Refused(f"{name!r} must be {NAME_RULE}", field=variable)
    return name


def _bus(environment: Mapping[str, str]) -> BusAddress | None:
    url = environment.get("ERGONAUT_NATS_URL", "")
    if not url:
        return None
    file = environment.get("ERGONAUT_NATS_PASSWORD_FILE", "")
    return BusAddress(url, environment.get("ERGONAUT_NATS_USER", ""), Path(file) if file else None)


def _number(environment: Mapping[str, str], name: str, least: float, most: float) -> float | None:
    text = environment.get(name, "").strip()
    if not text:
        return None
    try:
        value = float(text)
    except ValueError:
        value = float("nan")
    if not least <= value <= most:
        raise Refused(f"{text!r} is no number from {least:g} to {most:g}", field=name)
    return value


def current_options(wishes: Wishes) -> Options:
    """The options of this process, now. Raises Refused, naming the variable or argument, for a value that cannot be."""
    options = Options.from_environment(
        os.environ,
        zone=wishes.get("zone"),
        electricity_usd_per_kwh=wishes.get("electricity_usd_per_kwh"),
        interval_seconds=wishes.get("interval_seconds"),
        project=wishes.get("project"),
    )
    return replace(
        options,
        budget=checked_budget(wishes.get("budget")),
        exporters=exporters_of(wishes.get("exporters", ())),
    )
