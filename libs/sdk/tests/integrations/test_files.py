"""What is exported to files is read back by the tools that people read such files with, and says the same as the summary."""

import csv
import json
import math
import os
import resource
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pyarrow.compute
import pyarrow.parquet
import pytest
from prometheus_client.parser import text_string_to_metric_families

import ergonaut
from ergonaut.errors import Refused
from ergonaut.integrations.csvfile import COLUMNS, FILE, CsvExporter
from ergonaut.integrations.jsonfile import JsonExporter
from ergonaut.integrations.parquet import SUMMARY_KEY, ParquetExporter
from ergonaut.integrations.prometheus import PrometheusExporter
from ergonaut.journal import all_entries
from ergonaut.tracking import RunSummary
from ergonaut.tracking.summary import summary_of

Work = Callable[..., RunSummary]


def test_each_run_is_a_row_of_the_csv_file(folder: Path, worked: Work) -> None:
    summaries = [worked(exporters=["csv"], project="vision") for _ in range(2)]
    with (folder / FILE).open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["run_id"] for row in rows] == [summary.run_id for summary in summaries]
    row, summary = rows[0], summaries[0]
    assert float(row["energy_joules"]) == summary.energy_joules
    assert (row["project"], row["state"], row["intensity_kind"]) == ("vision", "succeeded", "world-average")
    assert row["cost_usd"] == "", "what is not known is empty, never 0"
    assert json.loads(row["metrics"]) == {"accuracy": 0.5, "tokens": 100}
    methods = {item["component"]: item["method"] for item in json.loads(row["components"])}
    assert methods == {"cpu": "model", "gpu": "not-measured"}


