"""`make fuzz`: malformed input by the million. In process for most of it, a share over real sockets, model files apart.

FUZZ_BODIES says how many, FUZZ_SEED from where on; the same two give the same cases. What is found is minimised and kept in
`found`, where the tests try it for ever; the exit code says whether anything was.
"""

import argparse
import asyncio
import os
import random
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import psutil
import structlog

from . import cases, files, live
from .doors import NO_ANSWER, Statuses
from .site import Site, kept, minimised, running_site

FOUND = Path(__file__).with_name("found")
LOT = 32
LIVE_SHARE = 0.02
FILES_SHARE = 0.002
SIGNATURES_SHARE = 0.01
WATCHED_SHARE = 0.1
"""Of as many again, chosen by atheris by what code they reach."""

WATCHED_SEEDS = 400
FOUND_MAX = 20
"""After so many faults it is time to mend some."""

TELL_EVERY = 100_000


def say(words: str) -> None:
    """Tell the person who waits, at once."""
    sys.stdout.write(f"{words}\n")
    sys.stdout.flush()


def main() -> int:
    """Try all, and say how that went."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--bodies", type=int, default=int(os.environ.get("FUZZ_BODIES", "1000000")))
    parser.add_argument(
        "--seed", type=int, default=int(os.environ.get("FUZZ_SEED", str(random.SystemRandom().randrange(10**6))))
    )
    options = parser.parse_args()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(50))
    say(f"{options.bodies} malformed bodies from seed {options.seed}")
    with tempfile.TemporaryDirectory() as folder:
        # Before any thread is started, since these processes are forked.
        faults = model_files(_share(options.bodies, FILES_SHARE), options.seed, Path(folder))
        faults += signatures(_share(options.bodies, SIGNATURES_SHARE), options.seed, Path(folder))
        faults += in_process(options.bodies, options.seed, Path(folder))
        faults += watched(_share(options.bodies, WATCHED_SHARE), options.seed, Path(folder))
        faults += over_sockets(_share(options.bodies, LIVE_SHARE), options.seed, Path(folder))
    say("nothing was found" if not faults else f"{faults} faults were found")
    return 1 if faults else 0


def _share(bodies: int, share: float) -> int:
    return max(20, int(bodies * share))


def in_process(count: int, seed: int, folder: Path) -> int:
    """All doors in this process; gives the number of faults."""
    faults, begun, rss_warm_bytes = 0, time.monotonic(), 0
    with running_site(folder) as site:
        for begin in range(0, count, LOT):
            lot = [cases.numbered(number, seed, site.key) for number in range(begin, min(begin + LOT, count))]
            wrong = site.judged(lot)
            if any(wrong) or not site.answers_well():
                faults += _keep(site, lot, wrong)
                if faults >= FOUND_MAX:
                    break
            if not rss_warm_bytes and begin > count // 5:
                rss_warm_bytes = psutil.Process().memory_info().rss
            if begin % TELL_EVERY < LOT and begin:
                say(f"  {begin} in {time.monotonic() - begun:.0f} s, {faults} faults")
        grown = (psutil.Process().memory_info().rss - rss_warm_bytes) / 1e6
        seconds = time.monotonic() - begun
        say(
            f"in process: {count} in {seconds:.0f} s, {count / seconds:.0f} a second, memory grew {grown:.1f} MB after warm-up"
        )
        _tell(site.doors.statuses)
    if grown * 1e6 > live.GROWTH_BYTES_MAX:
        say("memory grew too much")
        faults += 1
    return faults


def over_sockets(count: int, seed: int, folder: Path) -> int:
    """A real process over real sockets; gives the number of faults."""

    async def run() -> live.Outcome:
        async with live.running_target(folder) as target:
            numbers = range(count)
            return await live.tried(target, (cases.numbered(number, seed + 1, target.key) for number in numbers), count)

    begun = time.monotonic()
    outcome = asyncio.run(run())
    grown = outcome.growth_bytes / 1e6
    say(
        f"over sockets: {count} in {time.monotonic() - begun:.0f} s, "
        f"memory {outcome.rss_end_bytes / 1e6:.0f} MB, {grown:+.1f} after warm-up"
    )
    _tell(outcome.statuses)
    for case, wrong in outcome.wrong[:FOUND_MAX]:
        say(f"  {case.kind}: {wrong}\n    {case.sent[:300]!r}")
    return len(outcome.wrong) + (outcome.growth_bytes > live.GROWTH_BYTES_MAX)


def watched(count: int, seed: int, folder: Path) -> int:
    """Cases that atheris chooses by the code they reach, where it is installed; gives the number of faults."""
    if find_spec("atheris") is None:
        say("by coverage: none, since atheris is not installed (make fuzz does so)")
        return 0
    corpus, draw = folder / "corpus", random.Random(seed)
    corpus.mkdir()
    for number in range(WATCHED_SEEDS):
        (corpus / f"{number}").write_bytes(draw.randbytes(draw.choice((60, 200, 500))))
    command = [sys.executable, "-m", f"{__package__}.with_atheris", f"-runs={count}", f"-seed={seed % 2**31}"]
    command += ["-max_len=800", "-len_control=0", str(corpus)]
    done = subprocess.run(command, cwd=Path.cwd(), capture_output=True, text=True, check=False)
    covered = re.findall(r"DONE +cov: (\d+)", done.stderr)
    if done.returncode or not covered:
        say(f"by coverage: {done.stderr[-3000:]}")
        return 1
    say(f"by coverage: {count}, {covered[0]} branches reached")
    return 0


def model_files(count: int, seed: int, folder: Path) -> int:
    """Model files, each loaded by a process; gives the number of faults."""
    ended: dict[str, int] = {}
    for number in range(count):
        content = files.model_file(random.Random((seed << 40) + number))
        how = files.outcome(content, folder)
        ended[how] = ended.get(how, 0) + 1
        if how not in ("served", "refused"):
            path = FOUND / f"{seed}-{number}.onnx"
            path.write_bytes(content)
            say(f"  a model file {how}: {path}")
    say(f"model files: {count}, {ended}")
    return count - ended.get("served", 0) - ended.get("refused", 0)


def signatures(count: int, seed: int, folder: Path) -> int:
    """Malformed signatures; gives the number of faults."""
    bundle = files.signed(folder)
    wrong = list(_signature_faults(count, seed, bundle))
    for each in wrong[:5]:
        say(f"  a signature: {each}")
    say(f"signatures: {count}, {len(wrong)} faults")
    return len(wrong)


def _signature_faults(count: int, seed: int, bundle: str) -> Iterator[str]:
    for number in range(count):
        if fault := files.signature_fault(random.Random((seed << 40) + number), bundle):
            yield fault


def _keep(site: Site, lot: list[cases.Case], wrong: list[str]) -> int:
    """Find which case of a lot is at fault, and keep it as small as it can be."""
    found = [case for case in lot if site.fault(case)]
    for case in found:
        smallest = minimised(site, case)
        say(
            f"  {case.kind}: {site.fault(smallest) or site.fault(case)}\n    kept as {kept(smallest, site.key, FOUND)}",
            flush=True,
        )
    if not found:
        say(f"  only together: {[each for each in wrong if each]} of {[case.kind for case in lot]}")
    return max(1, len(found))


def _tell(statuses: Statuses) -> None:
    for kind, counted in sorted(statuses.items()):
        told = ", ".join(
            f"{'none' if status == NO_ANSWER else status}: {times}" for status, times in sorted(counted.items())
        )
        say(f"  {kind:13} {told}")


if __name__ == "__main__":
    sys.exit(main())
