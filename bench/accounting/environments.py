"""Gives each tracker a Python of its own, as its users have it; one that cannot be installed is left out, with the reason."""

import subprocess
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
CACHE = ROOT / ".bench" / "accounting"

PACKAGES = {
    "ergonaut": ("ergonaut @ " + (ROOT / "libs" / "sdk").as_uri(),),
    "codecarbon": ("codecarbon==3.3.2",),
    "zeus": ("zeus==0.16.0",),
    # eco2AI imports pkg_resources, which newer setuptools no longer have, and writes text into a column of numbers.
    "eco2ai": ("eco2ai==0.3.12", "setuptools<81", "pandas<2.2", "numpy<2"),
    "carbontracker": ("carbontracker==2.4.7",),
}
"""What is compared, at the newest release that was seen; ours is built from this checkout."""

IMPORTS = {
    "ergonaut": "from ergonaut import track",
    "codecarbon": "from codecarbon import EmissionsTracker",
    "zeus": "from zeus.monitor import ZeusMonitor",
    "eco2ai": "import eco2ai",
    "carbontracker": "from carbontracker.tracker import CarbonTracker",
    "gpu": "import ergonaut, torch",
}
"""The line that its documentation tells users to write at the top; several load the rest when they begin."""


GPU = "gpu"
_WITH_TORCH = (*PACKAGES["ergonaut"], "torch", "nvidia-ml-py")


@dataclass(frozen=True, slots=True)
class Environment:
    """One tracker's Python, or why there is none."""

    name: str
    python: Path
    because: str = ""


def environments(uv: str) -> list[Environment]:
    """Make or renew every environment; NumPy is in each, for the training loop."""
    return [_environment(uv, name, packages) for name, packages in PACKAGES.items()]


def gpu_environment(uv: str) -> Environment:
    """A Python with our tracker and PyPI's torch, which brings CUDA with it: several gigabytes."""
    return _environment(uv, GPU, _WITH_TORCH)


def _environment(uv: str, name: str, packages: tuple[str, ...]) -> Environment:
    python = CACHE / name / "bin" / "python"
    commands = [
        [uv, "venv", "--quiet", "--allow-existing", "--python", "3.11", str(CACHE / name)],
        # Compiled, as pip leaves it; uv would compile anew at every import where Python may not write beside its sources.
        [uv, "pip", "install", "--quiet", "--compile-bytecode", "--python", str(python), "numpy", *packages],
        [str(python), "-c", IMPORTS[name]],
    ]
    if name in ("ergonaut", GPU):
        # A checkout changes without its version changing.
        commands[1].insert(3, "--reinstall-package=ergonaut")
    for command in commands:
        try:
            done = subprocess.run(command, capture_output=True, text=True, check=False)
        except OSError as error:
            return Environment(name, python, f"{command[0]} cannot be run: {error}")
        if done.returncode:
            return Environment(name, python, (done.stderr.strip().splitlines() or ["no reason was told"])[-1])
    return Environment(name, python)
