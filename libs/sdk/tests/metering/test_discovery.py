"""The best meter reads each component, whoever wrote it, and one that fails keeps no other from reading."""

from collections.abc import Mapping, Sequence
from importlib import metadata
from pathlib import Path

import pytest

from ergonaut.events.telemetry import Method
from ergonaut.metering import Meter, NotMeasured, Reading, discover
from ergonaut.metering.discovery import entry_points
from ergonaut.metering.meters import HostContext, MeterFactory

ENTRY = """\
from ergonaut.events.telemetry import Method
from ergonaut.metering import Reading


class WallPlug:
    def read(self):
        return [Reading("cpu", Method.COUNTER, "somebody's own meter", 0.01, 42.0)]

    def users(self):
        return {}

    def close(self):
        pass


def open_meters(host):
    return [WallPlug()]
"""


class Fixed:
    """A meter that says what the test says, and can break."""

    def __init__(self, *readings: Reading, intermittent: bool = False) -> None:
        self.readings = readings
        self.intermittent = intermittent
        self.broken = False
        self.closed = 0

    def read(self) -> Sequence[Reading]:
        if self.broken:
            raise RuntimeError("the cable is out")
        return self.readings

    def users(self) -> Mapping[str, Mapping[int, float]]:
        if self.broken:
            raise RuntimeError("the cable is out")
        return {reading.component: {7: 1.0} for reading in self.readings}

    def close(self) -> None:
        self.closed += 1


def says(component: str, method: Method, joules: float | None = 1.0, spread: float | None = 0.1) -> Reading:
    return Reading(component, method, f"{component} by {method}", spread, joules)


def factories(**meters: Meter) -> dict[str, MeterFactory]:
    return {name: lambda _, meter=meter: [meter] for name, meter in meters.items()}  # type: ignore[misc]


def found(chosen: Sequence[Meter]) -> dict[str, Reading]:
    return {reading.component: reading for meter in chosen for reading in meter.read()}


COUNTED = says("cpu", Method.COUNTER)
MODELLED = says("cpu", Method.MODEL)


def test_a_counter_is_better_than_samples_and_those_than_a_model() -> None:
    meters = factories(model=Fixed(MODELLED), samples=Fixed(says("cpu", Method.POWER_SAMPLES)), counter=Fixed(COUNTED))
    assert found(discover(factories=meters))["cpu"] == COUNTED
    del meters["counter"]
    assert found(discover(factories=meters))["cpu"].method is Method.POWER_SAMPLES


def test_among_equals_the_narrower_range_is_better() -> None:
    narrow, wide = says("cpu", Method.COUNTER, spread=0.01), says("cpu", Method.COUNTER, spread=0.2)
    assert found(discover(factories=factories(wide=Fixed(wide), narrow=Fixed(narrow))))["cpu"] == narrow


def test_a_component_is_read_by_one_meter_only_and_the_others_are_closed() -> None:
    model = Fixed(MODELLED)
    chosen = discover(factories=factories(model=model, counter=Fixed(COUNTED, says("dram", Method.COUNTER))))
    components = [reading.component for meter in chosen for reading in meter.read()]
    assert sorted(components) == ["cpu", "dram", "gpu"]
    assert model.closed == 1


def test_a_meter_that_fails_to_open_breaks_no_other_and_is_told() -> None:
    def fails(host: HostContext) -> Sequence[Meter]:
        raise OSError("no such device")

    readings = found(discover(factories={"broken": fails, **factories(counter=Fixed(COUNTED))}))
    assert readings["cpu"] == COUNTED
    assert readings["broken"].method is Method.NOT_MEASURED
    assert "no such device" in readings["broken"].source


def test_a_meter_that_breaks_later_is_not_measured_from_then_on() -> None:
    meter = Fixed(COUNTED)
    chosen = discover(factories=factories(counter=meter, model=Fixed(says("dram", Method.MODEL))))
    meter.broken = True
    readings = found(chosen)
    assert (readings["cpu"].method, readings["cpu"].energy_joules) == (Method.NOT_MEASURED, None)
    assert "the cable is out" in readings["cpu"].source
    assert readings["dram"].measured
    assert all(users == {} for name, users in chosen[0].users().items() if name == "cpu")


def test_a_meter_that_breaks_while_it_is_closed_lets_the_others_be_closed() -> None:
    class Stuck(Fixed):
        def close(self) -> None:
            super().close()
            raise RuntimeError("the driver has gone")

    stuck, other = Stuck(COUNTED), Fixed(says("dram", Method.COUNTER))
    for meter in discover(factories=factories(stuck=stuck, other=other)):
        meter.close()
    assert (stuck.closed, other.closed) == (1, 1)


