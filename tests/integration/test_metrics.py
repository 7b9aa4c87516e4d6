"""Every metric that a dashboard or an alert names is in a scrape of the running system, by the conventions of Prometheus."""

import json
import re
import urllib.request
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families
from servers import Installation, until, write_job

ROOT = Path(__file__).resolve().parents[2]
DASHBOARDS = sorted((ROOT / "deploy" / "grafana" / "dashboards").glob("*-prometheus.json"))
RULES = ROOT / "deploy" / "prometheus" / "ergonaut.rules.yml"

SUFFIXES = re.compile(r"_(total|bucket|sum|count)$")
UNITS = ("_seconds", "_watts", "_joules", "_grams_co2e", "_usd", "_bytes", "_ratio", "_fraction", "_grams_per_kwh")


@pytest.fixture(scope="module")
def families(system: Installation, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The type of every metric in the system, once a run is on its host."""
    folder = write_job(tmp_path_factory.mktemp("metrics") / "job", "import time\ntime.sleep(20)")
    system.cli("submit", str(folder), "--job-id", "scraped", "--no-watch")
    until(lambda: "ergonaut_run_info{" in scraped(system, "telemetry"), 60, "the agent shows the run")
    found = {}
    for service in system.addresses.services:
        for family in text_string_to_metric_families(scraped(system, service)):
            found[family.name] = family.type
    system.cli("cancel", "scraped")
    return found


def scraped(system: Installation, service: str) -> str:
    host, _, port = system.addresses.metrics[service].rpartition(":")
    with urllib.request.urlopen(f"http://{host}:{port}/metrics", timeout=10) as answer:
        return str(answer.read().decode())


def named() -> dict[str, set[str]]:
    """Where each metric is asked for."""
    places: dict[str, set[str]] = {}
    texts = {path.stem: " ".join(queries(path)) for path in DASHBOARDS} | {RULES.name: RULES.read_text()}
    for place, text in texts.items():
        for metric in re.findall(r"\bergonaut_\w+", text):
            places.setdefault(SUFFIXES.sub("", metric), set()).add(place)
    return places


def queries(path: Path) -> list[str]:
    board = json.loads(path.read_text())
    return [panel["targets"][0]["expr"] for panel in board["panels"]] + [
        variable["query"] for variable in board["templating"]["list"]
    ]


def test_every_metric_that_is_asked_for_is_in_a_scrape(families: dict[str, str]) -> None:
    assert {metric: sorted(places) for metric, places in named().items() if metric not in families} == {}


def test_every_metric_of_ours_bears_its_unit_and_our_name(families: dict[str, str]) -> None:
    ours = {name: kind for name, kind in families.items() if name.startswith("ergonaut_")}
    assert len(ours) > 25
    assert [name for name, kind in ours.items() if kind == "histogram" and not name.endswith("_seconds")] == []
    for word in ("power", "energy", "cost", "carbon", "intensity"):
        assert [name for name in ours if f"_{word}_" in name and not name.endswith(UNITS)] == []
