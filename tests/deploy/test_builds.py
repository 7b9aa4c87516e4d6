"""The Dockerfile and the Tiltfile follow the workspace. Neither a Docker daemon nor Tilt is needed to see that."""

import ast
import re
import tomllib

from manifests import ROOT

DOCKERFILE = (ROOT / "deploy" / "Dockerfile").read_text()
TILTFILE = (ROOT / "Tiltfile").read_text()
TILTFILE_LINES_MAX = 60


def test_what_the_image_copies_is_there_and_reaches_the_builder() -> None:
    copied = [name for line in re.findall(r"^COPY (?!--)(.+)$", DOCKERFILE, re.MULTILINE) for name in line.split()[:-1]]
    let_through = re.findall(r"^!(.+)$", (ROOT / ".dockerignore").read_text(), re.MULTILINE)
    assert copied
    assert set(copied) == set(let_through)
    assert [name for name in copied if not (ROOT / name).exists()] == []


def test_the_image_has_the_workspaces_python_and_uv() -> None:
    version = (ROOT / ".python-version").read_text().strip()
    assert set(re.findall(r"^FROM python:(\S+)-slim", DOCKERFILE, re.MULTILINE)) == {version}
    uv = re.search(r"uv==([\d.]+)", (ROOT / "Makefile").read_text())
    assert uv is not None
    assert f"uv=={uv[1]}" in DOCKERFILE


def test_a_service_has_all_its_extras_in_its_image() -> None:
    (sync,) = re.findall(r"^ +uv sync (.+)$", DOCKERFILE, re.MULTILINE)
    assert {"--frozen", "--all-extras", "--package"} <= set(sync.split())
    extras = tomllib.loads((ROOT / "services" / "gateway" / "pyproject.toml").read_text())["project"]
    assert any(each.startswith("onnx>") for each in extras["optional-dependencies"]["fusing"])


def test_the_image_runs_without_root_and_holds_no_secret() -> None:
    last_stage = DOCKERFILE.rpartition("\nFROM ")[2]
    assert "USER 10001:10001" in last_stage
    assert not re.search(r"^(ENV|ARG) .*(KEY|PASSWORD|TOKEN|SECRET)", DOCKERFILE, re.MULTILINE)
    assert not re.search(r"^(HEALTHCHECK|ADD) ", DOCKERFILE, re.MULTILINE)


def test_the_tiltfile_is_short_and_can_be_read() -> None:
    assert TILTFILE.count("\n") <= TILTFILE_LINES_MAX
    tree = ast.parse(TILTFILE)
    # Starlark has neither of these; Python would let them pass.
    forbidden = (ast.Import, ast.ImportFrom, ast.ClassDef, ast.Try, ast.While, ast.With, ast.JoinedStr, ast.Set)
    assert [type(node).__name__ for node in ast.walk(tree) if isinstance(node, forbidden)] == []


def test_the_tiltfile_builds_the_dockerfiles_stage() -> None:
    assert "target='develop'" in TILTFILE
    assert re.search(r"^FROM runtime AS develop$", DOCKERFILE, re.MULTILINE)
    assert "restart_file='/app/.restart'" in TILTFILE
    assert "/app/.restart" in DOCKERFILE