@pytest.mark.parametrize("joules", [float("nan"), float("inf")])
def test_a_figure_that_is_no_energy_is_not_measured(joules: float) -> None:
    meter = Fixed(COUNTED)
    chosen = discover(factories=factories(counter=meter))
    meter.readings = (says("cpu", Method.COUNTER, joules),)
    reading = found(chosen)["cpu"]
    assert (reading.method, reading.energy_joules) == (Method.NOT_MEASURED, None)
    assert "which is no energy" in reading.source
    model = Fixed(MODELLED)
    assert found(discover(factories=factories(counter=meter, model=model)))["cpu"].method is Method.MODEL


def test_users_that_are_no_weights_of_processes_are_nobody() -> None:
    class Confused(Fixed):
        def users(self) -> Mapping[str, Mapping[int, float]]:
            return {"cpu": {1: 2.0, 2: float("nan"), 3: -1.0}, "dram": {"init": 1.0}}  # type: ignore[dict-item]

    [meter] = [
        meter
        for meter in discover(factories=factories(confused=Confused(COUNTED)))
        if meter.read()[0].component == "cpu"
    ]
    assert meter.users() == {"cpu": {1: 2.0}}


def test_a_factory_that_returns_nothing_breaks_no_other() -> None:
    nothing = {"nothing": lambda _: None}
    readings = found(discover(factories={**nothing, **factories(counter=Fixed(COUNTED))}))  # type: ignore[dict-item]
    assert readings["cpu"] == COUNTED
    assert readings["nothing"].method is Method.NOT_MEASURED


def test_a_meter_that_reads_no_readings_breaks_no_other_and_is_told() -> None:
    junk = Fixed("42 W")  # type: ignore[arg-type]
    readings = found(discover(factories=factories(junk=junk, counter=Fixed(COUNTED))))
    assert readings["cpu"] == COUNTED
    assert "which is no Reading" in readings["junk"].source


def test_the_model_says_why_nothing_better_is_there() -> None:
    meters = factories(rapl=NotMeasured("cpu", "only root may read it"), model=Fixed(MODELLED))
    assert found(discover(factories=meters))["cpu"].source == f"{MODELLED.source}; only root may read it"


def test_what_nobody_reads_is_told_as_not_measured() -> None:
    readings = found(discover(factories={}))
    assert {name: reading.method for name, reading in readings.items()} == dict.fromkeys(
        ("cpu", "dram", "gpu"), Method.NOT_MEASURED
    )


def test_another_makers_missing_driver_is_not_told_where_there_is_a_card() -> None:
    meters = factories(nvml=NotMeasured("gpu", "no NVIDIA driver answers"), amd=Fixed(says("gpu-amd0", Method.COUNTER)))
    assert "gpu" not in found(discover(factories=meters))


def test_the_hosts_meter_stands_alone_where_all_else_is_a_model() -> None:
    meters = factories(wall=Fixed(says("platform", Method.POWER_SAMPLES)), model=Fixed(MODELLED))
    readings = found(discover(factories=meters))
    assert {name for name, reading in readings.items() if reading.measured} == {"platform"}


def test_the_hosts_meter_becomes_the_rest_beside_a_measured_part() -> None:
    meters = factories(wall=Fixed(says("platform", Method.POWER_SAMPLES)), rapl=Fixed(COUNTED))
    assert {"cpu", "rest"} <= set(found(discover(factories=meters)))
    assert "platform" not in found(discover(factories=meters))


def test_a_meter_that_reads_only_at_times_never_stands_alone() -> None:
    battery = Fixed(says("platform", Method.POWER_SAMPLES), intermittent=True)
    readings = found(discover(factories=factories(battery=battery, model=Fixed(MODELLED))))
    assert readings["cpu"].method is Method.MODEL
    assert readings["rest"].method is Method.POWER_SAMPLES


def test_a_distribution_of_anybodys_adds_a_meter_by_a_file_and_an_entry_point(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "wallplug_by_somebody.py").write_text(ENTRY)
    info = tmp_path / "wallplug-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: wallplug\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[ergonaut.meters]\nwallplug = wallplug_by_somebody:open_meters\n")
    monkeypatch.syspath_prepend(str(tmp_path))

    readings = found(discover(powercap=tmp_path))

    assert (readings["cpu"].source, readings["cpu"].energy_joules) == ("somebody's own meter", 42.0)


def test_a_distribution_that_cannot_be_imported_breaks_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    info = tmp_path / "gone-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: gone\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[ergonaut.meters]\ngone = no_such_module_anywhere:open_meters\n")
    monkeypatch.syspath_prepend(str(tmp_path))

    readings = found(discover(powercap=tmp_path))

    assert readings["cpu"].measured
    assert "no_such_module_anywhere" in readings["gone"].source


def test_every_meter_of_this_distribution_is_an_entry_point() -> None:
    folder = Path(metadata.distribution("ergonaut").locate_file("ergonaut/metering"))
    folder = folder if folder.exists() else Path(__file__).parents[2] / "src/ergonaut/metering"
    files = {path.stem for path in folder.glob("*.py") if "\ndef open_meters(" in path.read_text()}
    assert files == {name.replace("-", "_") for name in entry_points()}
