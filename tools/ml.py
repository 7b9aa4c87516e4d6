"""Runs the tests that need torch, in an environment of their own, so that nobody else has to install it.

`python tools/ml.py` installs the CPU build of torch into `.tools/ml`; with `--if-installable` it ends well where that
build cannot be had (it is not on PyPI itself: PIP_EXTRA_INDEX_URL=https://download.pytorch.org/whl/cpu has it).
"""

import subprocess
import sys
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
ENVIRONMENT = ROOT / ".tools" / "ml"
TORCH = "torch==2.13.0+cpu"
"""Pinned with its local version: the plain one would bring several GB of CUDA packages."""

WITH_IT = ("pytest>=8.4", "pytest-asyncio>=1.2", "pytest-timeout>=2.4", "numpy>=2.2")


def main() -> int:
    """Install and test; gives pytest's exit code."""
    python = ENVIRONMENT / "bin" / "python"
    if not python.exists():
        venv.create(ENVIRONMENT, with_pip=True)
    install = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    if subprocess.run([*install, TORCH], check=False).returncode != 0:
        print(f"{TORCH} cannot be installed here; see {Path(__file__).name} on where to get it")
        return 0 if "--if-installable" in sys.argv else 1
    subprocess.run([*install, "--editable", str(ROOT / "libs" / "sdk"), *WITH_IT], check=True)
    return subprocess.run([str(python), "-m", "pytest", str(ROOT / "tests" / "ml")], cwd=ROOT, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
