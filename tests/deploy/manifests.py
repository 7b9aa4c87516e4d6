"""Where the manifests are; shared by the checks of deploy/."""

from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
BASE = ROOT / "deploy" / "k8s" / "base"
SERVICES = sorted(path.parent.name for path in ROOT.glob("services/*/pyproject.toml"))

Document = dict[str, Any]
