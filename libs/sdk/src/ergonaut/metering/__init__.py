"""Reads what the machine uses and says whose it is: meters, processes, attribution, and the grid's place.

Used by the tracker in a program of its own and by the telemetry agent of a host. Meters tell cumulative joules; whoever
reads them takes differences, so that a reading that was missed is bridged by the next.
"""

from ergonaut.metering.attribution import HostUse, RunKey, Split, attribute
from ergonaut.metering.cgroups import Cgroups, Workload
from ergonaut.metering.discovery import discover
from ergonaut.metering.hosts import HostFacts, host_facts, host_name
from ergonaut.metering.load import HostLoad, read_load
from ergonaut.metering.location import WORLD_AVERAGE_GRAMS_PER_KWH, Intensity, intensity_from, zone_from
from ergonaut.metering.meters import CounterMark, Meter, NotMeasured, Reading
from ergonaut.metering.place import Place, ask_again_seconds, place_of_host
from ergonaut.metering.processes import ProcessScan, RunUse, claimed_by_environment, runs_by_pid
from ergonaut.metering.sampler import Charge, HostInterval, HostSampler

__all__ = [
    "WORLD_AVERAGE_GRAMS_PER_KWH",
    "Cgroups",
    "Charge",
    "CounterMark",
    "HostFacts",
    "HostInterval",
    "HostLoad",
    "HostSampler",
    "HostUse",
    "Intensity",
    "Meter",
    "NotMeasured",
    "Place",
    "ProcessScan",
    "Reading",
    "RunKey",
    "RunUse",
    "Split",
    "Workload",
    "ask_again_seconds",
    "attribute",
    "claimed_by_environment",
    "discover",
    "host_facts",
    "host_name",
    "intensity_from",
    "place_of_host",
    "read_load",
    "runs_by_pid",
    "zone_from",
]
