"""AMD SMI is spoken to at the wire: a stand-in for the driver's module answers as the driver does."""

from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from ergonaut.events.telemetry import Method
from ergonaut.metering import discover
from ergonaut.metering.amdgpu import AmdMeter, open_meters
from ergonaut.metering.meters import HostContext


class SmiError(Exception):
    def __init__(self, code: int) -> None:
        super().__init__(f"AMDSMI status {code}")
        self.code = code

    def get_error_code(self) -> int:
        return self.code


NOT_SUPPORTED, LOST = 2, 34


@dataclass
class Card:
    count: dict[str, Any] | None = None
    info: dict[str, Any] = field(default_factory=dict)
    holders: list[dict[str, Any]] = field(default_factory=list)
    lost: bool = False


class Smi:
    """Has the functions of the module `amdsmi` that the meter calls."""

    AmdSmiException = AmdSmiLibraryException = SmiError
    AmdSmiInitFlags = SimpleNamespace(INIT_AMD_GPUS=2)
    amdsmi_wrapper = SimpleNamespace(AMDSMI_STATUS_NOT_SUPPORTED=NOT_SUPPORTED)

    def __init__(self, *cards: Card, driver: bool = True) -> None:
        self.cards = cards
        self.driver = driver
        self.shut_down = 0

    def amdsmi_init(self, flags: int) -> None:
        if not self.driver:
            raise SmiError(LOST)

    def amdsmi_shut_down(self) -> None:
        self.shut_down += 1

    def amdsmi_get_processor_handles(self) -> list[Card]:
        return list(self.cards)

    def amdsmi_get_gpu_asic_info(self, card: Card) -> dict[str, Any]:
        return {"market_name": "AMD Instinct MI300X"}

    def amdsmi_get_energy_count(self, card: Card) -> dict[str, Any]:
        if card.lost:
            raise SmiError(LOST)
        if card.count is None:
            raise SmiError(NOT_SUPPORTED)
        return card.count

    def amdsmi_get_power_info(self, card: Card) -> dict[str, Any]:
        return card.info

    def amdsmi_get_gpu_process_list(self, card: Card) -> list[dict[str, Any]]:
        return card.holders


def ticks(count: int, name: str = "energy_accumulator") -> dict[str, Any]:
    return {name: count, "counter_resolution": 15.3, "timestamp": 1}


def holder(pid: int, gfx: int, mem: int = 0) -> dict[str, Any]:
    return {"name": "python", "pid": pid, "mem": mem, "engine_usage": {"gfx": gfx, "enc": 0}}


@pytest.mark.parametrize("name", ["energy_accumulator", "power"])
def test_the_accumulator_counts_in_ticks_of_its_resolution(name: str) -> None:
    (reading,) = AmdMeter(Smi(Card(ticks(1_000_000, name)))).read()
    assert (reading.component, reading.method) == ("gpu-amd0", Method.COUNTER)
    assert reading.energy_joules == pytest.approx(15.3)


@pytest.mark.parametrize("count", [None, ticks(0)])
def test_power_is_summed_up_on_a_card_without_a_counter(count: dict[str, Any] | None) -> None:
    now = [0.0]
    card = Card(count, {"current_socket_power": "N/A", "average_socket_power": 300})
    meter = AmdMeter(Smi(card), seconds=lambda: now[0])
    meter.read()
    now[0] = 2.0
    (reading,) = meter.read()
    assert (reading.method, reading.energy_joules) == (Method.POWER_SAMPLES, 600.0)


def test_a_card_that_is_lost_or_tells_no_power_is_not_measured_and_says_why() -> None:
    cards = Card(ticks(5)), Card(None, {"current_socket_power": "N/A", "average_socket_power": 2**32 - 1})
    meter = AmdMeter(Smi(*cards))
    cards[0].lost = True
    lost, mute = meter.read()
    assert {lost.method, mute.method} == {Method.NOT_MEASURED}
    assert "34" in lost.source
    assert "no power" in mute.source
    cards[0].lost = False
    assert meter.read()[0].method is Method.COUNTER


def test_a_card_is_shared_by_the_work_of_its_engines_since_the_last_call() -> None:
    card = Card(ticks(1), holders=[holder(7, 500), holder(8, 100)])
    meter = AmdMeter(Smi(card))
    meter.users()
    card.holders = [holder(7, 560), holder(8, 120), holder(9, 20)]
    assert meter.users() == {"gpu-amd0": {7: 60.0, 8: 20.0, 9: 20.0}}


def test_memory_decides_where_no_engine_worked() -> None:
    meter = AmdMeter(Smi(Card(ticks(1), holders=[holder(7, 5, mem=300), holder(8, 5, mem=100)])))
    assert meter.users() == {"gpu-amd0": {7: 300.0, 8: 100.0}}


def test_a_host_without_module_driver_or_card_keeps_its_other_meters(tmp_path: Path) -> None:
    assert open_meters(HostContext(root=tmp_path)) == []
    no_driver = open_meters(HostContext(root=tmp_path, modules={"amdsmi": Smi(driver=False)}))
    assert no_driver[0].read()[0].method is Method.NOT_MEASURED
    no_card = Smi()
    assert open_meters(HostContext(root=tmp_path, modules={"amdsmi": no_card})) == []
    assert no_card.shut_down == 1


def test_a_host_with_an_amd_card_names_it_and_closes_it_once(tmp_path: Path) -> None:
    smi = Smi(Card(ticks(7)))
    meters = discover(host=HostContext(root=tmp_path, modules={"amdsmi": smi}))
    readings = {reading.component: reading for meter in meters for reading in meter.read()}
    assert readings["gpu-amd0"].measured
    assert "gpu" not in readings
    assert [name for meter in meters for name in getattr(meter, "accelerators", ())] == ["AMD Instinct MI300X"]
    for meter in meters * 2:
        meter.close()
    assert smi.shut_down == 1
