"""Exports runs to Prometheus: a file for node_exporter's textfile collector, a port of this machine, or a push gateway.

Which of them follows from ERGONAUT_PROMETHEUS_FOLDER, ERGONAUT_PROMETHEUS_PORT and ERGONAUT_PROMETHEUS_PUSH_URL; with none
of them the file is written to ERGONAUT_EXPORT_FOLDER. Names follow Prometheus' conventions: base units, `_total` for counters.
"""

import contextlib
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ergonaut.errors import Refused
from ergonaut.integrations.figures import export_folder
from ergonaut.tracking.exporting import needed
from ergonaut.tracking.summary import RunSummary

PORT_VARIABLE = "ERGONAUT_PROMETHEUS_PORT"
PUSH_VARIABLE = "ERGONAUT_PROMETHEUS_PUSH_URL"
FOLDER_VARIABLE = "ERGONAUT_PROMETHEUS_FOLDER"
# Only this machine may ask: a footprint tells what somebody works on.
_ADDRESS = "127.0.0.1"
# The collector reads every file for ever, so those of runs that ended an hour ago are removed by the next run.
_KEPT_SECONDS = 3600.0
_PUSH_TIMEOUT_SECONDS = 3.0


class PrometheusExporter:
    """Shows the newest footprint of a run as counters; what was not measured is absent, never 0."""

    def __init__(self, folder: Path | None = None, port: int | None = None, push_url: str = "") -> None:
        named = os.environ.get(FOLDER_VARIABLE, "")
        self._port = port if port is not None else _port_from_environment()
        self._push_url = push_url or os.environ.get(PUSH_VARIABLE, "")
        self._folder = folder or (Path(named) if named else None)
        self._server: tuple[Any, Any] | None = None
        self._registry: Any = None
        self._newest: RunSummary | None = None

    def begin(self, summary: RunSummary) -> None:
        """Open the port, or find the folder. Raises Refused without prometheus-client, OSError where the port is taken."""
        client = needed("prometheus_client", "prometheus")
        self._registry = client.CollectorRegistry()
        self._registry.register(self)
        if self._port is not None:
            self._server = client.start_http_server(self._port, _ADDRESS, self._registry)
        try:
            if self._folder is not None or (self._port is None and not self._push_url):
                self._folder = export_folder(self._folder)
                _remove_old(self._folder)
            self.progress(summary)
        except Exception:
            self._close()
            raise

    @property
    def port(self) -> int | None:
        """Where Prometheus may scrape while the run goes on; None where no port was asked for."""
        return self._server[0].server_port if self._server is not None else None

    def progress(self, summary: RunSummary) -> None:
        self._newest = summary
        client = needed("prometheus_client", "prometheus")
        if self._folder is not None:
            client.write_to_textfile(str(self._folder / f"ergonaut-{summary.run_id}.prom"), self._registry)
        if self._push_url:
            client.push_to_gateway(
                self._push_url,
                job="ergonaut",
                registry=self._registry,
                grouping_key={"run_id": summary.run_id},
                timeout=_PUSH_TIMEOUT_SECONDS,
            )

    def finish(self, summary: RunSummary) -> None:
        try:
            self.progress(summary)
        finally:
            self._close()

    def _close(self) -> None:
        if self._server is not None:
            server, thread = self._server
            server.shutdown()
            server.server_close()
            thread.join()

    def collect(self) -> Iterator[Any]:
        """What prometheus-client asks of a collector: every metric with its newest value."""
        if self._newest is not None:
            yield from _families(self._newest)


def _families(summary: RunSummary) -> Iterator[Any]:
    core = needed("prometheus_client.core", "prometheus")
    who = {"run_id": summary.run_id, "name": summary.name, "project": summary.project}
    counters = (
        ("ergonaut_run_energy_joules", "Energy that a component used for the run.", "energy_joules"),
        ("ergonaut_run_carbon_grams", "CO2e of that energy, grams.", "carbon_grams_co2e"),
        ("ergonaut_run_cost_usd", "Cost of electricity or of the machine, US dollars.", "cost_usd"),
    )
    for name, what, field in counters:
        family = core.CounterMetricFamily(name, what, labels=[*who, "component", "method"])
        for item in summary.components:
            if (figure := getattr(item, field)) is not None:
                family.add_metric([*who.values(), item.component, item.method.value], figure)
        yield family
    duration = core.GaugeMetricFamily("ergonaut_run_duration_seconds", "How long the run has taken.", labels=[*who])
    duration.add_metric([*who.values()], summary.duration_seconds)
    yield duration
    metrics = core.GaugeMetricFamily("ergonaut_run_metric", "What the run told or counted.", labels=[*who, "metric"])
    for name, value in summary.metrics.items():
        metrics.add_metric([*who.values(), name], value)
    yield metrics
    ended = core.GaugeMetricFamily("ergonaut_run_ended", "1 once the run has ended, by how.", labels=[*who, "state"])
    ended.add_metric([*who.values(), summary.state.value if summary.state else "under way"], float(bool(summary.state)))
    yield ended


def _remove_old(folder: Path) -> None:
    for file in folder.glob("ergonaut-run-*.prom"):
        # Another run that begins may have removed it meanwhile.
        with contextlib.suppress(FileNotFoundError):
            if time.time() - file.stat().st_mtime > _KEPT_SECONDS:
                file.unlink()


def _port_from_environment() -> int | None:
    text = os.environ.get(PORT_VARIABLE, "").strip()
    if not text:
        return None
    if not text.isdecimal() or int(text) >= 1 << 16:
        raise Refused(f"{text!r} is no port", field=PORT_VARIABLE)
    return int(text)
