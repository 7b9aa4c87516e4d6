"""The doors on a loop in a thread of its own, for those who are not asynchronous: hypothesis, fuzzers, a command line."""

import asyncio
import hashlib
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import uvloop

from .doors import Case, Doors, opened

KEY = b"{KEY}"
"""Stands for the key in what is kept; keys differ from run to run."""

START_SECONDS = 60.0
LOT_SECONDS = 120.0


class Site:
    """The doors, asked from another thread."""

    def __init__(self, doors: Doors, loop: asyncio.AbstractEventLoop) -> None:
        self.doors = doors
        self._loop = loop

    @property
    def key(self) -> str:
        """The key that is let in."""
        return self.doors.key

    def judged(self, cases: Sequence[Case]) -> list[str]:
        """What is wrong with what came of each case, and then with all together; empty words where nothing is."""
        return asyncio.run_coroutine_threadsafe(self.doors.judged(cases), self._loop).result(LOT_SECONDS)

    def answers_well(self) -> bool:
        """Whether a good request is answered as ever."""
        return asyncio.run_coroutine_threadsafe(self.doors.answers_well(), self._loop).result(LOT_SECONDS)

    def fault(self, case: Case) -> str:
        """What is wrong with what came of one case alone."""
        return next(filter(None, self.judged([case])), "")


@contextmanager
def running_site(folder: Path) -> Iterator[Site]:
    """Doors on the gateway's own kind of loop while the block runs."""
    ready: list[Site] = []
    begun, over = threading.Event(), asyncio.Event()

    async def life() -> None:
        async with opened(folder) as doors:
            ready.append(Site(doors, asyncio.get_running_loop()))
            begun.set()
            await over.wait()

    def run() -> None:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(life())

    thread = threading.Thread(target=run, name="doors")
    thread.start()
    try:
        assert begun.wait(START_SECONDS), "the doors do not open"
        yield ready[0]
    finally:
        if ready:
            ready[0]._loop.call_soon_threadsafe(over.set)
        thread.join(START_SECONDS)


def minimised(site: Site, case: Case) -> Case:
    """The smallest case that is found to be wrong as this one is, by leaving out ever smaller pieces."""
    fault = site.fault(case)[:30]
    sent, size = case.sent, max(1, len(case.sent) // 2)
    while fault and size:
        at = 0
        while at < len(sent):
            fewer = sent[:at] + sent[at + size :]
            if site.fault(Case(case.kind, fewer, case.piece_bytes))[:30] == fault:
                sent = fewer
            else:
                at += size
        size //= 2
    return Case(case.kind, sent, case.piece_bytes)


def kept(case: Case, key: str, folder: Path) -> Path:
    """The file in which a case is kept for ever."""
    content = b"%d\n" % case.piece_bytes + case.sent.replace(key.encode(), KEY)
    path = folder / f"{case.kind}-{hashlib.sha256(content).hexdigest()[:12]}.case"
    path.write_bytes(content)
    return path


def read_case(path: Path, key: str) -> Case:
    """The case of a file."""
    pieces, _, sent = path.read_bytes().partition(b"\n")
    return Case(path.name.rsplit("-", 1)[0], sent.replace(KEY, key.encode()), int(pieces))
