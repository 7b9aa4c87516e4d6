"""Runs the tests, and what failed while files ran beside each other once more alone. Called by `make test`.

Thousands of tests with real servers on a busy machine now and then meet a moment in which the machine stands still. A test
that passes alone was told so by the second run; both outcomes are printed, so that nobody takes the first for well. More
failures than a moment explains are left as they are.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

FAILED = Path(".pytest_cache/v/cache/lastfailed")

SOME_TEST_FAILED = 1
"""pytest's exit code for that; every other one says that it did not come to its end."""

TRIED_AGAIN_MAX = 3

BESIDE_EACH_OTHER = min(2 * (os.cpu_count() or 1), 8)
"""Files that run at a time: half of the time they wait for servers and moments. More would only make servers start late."""


def main(options: list[str]) -> int:
    """The exit code of pytest with these options, or that of the second run."""
    FAILED.unlink(missing_ok=True)
    code = _tested([f"--numprocesses={BESIDE_EACH_OTHER}", *options])
    if code != SOME_TEST_FAILED or not FAILED.exists():
        return code
    failed = list(json.loads(FAILED.read_text()))
    if not 1 <= len(failed) <= TRIED_AGAIN_MAX:
        return code
    print(f"\nTried once more, alone, after it failed beside others: {', '.join(failed)}", flush=True)
    # Each by itself: helpers of tests are modules beside them, and those of two folders have the same names.
    return max(_tested([test]) for test in failed)


def _tested(arguments: list[str]) -> int:
    return subprocess.run([sys.executable, "-m", "pytest", *arguments], check=False).returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
