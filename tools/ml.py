"""Runs the tests that need torch or a tool that tracks experiments, in an environment of their own, so that nobody else has to
install those.

`python tools/ml.py` installs the CPU build of torch into `.tools/ml`; with `--if-installable` it ends well where that
build cannot be had (it is not on PyPI itself: PIP_EXTRA_INDEX_URL=https://download.pytorch.org/whl/cpu has it). What else it
is given goes to pytest.
"""

import subprocess
import sys
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
ENVIRONMENT = ROOT / ".tools" / "ml"
TORCH = "torch==2.13.0+cpu"
"""Pinned with its local version: the plain one would bring several GB of CUDA packages."""

TESTING = ("pytest>=8.4", "pytest-asyncio>=1.2", "pytest-timeout>=2.4", "numpy>=2.2")
TRAINERS = ("accelerate==1.15.0", "lightning==2.6.6", "transformers==5.23.0")
TRACKERS = ("mlflow==3.17.2", "neptune==1.14.0.post2", "tensorboard==2.21.0", "wandb==0.31.0")
CONVERTERS = ("onnxscript==0.7.2",)
"""Pinned, since their files are read back by what is inside of them. All are installed with TORCH, so that none replaces it."""

IF_INSTALLABLE = "--if-installable"


def main() -> int:
    """Install and test; gives pytest's exit code."""
    python = ENVIRONMENT / "bin" / "python"
    if not python.exists():
        venv.create(ENVIRONMENT, with_pip=True)
    install = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    if subprocess.run([*install, TORCH], check=False).returncode != 0:
        print(f"{TORCH} cannot be installed here; see {Path(__file__).name} on where to get it")
        return 0 if IF_INSTALLABLE in sys.argv else 1
    ours = f"{ROOT / 'libs' / 'sdk'}[create]"
    needed = (TORCH, *TESTING, *TRAINERS, *TRACKERS, *CONVERTERS)
    subprocess.run([*install, "--editable", ours, *needed], check=True)
    more = [argument for argument in sys.argv[1:] if argument != IF_INSTALLABLE]
    pytest = [str(python), "-m", "pytest", "--override-ini=timeout=300", str(ROOT / "tests" / "ml"), *more]
    return subprocess.run(pytest, cwd=ROOT, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
