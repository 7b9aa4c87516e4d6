"""What is exported to MLflow, W&B, TensorBoard and Neptune is read back by those themselves, with no network."""

import json
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import ergonaut
from ergonaut.integrations.mlflow import MlflowExporter
from ergonaut.integrations.wandb import WandbExporter
from ergonaut.tracking import RunSummary
from ergonaut.tracking.exporting import Exporter

ENERGY, ACCURACY = "ergonaut/energy_joules", "ergonaut/metrics/accuracy"
pytestmark = pytest.mark.filterwarnings("default")


def work(*exporters: Any) -> RunSummary:
    with ergonaut.track(name="exported", exporters=exporters) as run:
        until = time.process_time() + 0.6
        while time.process_time() < until:
            pass
        run.metric("accuracy", 0.5)
    assert run.summary is not None
    assert run.summary.energy_joules is not None
    return run.summary


class Counting:
    """An exporter within which another is told that its footprints have been handed on."""

    def __init__(self, exporter: Exporter) -> None:
        self._exporter = exporter
        self._progressed = threading.Event()

    def begin(self, summary: RunSummary) -> None:
        self._exporter.begin(summary)

    def progress(self, summary: RunSummary) -> None:
        self._exporter.progress(summary)
        self._progressed.set()

    def finish(self, summary: RunSummary) -> None:
        self._exporter.finish(summary)

    def wait_for_progress(self) -> None:
        """Wait for one that begins after this is asked; the first that ends may have been under way."""
        for _ in range(2):
            self._progressed.clear()
            assert self._progressed.wait(20)