@contextmanager
def files_of_at_most(size_bytes: int) -> Iterator[None]:
    """Let no file of this process grow further, as on a full disk; only so long, since the tests' own output may be one."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size_bytes, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_row_for_which_there_is_no_room_leaves_none_of_it(folder: Path, worked: Work) -> None:
    summary = worked(exporters=["csv"])
    before = (folder / FILE).read_bytes()
    with files_of_at_most(len(before) + 50), pytest.raises(OSError, match="No space left"):
        CsvExporter().finish(summary)
    assert (folder / FILE).read_bytes() == before


def test_a_file_for_which_there_is_no_room_leaves_nothing_behind(folder: Path, worked: Work) -> None:
    summary = worked()
    for exporter in (JsonExporter(), ParquetExporter()):
        with files_of_at_most(50), pytest.raises(OSError, match="File too large"):
            exporter.finish(summary)
    assert list(folder.iterdir()) == []


def test_programs_that_begin_a_csv_file_at_once_write_one_heading(folder: Path) -> None:
    program = "import ergonaut\nwith ergonaut.track(exporters=['csv']): pass"
    programs = [subprocess.Popen([sys.executable, "-c", program], env=os.environ) for _ in range(4)]
    assert [each.wait() for each in programs] == [0, 0, 0, 0]
    lines = (folder / FILE).read_text().splitlines()
    assert len(lines) == 5
    assert [line.startswith("run_id,") for line in lines].count(True) == 1
    assert lines[0] == ",".join(COLUMNS)


def test_a_run_is_a_json_file_while_it_goes_on_and_at_its_end(folder: Path) -> None:
    with ergonaut.track(exporters=["json"]) as run:
        file = folder / f"{run.run_id}.json"
        begun = json.loads(file.read_text())
        deadline = time.monotonic() + 10
        while json.loads(file.read_text())["energy_joules"] is None and time.monotonic() < deadline:
            time.sleep(0.02)
        assert json.loads(file.read_text())["energy_joules"] is not None
    ended = json.loads(file.read_text())
    assert run.summary is not None
    assert (begun["state"], ended["state"]) == (None, "succeeded")
    assert ended == json.loads(json.dumps(run.summary.to_json()))
    assert [each.name for each in folder.iterdir()] == [file.name]


def test_a_parquet_file_holds_every_sample_and_the_summary(folder: Path, worked: Work) -> None:
    summary = worked(exporters=["parquet"])
    table = pyarrow.parquet.read_table(folder / f"{summary.run_id}.parquet")
    joules = pyarrow.compute.sum(table["energy_joules"]).as_py()
    assert joules == pytest.approx(summary.energy_joules)
    assert set(table["component"].to_pylist()) == {"cpu", "gpu"}
    assert table.filter(pyarrow.compute.field("component") == "gpu")["energy_joules"].null_count > 0
    assert all(row["started_at"] <= row["ended_at"] for row in table.to_pylist())
    assert json.loads(table.schema.metadata[SUMMARY_KEY])["run_id"] == summary.run_id


def strictly(text: str | bytes) -> Any:
    """JSON as other languages read it, which know no NaN and no Infinity."""

    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is no JSON")

    return json.loads(text, parse_constant=refuse)


def test_a_figure_that_is_not_finite_is_null_in_every_file_and_the_same_when_the_journal_is_read_back(
    folder: Path,
) -> None:
    with ergonaut.track(exporters=["csv", "json", "parquet", "prometheus"]) as run:
        run.metric("loss", 0.5)
        run.metric("loss", math.nan)
        run.metric("perplexity", math.inf)
        run.metric("accuracy", 0.25)
    known = {"loss": None, "perplexity": None, "accuracy": 0.25}
    summary = run.summary
    assert summary is not None
    assert strictly((folder / f"{run.run_id}.json").read_text())["metrics"] == known
    with (folder / FILE).open(newline="") as file:
        assert strictly(next(csv.DictReader(file))["metrics"]) == known
    table = pyarrow.parquet.read_table(folder / f"{run.run_id}.parquet")
    assert strictly(table.schema.metadata[SUMMARY_KEY])["metrics"] == known
    samples = samples_of((folder / f"ergonaut-{run.run_id}.prom").read_text())
    assert samples["ergonaut_run_metric", "accuracy"] == 0.25
    assert summary.journal is not None
    lines = [strictly(line) for line in summary.journal.read_text().splitlines()]
    assert [line.get("value") for line in lines if line.get("name") == "loss"] == [0.5, None]
    read_back = summary_of(all_entries(summary.journal), summary.journal)
    assert read_back is not None
    assert strictly(json.dumps(read_back.to_json()))["metrics"] == known


def samples_of(text: str) -> dict[tuple[str, str], float]:
    """Each sample by its name and its component, metric or state."""
    return {
        (sample.name, next((sample.labels[key] for key in ("component", "metric", "state") if key in sample.labels), "")):
        sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }  # fmt: skip


def test_a_textfile_for_node_exporter_tells_the_run_and_leaves_out_what_is_not_measured(
    folder: Path, worked: Work
) -> None:
    old = folder / "ergonaut-run-old.prom"
    folder.mkdir()
    old.write_text("")
    os.utime(old, (0, 0))
    gone = folder / "ergonaut-run-gone.prom"
    gone.symlink_to("what another run has just removed")
    summary = worked(exporters=["prometheus"])
    samples = samples_of((folder / f"ergonaut-{summary.run_id}.prom").read_text())
    assert samples["ergonaut_run_energy_joules_total", "cpu"] == pytest.approx(summary.energy_joules)
    assert ("ergonaut_run_energy_joules_total", "gpu") not in samples
    assert not [key for key in samples if key[0] == "ergonaut_run_cost_usd_total"]
    assert samples["ergonaut_run_metric", "tokens"] == 100
    assert samples["ergonaut_run_ended", "succeeded"] == 1
    assert not old.exists()
    assert set(folder.iterdir()) == {gone, folder / f"ergonaut-{summary.run_id}.prom"}


def test_a_port_of_this_machine_answers_while_the_run_goes_on_and_is_closed_after(folder: Path) -> None:
    exporter = PrometheusExporter(port=0)
    with ergonaut.track(exporters=[exporter]) as run:
        url = f"http://127.0.0.1:{exporter.port}/metrics"
        with urllib.request.urlopen(url, timeout=30) as answer:
            text = answer.read().decode()
        assert f'run_id="{run.run_id}"' in text
    with pytest.raises(OSError, match="refused"):
        urllib.request.urlopen(url, timeout=30)


def test_a_port_is_closed_though_the_push_gateway_is_away(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        exporter = PrometheusExporter(port=0, push_url=f"http://127.0.0.1:{nobody.getsockname()[1]}")
        with ergonaut.track(exporters=[exporter]):
            pass
    assert capsys.readouterr().err.count("PrometheusExporter failed") == 1
    with pytest.raises(OSError, match="refused"):
        urllib.request.urlopen(f"http://127.0.0.1:{exporter.port}/metrics", timeout=30)


def test_a_push_gateway_is_pushed_to(folder: Path, worked: Work) -> None:
    pushed: list[tuple[str, str]] = []

    class Gateway(BaseHTTPRequestHandler):
        def do_PUT(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            pushed.append((self.path, body.decode()))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Gateway)
    Thread(target=server.serve_forever, daemon=True).start()
    try:
        summary = worked(exporters=[PrometheusExporter(push_url=f"http://127.0.0.1:{server.server_port}")])
    finally:
        server.shutdown()
        server.server_close()
    path, text = pushed[-1]
    assert path == f"/metrics/job/ergonaut/run_id/{summary.run_id}"
    assert samples_of(text)["ergonaut_run_energy_joules_total", "cpu"] == pytest.approx(summary.energy_joules)


def test_a_port_that_is_none_is_refused_by_its_variable(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ERGONAUT_PROMETHEUS_PORT", "high")
    with pytest.raises(Refused, match="ERGONAUT_PROMETHEUS_PORT"), ergonaut.track(exporters=["prometheus"]):
        pass
