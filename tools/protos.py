"""Checks of the gRPC contract by buf: its style, and that nothing promised was broken since it was last promised.

`python tools/protos.py check` is part of `make check`; `python tools/protos.py promise` writes down the contract as it is now.
"""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PROTO = ROOT / "proto"
PROMISED = PROTO / "promised.binpb"
"""The contract as last promised, an image that buf compares with; it moves only by `promise`."""


def buf(*arguments: str) -> None:
    """Run buf in proto/; it needs neither network nor account for this."""
    subprocess.run([str(Path(sys.executable).parent / "buf"), *arguments], cwd=PROTO, check=True)


def main() -> None:
    """Do what the command line says."""
    match sys.argv[1:]:
        case ["check"]:
            buf("lint")
            buf("breaking", "--against", PROMISED.name)
        case ["promise"]:
            buf("build", "--exclude-source-info", "-o", PROMISED.name)
        case _:
            sys.exit(__doc__)


if __name__ == "__main__":
    try:
        main()
    except subprocess.CalledProcessError as error:
        sys.exit(error.returncode)
