"""The same doors, with cases chosen by atheris: it watches which code each one reaches and goes on from those that reach more.

`python -m services.gateway.tests.fuzz.with_atheris -runs=100000 CORPUS`; options are libFuzzer's. What is found is minimised and
kept as `run` keeps it. Of our own code all that is imported here is watched; of the parsers in C only what they lead to is seen.
"""

import sys
import tempfile
from pathlib import Path

import atheris
import structlog

with atheris.instrument_imports(include=["ergonaut_common.h2", "ergonaut_gateway", "hpack"]):
    from . import cases
    from .drawing import Fed
    from .run import FOUND
    from .site import Site, kept, minimised, running_site


def main() -> None:
    """Hand everything over to libFuzzer, which ends the process."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(50))
    with tempfile.TemporaryDirectory() as folder, running_site(Path(folder)) as site:

        def tried(spelt: bytes) -> None:
            _try(site, spelt)

        atheris.Setup(sys.argv, tried)
        atheris.Fuzz()


def _try(site: Site, spelt: bytes) -> None:
    case = cases.drawn(Fed(spelt), site.key)
    fault = site.fault(case)
    if fault:
        path = kept(minimised(site, case), site.key, FOUND)
        raise AssertionError(f"{case.kind}: {fault}; kept as {path}")


if __name__ == "__main__":
    main()
