"""Runs the tests with clients that are too heavy for everybody's environment, in one of their own: `python tools/clients.py`.

It installs kserve into `.tools/clients`, and what else it is given goes to pytest.
"""

import os
import subprocess
import sys
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
ENVIRONMENT = ROOT / ".tools" / "clients"
KSERVE = "kserve==0.21.0"
"""Pinned: it names narrow ranges of grpcio, protobuf, numpy and pandas, which may not be ours."""

TESTS = ROOT / "services" / "gateway" / "tests" / "clients" / "test_kserve_client.py"


def main() -> int:
    """Install and test; gives pytest's exit code."""
    python = ENVIRONMENT / "bin" / "python"
    if not python.exists():
        venv.create(ENVIRONMENT, with_pip=True)
    install = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", KSERVE]
    subprocess.run(install, check=True)
    environment = os.environ | {"ERGONAUT_KSERVE_PYTHON": str(python)}
    pytest = [sys.executable, "-m", "pytest", str(TESTS), *sys.argv[1:]]
    return subprocess.run(pytest, cwd=ROOT, env=environment, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
