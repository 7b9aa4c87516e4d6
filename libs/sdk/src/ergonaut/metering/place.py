"""Where this host stands: as it was set, else as its cloud tells it from within; else unknown, and never guessed.

Nothing here asks the internet, least of all which country an address is from: a guessed place can be a hundred times too clean.
"""

import json
import os
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path

from ergonaut.errors import Refused
from ergonaut.metering.clouds import Cloud, MetadataService, ask_all, known_clouds
from ergonaut.metering.hosts import host_name
from ergonaut.metering.location import ZONE_VARIABLE, zone_from
from ergonaut.metering.meters import HostContext
from ergonaut.metering.sysfs import text_or_empty

METADATA_VARIABLE = "ERGONAUT_CLOUD_METADATA"
# A machine may be asked before its network is up, so that an answer of nobody is not believed for the whole boot.
_UNKNOWN_SECONDS = 3600.0
_AGAIN_SECONDS = (10.0, 3600.0)
_ASKED_MAX = 12
_DMI = "/sys/class/dmi/id"
_BOOT_ID = "/proc/sys/kernel/random/boot_id"


@dataclass(frozen=True, slots=True)
class Place:
    """A grid zone such as `DE` or `US-CAL`, and for a cloud's machine the cloud's own words. What is unknown is empty.

    `source` says who told; a place without a zone gets the world's average intensity, which `intensity_from` flags as such.
    `pue` is the provider's of the region, by `pue_source`; None where none is known. A place that `may_be_told_later` is unknown
    because nobody answered, as before a network is up.
    """

    zone: str = ""
    provider: str = ""
    region: str = ""
    instance_type: str = ""
    source: str = "unknown"
    pue: float | None = None
    pue_source: str = ""
    may_be_told_later: bool = False


def ask_again_seconds(asked: int) -> float | None:
    """How long to wait for a place that may be told later, after asking so often; None where it is no use any more.

    >>> [ask_again_seconds(asked) for asked in (1, 2, 11, 12)]
    [10.0, 20.0, 3600.0, None]
    """
    first, longest = _AGAIN_SECONDS
    return None if asked >= _ASKED_MAX else min(first * 2 ** (asked - 1), longest)


def place_of_host(
    environment: Mapping[str, str],
    home: Path | None = None,
    *,
    host: HostContext | None = None,
    service: MetadataService | None = None,
    anew: bool = False,
) -> Place:
    """Where this host stands; takes a second at most, once a boot. Call it when a run or an agent starts, never on import.

    ERGONAUT_ZONE goes before everything, and with it nobody is asked. Then the cloud is asked at 169.254.169.254, unless
    ERGONAUT_CLOUD_METADATA is `off` or the machine is plainly no cloud's. What was found is kept under `home`, and that nobody
    answered for an hour, unless `anew`. For the intensity: `intensity_from(environment, place.zone)`; prices go by `provider` and
    `region`, as in pricing's tables. Raises Refused, naming the variable, for a setting that cannot be.
    """
    zone = zone_from(environment)
    if zone:
        return Place(zone, source=f"settings: {ZONE_VARIABLE}")
    if not _may_ask(environment):
        return Place(source=f"unknown: {ZONE_VARIABLE} is not set and {METADATA_VARIABLE} is off")
    host = host or HostContext()
    boot_id = text_or_empty(host.path(_BOOT_ID))
    kept = home / f"place-{host_name()}.json" if home and boot_id else None
    remembered = _remembered(kept, boot_id) if kept else None
    if remembered is not None and not (anew and remembered.may_be_told_later):
        return remembered
    place = _asked(_worth_asking(host), service)
    if kept is not None:
        _remember(kept, boot_id, place)
    return place


def _may_ask(environment: Mapping[str, str]) -> bool:
    setting = environment.get(METADATA_VARIABLE, "").strip().lower()
    if setting not in ("", "on", "off"):
        raise Refused(f"{setting!r} is neither on nor off", field=METADATA_VARIABLE)
    return setting != "off"


def _worth_asking(host: HostContext) -> Sequence[Cloud]:
    """The cloud whose name is in the firmware, if any; else all, unless the machine is a computer of its own."""
    firmware = " ".join(
        text_or_empty(host.path(f"{_DMI}/{name}")) for name in ("sys_vendor", "bios_vendor", "product_version")
    )
    named = [cloud for cloud in known_clouds() if cloud.vendor.lower() in firmware.lower()]
    if named:
        return named
    return () if _is_no_guest(host) else known_clouds()


def _is_no_guest(host: HostContext) -> bool:
    if sys.platform == "darwin":
        return True
    try:
        cpuinfo = host.path("/proc/cpuinfo").read_text().partition("\n\n")[0]
    except OSError:
        return False
    # x86 tells a guest of its hypervisor by a flag; Arm does not.
    flags = next((line.split() for line in cpuinfo.splitlines() if line.startswith("flags")), None)
    return flags is not None and "hypervisor" not in flags


def _asked(clouds: Sequence[Cloud], service: MetadataService | None) -> Place:
    if not clouds:
        return Place(source=f"unknown: {ZONE_VARIABLE} is not set, and this is no cloud's machine")
    answer = ask_all(clouds, service or MetadataService())
    if answer is None:
        why = f"unknown: {ZONE_VARIABLE} is not set, and no cloud's metadata service answers"
        return Place(source=why, may_be_told_later=True)
    cloud, found = answer
    zone = cloud.zones.get(found.region, "")
    source = f"metadata service of {cloud.name}; zones by {cloud.source}"
    if not zone:
        source = f"metadata service of {cloud.name}, whose region {found.region} is in no table; set {ZONE_VARIABLE}"
    place = Place(zone, cloud.name, found.region, found.instance_type, source)
    if not zone or cloud.pue is None:
        return place
    return replace(place, pue=cloud.pue.value, pue_source=f"{cloud.name} ({cloud.pue.year}), {cloud.pue.source}")


def _remembered(kept: Path, boot_id: str) -> Place | None:
    try:
        told = json.loads(kept.read_text())
        if told["place"].keys() != {field.name for field in fields(Place)}:
            # Another version wrote it, which knew less.
            return None
        place = Place(**told["place"])
        fresh = bool(place.provider) or 0 <= time.time() - told["asked_at"] < _UNKNOWN_SECONDS
        return place if told["boot_id"] == boot_id and fresh else None
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
        return None


def _remember(kept: Path, boot_id: str, place: Place) -> None:
    text = json.dumps({"boot_id": boot_id, "asked_at": time.time(), "place": asdict(place)})
    part = kept.with_suffix(f".{os.getpid()}.part")
    try:
        kept.parent.mkdir(parents=True, exist_ok=True)
        part.write_text(text)
        part.replace(kept)
    except OSError:
        # A home that cannot be written to only means that the next start asks again.
        return
