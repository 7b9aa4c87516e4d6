"""Gives each peer a Python of its own, as its users have it; one that cannot be installed is left out, with the reason.

They are kept outside the repository and used again, since together they weigh two gigabytes: in ERGONAUT_BENCH_CACHE, else in
`ergonaut-bench` of the user's cache folder. Delete a peer's folder there to have it installed anew.
"""

import os
import subprocess
from dataclasses import dataclass
from pathlib import Path

CACHE = (
    Path(
        os.environ.get("ERGONAUT_BENCH_CACHE")
        or Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "ergonaut-bench"
    )
    / "serving"
)

RUNTIME = "onnxruntime==1.31.1"
"""The engine, which is ours too, so that servers are compared and not engines."""

PACKAGES = {
    "mlserver": ("mlserver==1.7.1", RUNTIME),
    "kserve": ("kserve==0.21.0", RUNTIME),
    "pytriton": ("nvidia-pytriton==0.7.0", RUNTIME),
    "litserve": ("litserve==0.2.19", RUNTIME),
    "bentoml": ("bentoml==1.4.39", RUNTIME),
}
"""What is compared, at the newest release that was seen."""


@dataclass(frozen=True, slots=True)
class Environment:
    """One peer's Python, or why there is none."""

    name: str
    python: Path
    because: str = ""


def environment(uv: str, name: str) -> Environment:
    """Make a peer's environment where it is not there yet."""
    folder = CACHE / name
    python, done, packages = folder / "bin" / "python", folder / "installed.txt", PACKAGES[name]
    if done.exists() and done.read_text().split() == list(packages):
        return Environment(name, python)
    commands = [
        [uv, "venv", "--quiet", "--allow-existing", "--python", "3.11", str(folder)],
        # Compiled, as pip leaves it.
        [uv, "pip", "install", "--quiet", "--compile-bytecode", "--python", str(python), *packages],
    ]
    for command in commands:
        try:
            ended = subprocess.run(command, capture_output=True, text=True, check=False)
        except OSError as error:
            return Environment(name, python, f"{command[0]} cannot be run: {error}")
        if ended.returncode:
            return Environment(name, python, (ended.stderr.strip().splitlines() or ["no reason was told"])[-1])
    done.write_text("\n".join(packages))
    return Environment(name, python)
