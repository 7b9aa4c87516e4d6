"""The manifests as a cluster would get them, for the checks of deploy/."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
import yaml

sys.path.insert(0, str(Path(__file__).parent))
from manifests import ROOT, Document

Render = Callable[[Sequence[str]], list[Document]]


@pytest.fixture(scope="session")
def render(tmp_path_factory: pytest.TempPathFactory) -> Render:
    """Renders the local overlay with these components, as a cluster would get it, with secrets made for this test only."""
    kubectl = shutil.which("kubectl")
    if kubectl is None and os.environ.get("ERGONAUT_REQUIRE_SERVERS"):
        pytest.fail("kubectl is not installed, and ERGONAUT_REQUIRE_SERVERS lets no test be skipped")
    if kubectl is None:
        pytest.skip("kubectl is not installed; the manifests are checked unrendered only")

    def rendered(components: Sequence[str]) -> list[Document]:
        copy = tmp_path_factory.mktemp("deploy")
        shutil.copytree(ROOT / "deploy" / "k8s", copy / "k8s", ignore=shutil.ignore_patterns("secrets"))
        overlay = copy / "k8s" / "overlays" / "local"
        subprocess.run([sys.executable, str(ROOT / "deploy" / "local_secrets.py"), str(overlay)], check=True)
        kustomization = overlay / "kustomization.yaml"
        told = yaml.safe_load(kustomization.read_text()) | {"components": [f"../../components/{c}" for c in components]}
        kustomization.write_text(yaml.safe_dump(told))
        made = subprocess.run([kubectl, "kustomize", str(overlay)], capture_output=True, text=True)
        assert made.returncode == 0, made.stderr
        return list(yaml.safe_load_all(made.stdout))

    return rendered


@pytest.fixture(scope="session")
def rendered(render: Render) -> list[Document]:
    """The local overlay as a cluster would get it."""
    return render(())
