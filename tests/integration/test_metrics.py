"""Every metric that a dashboard or an alert names is in a scrape of the running system, by the conventions of Prometheus."""

import json
import re
import urllib.request
from pathlib import Path

import pytest
import yaml
from prometheus_client import Metric
from prometheus_client.parser import text_string_to_metric_families
from servers import Installation, until, write_job

ROOT = Path(__file__).resolve().parents[2]
DASHBOARDS = sorted((ROOT / "deploy" / "grafana" / "dashboards").glob("*-prometheus.json"))
RULES = ROOT / "deploy" / "prometheus" / "ergonaut.rules.yml"
SCALING = ROOT / "deploy" / "k8s" / "components" / "gateway-keda" / "scaledobject.yaml"

SUFFIXES = re.compile(r"_(total|bucket|sum|count)$")
UNITS = ("_seconds", "_watts", "_joules", "_grams_co2e", "_usd", "_bytes", "_ratio", "_fraction", "_grams_per_kwh")


OF_THE_SCRAPE = {"instance", "job"}
"""Labels that Prometheus itself puts on every series."""

SELECTED = re.compile(r"\b(ergonaut_\w+)\{([^}]*)\}")
GROUPED = re.compile(r"\b(?:by|on|group_left)\s*\(([^)]*)\)|label_values\(.*,\s*(\w+)\)")


@pytest.fixture(scope="module")
def families(system: Installation, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Metric]:
    """Every metric in the system, once a run is on its host."""
    folder = write_job(tmp_path_factory.mktemp("metrics") / "job", "import time\ntime.sleep(20)")
    system.cli("submit", str(folder), "--job-id", "scraped", "--no-watch")
    until(lambda: "ergonaut_run_info{" in scraped(system, "telemetry"), 60, "the agent shows the run")
    found: dict[str, Metric] = {}
    for service in system.addresses.services:
        for family in text_string_to_metric_families(scraped(system, service)):
            samples = found[family.name].samples if family.name in found else []
            family.samples = [*samples, *family.samples]
            found[family.name] = family
    system.cli("cancel", "scraped")
    return found


def scraped(system: Installation, service: str) -> str:
    host, _, port = system.addresses.metrics[service].rpartition(":")
    with urllib.request.urlopen(f"http://{host}:{port}/metrics", timeout=30) as answer:
        return str(answer.read().decode())


def labels_of(metric: str, families: dict[str, Metric]) -> set[str] | None:
    """Those that a metric's series bear; None where it has no series yet, as a count of failures that did not occur."""
    samples = families[SUFFIXES.sub("", metric)].samples
    return OF_THE_SCRAPE.union(*(sample.labels for sample in samples)) if samples else None


def strange_labels(query: str, families: dict[str, Metric]) -> set[str]:
    """What a query selects or groups by, and none of its metrics bears."""
    known = [labels_of(metric, families) for metric in re.findall(r"\bergonaut_\w+", query)]
    strange = set()
    for metric, matchers in SELECTED.findall(query):
        if (labels := labels_of(metric, families)) is not None:
            strange |= set(re.findall(r"(\w+)\s*(?:=~|!~|!=|=)", matchers)) - labels
    if known and None not in known:
        grouped = {label for groups in GROUPED.findall(query) for label in re.findall(r"\w+", " ".join(groups))}
        strange |= grouped - set().union(*(labels for labels in known if labels))
    return strange


def named() -> dict[str, set[str]]:
    """Where each metric is asked for."""
    places: dict[str, set[str]] = {}
    texts = {path.stem: " ".join(queries(path)) for path in DASHBOARDS}
    texts |= {path.name: path.read_text() for path in (RULES, SCALING)}
    for place, text in texts.items():
        for metric in re.findall(r"\bergonaut_\w+", text):
            places.setdefault(SUFFIXES.sub("", metric), set()).add(place)
    return places


def queries(path: Path) -> list[str]:
    board = json.loads(path.read_text())
    return [panel["targets"][0]["expr"] for panel in board["panels"]] + [
        variable["query"] for variable in board["templating"]["list"]
    ]


def alerting() -> list[str]:
    return [rule["expr"] for group in yaml.safe_load(RULES.read_text())["groups"] for rule in group["rules"]]


def test_every_metric_that_is_asked_for_is_in_a_scrape(families: dict[str, Metric]) -> None:
    assert {metric: sorted(places) for metric, places in named().items() if metric not in families} == {}


def test_every_label_that_is_asked_for_is_on_its_metric(families: dict[str, Metric]) -> None:
    asked = [query for path in DASHBOARDS for query in queries(path)] + alerting()
    assert {query: strange for query in asked if (strange := strange_labels(query, families))} == {}


def test_a_label_that_no_series_bears_is_seen(families: dict[str, Metric]) -> None:
    assert strange_labels('sum by (host) (ergonaut_power_watts{tenants=~"a"})', families) == {"host", "tenants"}
    assert strange_labels("label_values(ergonaut_run_info, runs)", families) == {"runs"}


def test_every_metric_of_ours_bears_its_unit_and_our_name(families: dict[str, Metric]) -> None:
    ours = {name: family.type for name, family in families.items() if name.startswith("ergonaut_")}
    assert len(ours) > 25
    assert [
        name for name, kind in ours.items() if kind == "histogram" and not name.endswith(("_seconds", "_rows"))
    ] == []
    for word in ("power", "energy", "cost", "carbon", "intensity"):
        assert [name for name in ours if f"_{word}_" in name and not name.endswith(UNITS)] == []
