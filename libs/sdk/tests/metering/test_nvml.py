"""NVML is spoken to at the wire: a stand-in for the driver's module answers as the driver does."""

from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

from ergonaut.events.telemetry import Method
from ergonaut.metering import discover
from ergonaut.metering.nvml import NvmlMeter


class DriverError(Exception):
    def __init__(self, value: int, text: str) -> None:
        super().__init__(text)
        self.value = value


@dataclass
class Card:
    """What the driver knows of one card."""

    millijoules: int | None = None
    milliwatts: int = 0
    holders: list[Any] = field(default_factory=list)
    samples: list[Any] = field(default_factory=list)
    lost: bool = False


class Driver:
    """Has the functions of the module `pynvml` that the meter calls."""

    NVMLError = DriverError
    NVML_ERROR_NOT_SUPPORTED = 3

    def __init__(self, *cards: Card) -> None:
        self.cards = cards
        self.shut_down = 0

    def nvmlInit(self) -> None: ...

    def nvmlShutdown(self) -> None:
        self.shut_down += 1

    def nvmlDeviceGetCount(self) -> int:
        return len(self.cards)

    def nvmlDeviceGetHandleByIndex(self, index: int) -> Card:
        return self.cards[index]

    def nvmlDeviceGetName(self, card: Card) -> str:
        return "NVIDIA H200"

    def nvmlDeviceGetTotalEnergyConsumption(self, card: Card) -> int:
        if card.lost:
            raise DriverError(15, "GPU is lost")
        if card.millijoules is None:
            raise DriverError(self.NVML_ERROR_NOT_SUPPORTED, "Not Supported")
        return card.millijoules

    def nvmlDeviceGetPowerUsage(self, card: Card) -> int:
        return card.milliwatts

    def nvmlDeviceGetComputeRunningProcesses(self, card: Card) -> list[Any]:
        return card.holders

    def nvmlDeviceGetProcessUtilization(self, card: Card, since: int) -> list[Any]:
        newer = [sample for sample in card.samples if sample.timeStamp > since]
        if not newer:
            raise DriverError(6, "Not Found")
        return newer


def holder(pid: int, memory: int | None) -> Any:
    return SimpleNamespace(pid=pid, usedGpuMemory=memory)


def work(pid: int, at: int, percent: int) -> Any:
    return SimpleNamespace(pid=pid, timeStamp=at, smUtil=percent)


def test_each_card_with_a_counter_is_a_component_of_its_own() -> None:
    driver = Driver(Card(millijoules=5_000), Card(millijoules=70_500))
    readings = NvmlMeter(driver).read()
    assert [(reading.component, reading.method, reading.energy_joules) for reading in readings] == [
        ("gpu0", Method.COUNTER, 5.0),
        ("gpu1", Method.COUNTER, 70.5),
    ]


def test_power_is_summed_up_on_a_card_without_a_counter() -> None:
    card, now = Card(milliwatts=100_000), [10.0]
    meter = NvmlMeter(Driver(card), seconds=lambda: now[0])
    meter.read()
    now[0], card.milliwatts = 12.0, 300_000
    (reading,) = meter.read()
    assert (reading.method, reading.energy_joules) == (Method.POWER_SAMPLES, 400.0)


def test_a_card_that_is_lost_is_not_measured_and_says_why() -> None:
    card = Card(millijoules=5_000)
    meter = NvmlMeter(Driver(card))
    card.lost = True
    (reading,) = meter.read()
    assert (reading.method, reading.energy_joules) == (Method.NOT_MEASURED, None)
    assert "GPU is lost" in reading.source


def test_who_works_on_a_card_holds_it_and_past_work_counts_once() -> None:
    card = Card(0, holders=[holder(7, 100), holder(8, 900)], samples=[work(7, 1, 60), work(7, 2, 20), work(8, 2, 20)])
    meter = NvmlMeter(Driver(card))
    assert meter.users() == {"gpu0": {7: 80.0, 8: 20.0}}
    assert meter.users() == {"gpu0": {7: 100.0, 8: 900.0}}


def test_holders_count_alike_where_the_driver_hides_their_memory() -> None:
    meter = NvmlMeter(Driver(Card(0, holders=[holder(7, None), holder(8, None)])))
    assert meter.users() == {"gpu0": {7: 1.0, 8: 1.0}}


def test_a_driver_without_cards_is_not_measured_and_closed() -> None:
    driver = Driver()
    (reading,) = discover(nvml=driver)[-1].read()
    assert (reading.component, reading.method) == ("gpu", Method.NOT_MEASURED)
    assert driver.shut_down == 1


def test_closing_twice_shuts_the_driver_down_once() -> None:
    driver = Driver(Card(0))
    meter = NvmlMeter(driver)
    meter.close()
    meter.close()
    assert driver.shut_down == 1
