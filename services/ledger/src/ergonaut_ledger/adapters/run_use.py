"""What a run used, as one table to sum: its samples, and in place of those dropped by age the sums that were made of them.

Asked by the store and by the analysis. A run that nothing was dropped of is read from its samples alone.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from ergonaut_ledger.adapters.engine import Engine
from ergonaut_ledger.adapters.rollups import ClickHouseUsage
from ergonaut_ledger.domain.bounds import EARLIEST, LATEST

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

_SHARED = """
        host, component, method, source, zone, job_id, intensity_kind, intensity_source, intensity_signal,
        intensity_accounting, intensity_boundary, energy_joules, carbon_grams_co2e, embodied_grams_co2e, cost_usd"""

# `ranged_joules` is the energy of which a range is known, `weighed_joules` the building's under the intensity beside it.
_SAMPLES = f"""
    SELECT {_SHARED},
        0 AS rolled, producer, started_at, ended_at,
        dateDiff('microsecond', started_at, ended_at) / 1e6 AS seconds,
        1 AS samples,
        range_fraction,
        range_fraction * energy_joules AS energy_joules_range,
        if(range_fraction IS NULL, NULL, energy_joules) AS ranged_joules,
        toNullable(pue) AS mean_pue,
        pue * energy_joules AS building_joules,
        toNullable(intensity_grams_per_kwh) AS mean_intensity,
        building_joules AS weighed_joules
    FROM power_samples FINAL
    WHERE tenant = {{tenant:String}} AND run_id = {{run_id:String}} AND share = 'run'
        AND started_at >= {{since:DateTime64(6, 'UTC')}}"""  # noqa: S608 - constants only


def _sums(table: str, width_seconds: int, start_of: str) -> str:
    """A sum tells neither producers nor the moments within its time; where the run begins or ends in it, it is cut at that."""
    return f"""
    SELECT {_SHARED},
        1 AS rolled, '' AS producer,
        toDateTime64(at, 6, 'UTC') AS begins,
        addSeconds(begins, {width_seconds}) AS ends,
        if({{run_starts_at:DateTime64(6, 'UTC')}} < ends, greatest(begins, {{run_starts_at:DateTime64(6, 'UTC')}}), begins)
            AS started_at,
        if({{run_ends_at:DateTime64(6, 'UTC')}} > started_at, least(ends, {{run_ends_at:DateTime64(6, 'UTC')}}), ends)
            AS ended_at,
        seconds, samples,
        if(energy_joules > 0, energy_joules_range / energy_joules, NULL) AS range_fraction,
        energy_joules_range,
        if(energy_joules_range IS NULL, NULL, energy_joules) AS ranged_joules,
        if(energy_joules > 0, building_joules / energy_joules, NULL) AS mean_pue,
        building_joules,
        if(building_joules > 0, carbon_grams_co2e * 3.6e6 / building_joules, NULL) AS mean_intensity,
        if(mean_intensity IS NULL, NULL, building_joules) AS weighed_joules
    FROM {table} FINAL
    WHERE tenant = {{tenant:String}} AND run_id = {{run_id:String}} AND share = 'run'
        AND at >= {start_of}({{since:DateTime64(6, 'UTC')}}, 'UTC') AND at < {{sealed_before:DateTime('UTC')}}"""  # noqa: S608 - constants only


_COLUMNS = f"""{_SHARED},
        rolled, producer, started_at, ended_at, seconds, samples, range_fraction, energy_joules_range, ranged_joules, mean_pue,
        building_joules, mean_intensity, weighed_joules"""

# Minutes where they are still kept, hours where they were dropped too; samples for what was never rolled up and is kept for that.
_ROLLED_AND_SAMPLES = f"""(
    SELECT {_COLUMNS} FROM ({_sums("power_minutes", 60, "toStartOfMinute")}
        AND at NOT IN {{touched:Array(DateTime('UTC'))}})
    UNION ALL
    SELECT {_COLUMNS} FROM ({_sums("power_hours", 3600, "toStartOfHour")}
        AND at NOT IN (SELECT toStartOfHour(at, 'UTC') FROM power_minutes
            WHERE tenant = {{tenant:String}} AND run_id = {{run_id:String}} AND share = 'run')
        AND at NOT IN arrayMap(minute -> toStartOfHour(minute, 'UTC'), {{touched:Array(DateTime('UTC'))}}))
    UNION ALL
    SELECT {_COLUMNS} FROM ({_SAMPLES}
        AND (started_at >= {{sealed_before:DateTime('UTC')}}
            OR toStartOfMinute(started_at, 'UTC') IN {{touched:Array(DateTime('UTC'))}}))
)"""  # noqa: S608 - constants only

_SAMPLES_ONLY = f"({_SAMPLES})"

_DROPPED = """
WITH (SELECT max(before) FROM sealed WHERE what = 'samples') AS sealed_before
SELECT sealed_before AS before, min(at) AS first_at, count() AS sums
FROM power_hours
WHERE tenant = {tenant:String} AND run_id = {run_id:String} AND share = 'run' AND at < sealed_before
"""

_BOUNDS = "SELECT started_at, ended_at FROM runs WHERE tenant = {tenant:String} AND run_id = {run_id:String}"


@dataclass(frozen=True, slots=True)
class RunUse:
    """What a run used, as SQL with its bound values."""

    table: str
    parameters: Mapping[str, Any]
    sums_before: datetime | None
    """Where its samples were dropped by age, the moment before which they are sums; None where it is all there."""

    def asked(self, sql: str) -> str:
        """A question about `@use` as one about this run."""
        return sql.replace("@use", self.table)


class RunUses:
    """Finds out where a run's use is kept."""

    def __init__(self, engine: Engine, *, query_seconds: float) -> None:
        self._engine = engine
        self._seconds = query_seconds
        self._usage = ClickHouseUsage(engine, query_seconds=query_seconds)

    async def of(self, tenant: str, run_id: str, since: datetime = EPOCH) -> RunUse:
        """A run's use since a moment. Raises Unavailable."""
        asked = {"tenant": tenant, "run_id": run_id, "since": since}
        [dropped] = await self._ask("looking for dropped samples of a run", _DROPPED, asked)
        before = dropped["before"]
        if not dropped["sums"] or before <= since:
            return RunUse(_SAMPLES_ONLY, asked, None)
        told = await self._ask("finding a run", _BOUNDS, asked)
        parameters = asked | {
            "sealed_before": before,
            "touched": await self._usage.touched_minutes(tenant, dropped["first_at"], before),
            "run_starts_at": told[0]["started_at"] if told else EARLIEST,
            "run_ends_at": (told[0]["ended_at"] if told else None) or LATEST,
        }
        return RunUse(_ROLLED_AND_SAMPLES, parameters, before)

    async def _ask(self, what: str, sql: str, parameters: Mapping[str, Any]) -> list[Mapping[str, Any]]:
        return await self._engine.ask(sql, parameters, what=what, seconds=self._seconds)
