"""Prometheus' own tool accepts the alert rules and the scrape configuration, and the rules fire when they should."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

FOLDER = Path(__file__).resolve().parents[2] / "deploy" / "prometheus"


@pytest.fixture
def promtool() -> str:
    found = shutil.which("promtool")
    if found is None:
        if os.environ.get("ERGONAUT_REQUIRE_PROMTOOL"):
            pytest.fail("promtool is not installed")
        pytest.skip("promtool is not installed; Debian has it in the package prometheus")
    return found


@pytest.mark.parametrize(
    "arguments",
    [
        ("check", "rules", "ergonaut.rules.yml"),
        ("check", "config", "prometheus.yml"),
        ("test", "rules", "ergonaut.test.yml"),
    ],
    ids=" ".join,
)
def test_promtool_finds_nothing_wrong(promtool: str, arguments: tuple[str, ...]) -> None:
    done = subprocess.run([promtool, *arguments], cwd=FOLDER, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_promtool_finds_nothing_wrong_with_what_is_done_to_a_clusters_pods(promtool: str, tmp_path: Path) -> None:
    # Debian builds Prometheus without Kubernetes, so all but the finding is checked.
    config = yaml.safe_load((FOLDER / "kubernetes.yml").read_text())
    for scrape in config["scrape_configs"]:
        assert [found["role"] for found in scrape.pop("kubernetes_sd_configs")] == ["pod"]
    config["rule_files"] = [str(FOLDER / name) for name in config["rule_files"]]
    (tmp_path / "found.yml").write_text(yaml.safe_dump(config))
    done = subprocess.run(
        [promtool, "check", "config", "found.yml"], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_alert_is_tested() -> None:
    rules, tests = ((FOLDER / name).read_text() for name in ("ergonaut.rules.yml", "ergonaut.test.yml"))
    alerts = [line.split(":")[1].strip() for line in rules.splitlines() if line.strip().startswith("- alert:")]
    assert len(alerts) >= 10
    assert [alert for alert in alerts if alert not in tests] == []
