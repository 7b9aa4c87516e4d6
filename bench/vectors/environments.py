"""Gives each peer a Python of its own, as its users have it; one that cannot be installed is left out, with the reason.

They are kept outside the repository and used again: in ERGONAUT_BENCH_CACHE, else in `ergonaut-bench` of the user's cache folder,
as is what is generated. Delete a peer's folder there to have it installed anew.
"""

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

CACHE = (
    Path(
        os.environ.get("ERGONAUT_BENCH_CACHE")
        or Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "ergonaut-bench"
    )
    / "vectors"
)

PACKAGES = {
    "hnswlib": ("numpy", "hnswlib==0.8.0"),
    "faiss": ("numpy", "faiss-cpu==1.15.1"),
    "usearch": ("numpy", "usearch==2.26.6"),
    "pynndescent": ("numpy", "pynndescent==0.7.0"),
}
"""What is compared, at the newest release that was seen. hnswlib is compiled where it is installed, for that processor."""


@dataclass(frozen=True, slots=True)
class Environment:
    """One engine's Python, or why there is none."""

    python: Path
    because: str = ""


def environment(engine: str) -> Environment:
    """Make an engine's environment where it is not there yet."""
    if engine == "ours":
        return Environment(Path(sys.executable))
    folder = CACHE / engine
    python, done, packages = folder / "bin" / "python", folder / "installed.txt", PACKAGES[engine]
    if done.exists() and done.read_text().split() == list(packages):
        return Environment(python)
    uv = shutil.which("uv") or ".tools/bin/uv"
    commands = [
        [uv, "venv", "--quiet", "--allow-existing", "--python", "3.11", str(folder)],
        [uv, "pip", "install", "--quiet", "--compile-bytecode", "--python", str(python), *packages],
    ]
    for command in commands:
        try:
            ended = subprocess.run(command, capture_output=True, text=True, check=False)
        except OSError as error:
            return Environment(python, f"{command[0]} cannot be run: {error}")
        if ended.returncode:
            return Environment(python, (ended.stderr.strip().splitlines() or ["no reason was told"])[-1])
    done.write_text("\n".join(packages))
    return Environment(python)
