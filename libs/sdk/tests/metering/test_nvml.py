"""NVML is spoken to at the wire: a stand-in for the driver's module answers as the driver does."""

from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from ergonaut.events.telemetry import Method
from ergonaut.metering import discover, nvml_users
from ergonaut.metering.meters import NOBODYS_PID
from ergonaut.metering.nvml import NvmlMeter
from ergonaut.metering.powersum import GAP_SECONDS_MAX
from ergonaut.metering.visibility import PidVisibility


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
    off_the_bus: bool = False
    accounts: dict[int, Any] | None = None
    accounts_with_sums: bool = True
    slices: dict[int, int] = field(default_factory=dict)


@dataclass
class Slice:
    """A part of a card (MIG), which has a handle of its own."""

    instance: int
    size: int


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
        if self.cards[index].off_the_bus:
            raise DriverError(15, "GPU is lost")
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

    def nvmlDeviceGetGraphicsRunningProcesses(self, card: Card) -> list[Any]:
        return []

    def nvmlDeviceGetAccountingMode(self, card: Card) -> int:
        return 0 if card.accounts is None else 1

    def nvmlDeviceGetAccountingStats_v2(self, card: Card, pid: int) -> Any:
        if card.accounts is None or not card.accounts_with_sums:
            raise DriverError(self.NVML_ERROR_NOT_SUPPORTED, "Not Supported")
        return SimpleNamespace(sumGpuUtil=card.accounts[pid])

    def nvmlDeviceGetAccountingStats(self, card: Card, pid: int) -> Any:
        if card.accounts is None:
            raise DriverError(self.NVML_ERROR_NOT_SUPPORTED, "Not Supported")
        return card.accounts[pid]

    def nvmlDeviceGetMigMode(self, card: Card) -> list[int]:
        return [1, 1] if card.slices else [0, 0]

    def nvmlDeviceGetMaxMigDeviceCount(self, card: Card) -> int:
        return 7 if card.slices else 0

    def nvmlDeviceGetMigDeviceHandleByIndex(self, card: Card, index: int) -> Slice:
        slices = [Slice(instance, size) for instance, size in card.slices.items()]
        if index >= len(slices):
            raise DriverError(6, "Not Found")
        return slices[index]

    def nvmlDeviceGetGpuInstanceId(self, part: Slice) -> int:
        return part.instance

    def nvmlDeviceGetAttributes(self, part: Slice) -> Any:
        return SimpleNamespace(gpuInstanceSliceCount=part.size)

    def nvmlDeviceGetProcessUtilization(self, card: Card, since: int) -> list[Any]:
        if card.slices or card.accounts is not None:
            raise DriverError(self.NVML_ERROR_NOT_SUPPORTED, "Not Supported")
        newer = [sample for sample in card.samples if sample.timeStamp > since]
        if not newer:
            raise DriverError(6, "Not Found")
        return newer


def holder(pid: int, memory: int | None, instance: int = 0) -> Any:
    return SimpleNamespace(pid=pid, usedGpuMemory=memory, gpuInstanceId=instance)


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
    now[0] += GAP_SECONDS_MAX + 1
    (reading,) = meter.read()
    assert (reading.method, reading.energy_joules) == (Method.NOT_MEASURED, None)


def test_a_card_that_is_lost_is_not_measured_and_says_why() -> None:
    card = Card(millijoules=5_000)
    meter = NvmlMeter(Driver(card))
    card.lost = True
    (reading,) = meter.read()
    assert (reading.method, reading.energy_joules) == (Method.NOT_MEASURED, None)
    assert "GPU is lost" in reading.source


def test_a_card_that_was_lost_before_the_start_keeps_no_other_from_being_read() -> None:
    meter = NvmlMeter(Driver(Card(off_the_bus=True), Card(millijoules=2_000)))
    readings = {reading.component: reading for reading in meter.read()}
    assert readings["gpu0"].method is Method.NOT_MEASURED
    assert "GPU is lost" in readings["gpu0"].source
    assert readings["gpu1"].energy_joules == 2.0
    assert meter.accelerators == ("NVIDIA H200",)


def test_who_works_on_a_card_holds_it_and_past_work_counts_once() -> None:
    card = Card(0, holders=[holder(7, 100), holder(8, 900)], samples=[work(8, 1, 99)])
    meter = NvmlMeter(Driver(card))
    card.samples += [work(7, 2, 60), work(7, 3, 20), work(8, 3, 20)]
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


def test_a_process_that_ended_since_pays_for_the_work_it_did() -> None:
    card = Card(0, holders=[holder(8, 900)])
    meter = NvmlMeter(Driver(card))
    card.samples = [work(7, 1, 60), work(8, 1, 40)]
    assert meter.users() == {"gpu0": {7: 60.0, 8: 40.0}}