@pytest.fixture
def mlflow(home: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    library = pytest.importorskip("mlflow", reason="run by make test-ml, which installs mlflow")
    library.set_tracking_uri(f"sqlite:///{home}/mlflow.db")
    library.set_experiment("tests")
    return library


def test_a_run_of_its_own_is_in_mlflow_with_curves_and_facts(mlflow: Any) -> None:
    summary = work("mlflow")
    client = mlflow.MlflowClient()
    experiment = client.get_experiment_by_name("tests")
    (run,) = client.search_runs([experiment.experiment_id])
    assert (run.info.run_name, run.info.status) == ("exported", "FINISHED")
    assert run.data.metrics[ENERGY] == pytest.approx(summary.energy_joules)
    assert run.data.metrics[ACCURACY] == 0.5
    assert run.data.tags["ergonaut/run_id"] == summary.run_id
    assert run.data.tags["ergonaut/cpu_method"].split(":")[0] in ("model", "counter", "power-samples")
    assert "ergonaut/cost_usd" not in run.data.metrics, "what is not known is left out, never 0"
    values = [point.value for point in client.get_metric_history(run.info.run_id, ENERGY)]
    assert len(values) >= 2
    assert values == sorted(values)


def test_the_programs_own_mlflow_run_is_added_to_and_left_open(mlflow: Any) -> None:
    with mlflow.start_run() as own:
        summary = work("mlflow")
        assert mlflow.active_run().info.status == "RUNNING"
    run = mlflow.MlflowClient().get_run(own.info.run_id)
    assert run.data.metrics[ENERGY] == pytest.approx(summary.energy_joules)
    assert run.info.status == "FINISHED"


ODD_NAMES = {
    "top@5": 0.5,
    "top_5": 0.25,
    "map[0.5]": 0.75,
    "error %": 3.0,
    "train": 1.0,
    "train/loss": 2.0,
    "../up": 4.0,
}


def test_metrics_with_names_that_mlflow_does_not_take_lose_nothing(mlflow: Any) -> None:
    with ergonaut.track(exporters=["mlflow"]) as run:
        for name, value in ODD_NAMES.items():
            run.metric(name, value)
        run.metric("gradient", float("nan"))
    (kept,) = mlflow.MlflowClient().search_runs([mlflow.get_experiment_by_name("tests").experiment_id])
    assert kept.info.status == "FINISHED"
    assert kept.data.metrics["ergonaut/duration_seconds"] > 0
    assert {name.removeprefix("ergonaut/metrics/"): value for name, value in kept.data.metrics.items()}.items() >= {
        "top_5_2": 0.5, "top_5": 0.25, "map_0.5_": 0.75, "error _": 3.0, "train": 1.0, "train_loss": 2.0, "_/up": 4.0,
    }.items()  # fmt: skip


def test_a_run_of_its_own_in_mlflow_ends_though_nothing_could_be_written(mlflow: Any) -> None:
    class Forgetting(MlflowExporter):
        def progress(self, summary: RunSummary) -> None:
            raise RuntimeError("no room")

    with ergonaut.track(exporters=[Forgetting()]):
        pass
    (kept,) = mlflow.MlflowClient().search_runs([mlflow.get_experiment_by_name("tests").experiment_id])
    assert kept.info.status == "FINISHED"


# An offline run is a log of LevelDB's format (blocks of 32 KiB; checksum, length, type) behind seven bytes of W&B's own.
BLOCK_BYTES, HEADER_BYTES, OWN_BYTES = 32 * 1024, 7, 7
WHOLE, LAST = 1, 4


def records_of(file: Path) -> Iterator[bytes]:
    content, at, parts = file.read_bytes(), OWN_BYTES, b""
    assert content.startswith(b":W&B")
    while at + HEADER_BYTES <= len(content):
        left_in_block = BLOCK_BYTES - at % BLOCK_BYTES
        if left_in_block < HEADER_BYTES:
            at += left_in_block
            continue
        _checksum, length, kind = struct.unpack_from("<IHB", content, at)
        parts += content[at + HEADER_BYTES : at + HEADER_BYTES + length]
        at += HEADER_BYTES + length
        if kind in (WHOLE, LAST):
            yield parts
            parts = b""


def history_in(home: Path) -> list[dict[str, float]]:
    """The rows of the only offline run of W&B there is, as its own messages tell them."""
    import wandb
    from wandb.proto import wandb_internal_pb2

    # Its process may write for a while after the run has finished.
    wandb.teardown()
    (file,) = home.glob("wandb/offline-run-*/*.wandb")
    rows = []
    for block in records_of(file):
        record = wandb_internal_pb2.Record.FromString(block)
        if record.WhichOneof("record_type") == "history":
            items = record.history.item
            rows.append({item.key or "/".join(item.nested_key): json.loads(item.value_json) for item in items})
    return rows


@pytest.fixture
def wandb(home: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    library = pytest.importorskip("wandb", reason="run by make test-ml, which installs wandb")
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_DIR", str(home))
    yield library
    # It reads the environment once and keeps that.
    library.teardown()


def test_a_run_is_in_weights_and_biases_offline(wandb: Any, home: Path) -> None:
    summary = work("wandb")
    rows = [row for row in history_in(home) if ENERGY in row]
    assert len(rows) >= 2
    assert rows[-1][ENERGY] == pytest.approx(summary.energy_joules)
    assert rows[-1][ACCURACY] == 0.5
    assert "ergonaut/cost_usd" not in rows[-1]


def test_the_steps_of_the_programs_own_wandb_run_stay_its_own(wandb: Any, home: Path) -> None:
    exporter = Counting(WandbExporter())
    with wandb.init(project="own") as own, ergonaut.track(exporters=[exporter]) as run:
        for step in range(3):
            exporter.wait_for_progress()
            own.log({"loss": 1.0 / (step + 1)}, step=step)
    assert run.summary is not None
    rows = history_in(home)
    assert [(row["_step"], row.get("loss")) for row in rows] == [(0, 1.0), (1, 0.5), (2, pytest.approx(1 / 3))]
    assert rows[-1][ENERGY] == pytest.approx(run.summary.energy_joules)
    assert all("ergonaut/duration_seconds" in row for row in rows)


def test_a_wandb_run_that_the_program_opens_later_is_its_own_and_gets_the_figures(wandb: Any, home: Path) -> None:
    exporter = Counting(WandbExporter())
    with ergonaut.track(exporters=[exporter]):
        exporter.wait_for_progress()
        with wandb.init(project="own", config={"rate": 0.1}) as own:
            assert (own.project, own.config["rate"]) == ("own", 0.1)
            own.log({"loss": 1.0}, step=0)
            exporter.wait_for_progress()
            own.log({"loss": 0.5}, step=1)
    rows = history_in(home)
    assert [(row["_step"], row["loss"]) for row in rows] == [(0, 1.0), (1, 0.5)]
    assert ENERGY in rows[0], "what came while that row was open"


def test_runs_that_share_an_exporter_are_each_in_weights_and_biases(wandb: Any, home: Path) -> None:
    exporter = WandbExporter()
    names = {work(exporter).run_id for _ in range(2)}
    wandb.teardown()
    assert {file.stem.removeprefix("run-") for file in home.glob("wandb/offline-run-*/*.wandb")} == names


def test_a_program_that_the_command_tracks_is_in_weights_and_biases_while_it_goes_on(wandb: Any, home: Path) -> None:
    look = "import pathlib, sys; sys.exit(not list(pathlib.Path('wandb').glob('offline-run-*')))"
    command = [sys.executable, "-m", "ergonaut", "track", "--export", "wandb", "--", sys.executable, "-c", look]
    assert subprocess.run(command, cwd=home, check=False).returncode == 0
    assert any(ENERGY in row for row in history_in(home))


def test_a_run_is_in_tensorboard(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    accumulators = pytest.importorskip(
        "tensorboard.backend.event_processing.event_accumulator", reason="run by make test-ml, which installs it"
    )
    monkeypatch.setenv("ERGONAUT_TENSORBOARD_FOLDER", str(home / "board"))
    summary = work("tensorboard")
    events = accumulators.EventAccumulator(str(home / "board" / summary.run_id))
    events.Reload()
    values = [event.value for event in events.Scalars(ENERGY)]
    assert len(values) >= 2
    assert values == sorted(values)
    assert values[-1] == pytest.approx(summary.energy_joules, rel=1e-6)
    assert "ergonaut/cost_usd" not in events.Tags()["scalars"]
    (facts,) = events.Tensors("ergonaut/facts")
    assert summary.run_id in facts.tensor_proto.string_val[0].decode()


def test_metrics_with_names_that_are_folders_of_others_lose_nothing_in_neptune(
    home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("neptune", reason="run by make test-ml, which installs neptune")
    monkeypatch.setenv("NEPTUNE_MODE", "offline")
    with ergonaut.track(exporters=["neptune"]) as run:
        for name, value in (ODD_NAMES | {"end/": 5.0}).items():
            run.metric(name, value)
    assert "failed" not in capsys.readouterr().err
    written = [path for path in (home / ".neptune").rglob("*.log") if path.is_file()]
    text = b"\n".join(path.read_bytes() for path in written).decode(errors="replace")
    assert '"train_loss"' in text
    assert '"top@5"' in text


def test_a_run_is_in_neptune_offline(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("neptune", reason="run by make test-ml, which installs neptune")
    monkeypatch.setenv("NEPTUNE_MODE", "offline")
    summary = work("neptune")
    written = [path for path in (home / ".neptune").rglob("*") if path.is_file()]
    text = b"\n".join(path.read_bytes() for path in written if path.suffix == ".log").decode(errors="replace")
    assert summary.run_id in text
    assert '"energy_joules"' in text
    assert str(summary.energy_joules) in text
