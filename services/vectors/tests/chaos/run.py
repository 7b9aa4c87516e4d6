"""`make chaos-vectors`: two hundred rounds, in which a node, NATS or all is killed while collections are at work.

`ARGS="seed=7 rounds=20"` plays others or fewer; the same seed draws the same kills. Twenty-five rounds share one site, whose logs
are trimmed all the time where its seed is odd; two seeds of four have three replicas of each shard, the others two.
`moments=split,move` plays no other kinds of rounds. `seconds=600` begins no round after so long. A round that breaks a promise
ends all: what it was, how to repeat it and where the site's files lie is told.
"""

import asyncio
import shutil
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from random import Random

import structlog

from .rounds import Rounds, Told
from .site import Site

ROUNDS = 200
ROUNDS_OF_SITE = 25


def say(words: str) -> None:
    """Tell the person who waits, at once."""
    sys.stdout.write(f"{words}\n")
    sys.stdout.flush()


def main(arguments: list[str]) -> int:
    """Play all, and say how that went."""
    told = dict(argument.split("=", 1) for argument in arguments)
    seed, rounds = int(told.get("seed", "1")), int(told.get("rounds", str(ROUNDS)))
    moments = [each for each in told.get("moments", "").split(",") if each]
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(50))
    begun = time.monotonic()
    sums, played, restores, ends_at = Told(), 0, 0, begun + float(told.get("seconds", "inf"))
    while played < rounds and time.monotonic() < ends_at:
        count = min(ROUNDS_OF_SITE, rounds - played)
        folder = Path(tempfile.mkdtemp(prefix="chaos-vectors-"))
        try:
            done, compared = asyncio.run(_site(folder, seed, (count, ends_at), sums, moments))
        except* Exception as errors:
            for error in errors.exceptions:
                say(f"WRONG: {error!r}")
            say(f'repeat with ARGS="seed={seed} rounds={count}"; the files are in {folder}')
            raise
        shutil.rmtree(folder)
        played, restores, seed = played + done, restores + compared, seed + 1
    _tell(sums, played, restores, time.monotonic() - begun)
    return 0


def _site_of(folder: Path, seed: int) -> Site:
    return Site(folder, Random(seed), trimmed=seed % 2 == 1, replicas=3 if seed % 4 >= 2 else 2)


async def _site(
    folder: Path, seed: int, bounds: tuple[int, float], told: Told, moments: Sequence[str]
) -> tuple[int, int]:
    """Rounds over one site, so many and until that time; gives how many there were, and how many restores were compared."""
    count, ends_at = bounds
    played = 0
    async with _site_of(folder, seed).running() as site:
        rounds = Rounds(site, await site.record(), str(seed), told, moments)
        await rounds.begin()
        while played < count and time.monotonic() < ends_at:
            played += 1
            say(f"seed {seed} round {played}: {await rounds.round(played)}")
        if site.trimmed:
            begins = await rounds.log_begins()
            say(f"seed {seed}: logs begin at {begins}; {rounds.restoring.told_lost} moments were told to be lost")
        return played, rounds.restoring.compared


def _tell(told: Told, rounds: int, restores: int, seconds: float) -> None:
    sums = told.sums
    say(f"{rounds} rounds in {seconds:.0f} s, nothing lost")
    say(f"  killed: {dict(sorted(told.kills.items()))}; {told.moves} moves begun, {told.splits} shards split off")
    say(
        f"  {sums.acknowledged} writes acknowledged, {sums.unknown} given up and settled, {sums.tried_again} tried again, "
        f"{sums.repeated} repeated late; {told.points_checked} points compared after rounds"
    )
    say(f"  {sums.looks} looks beside writes right, {sums.looks_unanswered} without an answer")
    say(f"  {restores} restores compared, killed ones: {dict(told.halves)}; {told.damaged} files damaged and told")
    say(f"  replicas equal within {told.equal_seconds_max:.1f} s")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