def test_accounting_tells_the_work_where_samples_do_not() -> None:
    card = Card(0, holders=[holder(7, 100), holder(8, 100)], accounts={7: 5000, 8: 900})
    meter = NvmlMeter(Driver(card))
    assert meter.users() == {"gpu0": {7: 100.0, 8: 100.0}}
    card.holders.append(holder(9, 100))
    card.accounts = {7: 5060, 8: 930, 9: 10}
    assert meter.users() == {"gpu0": {7: 60.0, 8: 30.0, 9: 10.0}}


def test_an_older_drivers_accounting_is_a_percentage_of_a_life(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr(nvml_users.time, "time", lambda: now[0])
    began = SimpleNamespace(gpuUtilization=50, startTime=0)
    late = SimpleNamespace(gpuUtilization=0, startTime=90_000_000)
    card = Card(0, holders=[holder(7, 1), holder(8, 1)], accounts={7: began, 8: late}, accounts_with_sums=False)
    meter = NvmlMeter(Driver(card))
    meter.users()
    now[0], late.gpuUtilization = 110.0, 25
    users = meter.users()["gpu0"]
    assert users[7] == pytest.approx(50 * 10e6)
    assert users[8] == pytest.approx(25 * 20e6)


def test_slices_share_the_cards_counter_by_their_size_and_say_so() -> None:
    holders = [holder(7, 300, instance=1), holder(8, 100, instance=1), holder(9, 5, instance=2)]
    meter = NvmlMeter(Driver(Card(0, holders=holders, slices={1: 4, 2: 3})))
    assert meter.users() == {"gpu0": {7: 3.0, 8: 1.0, 9: 3.0}}
    (reading,) = meter.read()
    assert "MIG" in reading.source


def test_a_slice_that_nobody_holds_is_nobodys() -> None:
    meter = NvmlMeter(Driver(Card(0, holders=[holder(7, 300, instance=1)], slices={1: 1, 2: 2, 3: 4})))
    assert meter.users() == {"gpu0": {7: 1.0, NOBODYS_PID: 6.0}}


class Namespace:
    """A container's /proc: its own process numbers, and which of them have the card open."""

    def __init__(self, root: Path) -> None:
        self.root = root
        (root / "self" / "ns").mkdir(parents=True)
        (root / "self" / "ns" / "pid").symlink_to("pid:[4026532200]")

    def put(self, pid: int, *, opens: str) -> None:
        (self.root / str(pid) / "fd").mkdir(parents=True)
        (self.root / str(pid) / "fd" / "3").symlink_to(opens)


def test_in_a_container_only_processes_that_have_the_card_open_are_believed(tmp_path: Path) -> None:
    proc = Namespace(tmp_path)
    proc.put(7, opens="/dev/nvidia0")
    proc.put(8, opens="/dev/null")
    card = Card(0, holders=[holder(7, 60), holder(8, 30), holder(4711, 10)])
    meter = NvmlMeter(Driver(card), PidVisibility(tmp_path))
    assert meter.users() == {"gpu0": {7: 60.0, -8: 30.0, -4711: 10.0}}
    (reading,) = meter.read()
    assert "charged to others" in reading.source


def test_an_older_module_without_the_newer_functions_is_enough() -> None:
    class Older(Driver):
        def __getattribute__(self, name: str) -> Any:
            if "Accounting" in name or "Mig" in name or "Graphics" in name:
                raise AttributeError(name)
            return super().__getattribute__(name)

    meter = NvmlMeter(Older(Card(5_000, holders=[holder(7, 60)])))
    assert meter.users() == {"gpu0": {7: 60.0}}
    assert meter.read()[0].energy_joules == 5.0


def test_two_cards_are_two_components_with_users_of_their_own() -> None:
    meter = NvmlMeter(Driver(Card(1, holders=[holder(7, 1)]), Card(2, holders=[holder(8, 1)])))
    assert meter.users() == {"gpu0": {7: 1.0}, "gpu1": {8: 1.0}}
    assert meter.accelerators == ("NVIDIA H200", "NVIDIA H200")


def test_a_driver_that_tells_no_processes_says_so_and_leaves_the_split_to_cpu_time() -> None:
    class Reticent(Driver):
        def nvmlDeviceGetComputeRunningProcesses(self, card: Card) -> list[Any]:
            raise DriverError(self.NVML_ERROR_NOT_SUPPORTED, "Not Supported")

        nvmlDeviceGetGraphicsRunningProcesses = nvmlDeviceGetComputeRunningProcesses  # noqa: N815 - NVML

    meter = NvmlMeter(Reticent(Card(millijoules=5_000)))
    assert meter.users() == {}
    (reading,) = meter.read()
    assert "who uses it is not told" in reading.source
    unused = NvmlMeter(Driver(Card(millijoules=5_000)))
    assert unused.users() == {"gpu0": {}}
    assert "not told" not in unused.read()[0].source
