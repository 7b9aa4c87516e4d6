"""The thread that samples the meters every second and writes down what the run used; it never fails the user's program."""

import contextlib
import math
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator

from ergonaut.events.telemetry import PowerSampled, Share
from ergonaut.ids import derived_id
from ergonaut.journal import EntryKind, JournalEntry
from ergonaut.metering import HostInterval, HostSampler, ProcessScan, discover
from ergonaut.metering.processes import Told
from ergonaut.runcontext import RunContext
from ergonaut.tracking.options import Options
from ergonaut.tracking.stamps import Stamps
from ergonaut.tracking.summary import Totals

# A sample takes milliseconds; a thread that has not come back by then is stuck in a driver and is left behind.
_STOP_SECONDS_MAX = 5.0
# Each of a sample's two hundred system calls lets the interpreter go, and a program that computes in Python gives it back only
# when it is asked to, by default after 5 ms: a second in all. Asked so soon, it is milliseconds, for as many changes of thread.
_SWITCH_SECONDS = 0.0001


class MeterThread:
    """Meters the processes that it is told to; those and all their descendants are the run."""

    def __init__(
        self,
        context: RunContext,
        options: Options,
        write: Callable[[JournalEntry], None],
        belongs: Callable[[int], bool],
        told: Told = tuple,
    ) -> None:
        self._context = context
        self._options = options
        self._stamps = Stamps(context, options)
        self._write = write
        self._pid = os.getpid()
        self._lock = threading.Lock()
        self._stopping = threading.Event()
        self._closed = False
        self._sequence = 0
        self._totals = Totals()
        self._warned = False
        scan = ProcessScan(lambda pid: context if belongs(pid) else None, told=told)
        self._sampler = HostSampler(discover(), scan)
        self._look_again_seconds: Callable[[Totals, float], float] | None = None
        self._thread = threading.Thread(target=self._sample_regularly, name="ergonaut-meter", daemon=True)

    @property
    def totals(self) -> Totals:
        """What the run has used up to the last sample."""
        return self._totals

    def watch(self, look_again_seconds: Callable[[Totals, float], float]) -> None:
        """Let somebody see the totals after each sample, who says within how many seconds to sample again."""
        self._look_again_seconds = look_again_seconds

    def start(self) -> None:
        """Begin to sample."""
        self._thread.start()

    def sample(self) -> None:
        """Sample now. After the end, and in a forked child, where the thread does not live, nothing happens."""
        if os.getpid() != self._pid:
            return
        with self._lock:
            if self._closed:
                return
            interval = self._sampler.sample()
            self._sequence += 1
            entry = self._entry(interval)
            self._totals.add(entry)
            self._write(entry)

    def sample_safely(self) -> None:
        """Sample now; a failure is told once, and the next sample bridges it."""
        try:
            self.sample()
        except Exception as error:
            self._warn(error)

    def stop(self) -> None:
        """Take the last sample and give the meters back."""
        self._stopping.set()
        # Where no thread could be begun the last sample is the only one.
        if self._thread.ident is not None:
            self._thread.join(_STOP_SECONDS_MAX)
        if self._thread.is_alive():
            return
        self.sample_safely()
        with self._lock:
            self._closed = True
            self._sampler.close()

    def _sample_regularly(self) -> None:
        interval_seconds = wait_seconds = self._options.interval_seconds
        while not self._stopping.wait(wait_seconds):
            began = time.monotonic()
            with _asking_soon():
                self.sample_safely()
            # From beginning to beginning, so that a sample's own time does not make what a killed run loses longer; but on a
            # host where sampling is slow the sampling must not be all that goes on.
            took_seconds = time.monotonic() - began
            wait_seconds = max(interval_seconds - took_seconds, took_seconds)
            wait_seconds = min(wait_seconds, self._watched(began))

    def _watched(self, at_seconds: float) -> float:
        if self._look_again_seconds is None:
            return math.inf
        try:
            return self._look_again_seconds(self._totals, at_seconds)
        except Exception as error:
            self._warn(error)
            return math.inf

    def _warn(self, error: Exception) -> None:
        if self._warned:
            return
        self._warned = True
        with contextlib.suppress(Exception):
            print(f"ergonaut: a sample failed and later ones will bridge it: {error!r}", file=sys.stderr)  # noqa: T201

    def _entry(self, interval: HostInterval) -> JournalEntry:
        intensity = self._stamps.intensity_at(interval.started_at)
        samples = [self._stamps.sample(one, intensity) for one in interval.charges if one.share is Share.RUN]
        samples += self._stamps.machine(interval.started_at, interval.ended_at)
        event = PowerSampled(
            event_id=derived_id("event", self._context.run_id, str(self._sequence)),
            tenant=self._context.tenant,
            occurred_at=interval.ended_at,
            host=self._options.host,
            producer=self._context.run_id,
            sequence=self._sequence,
            samples=tuple(samples),
            **self._stamps.bases(intensity),
        )
        return JournalEntry(
            kind=EntryKind.SAMPLE,
            at=interval.ended_at,
            sampled=event,
            idle_joules=_joules(interval, Share.IDLE),
            others_joules=_joules(interval, Share.OTHERS),
        )


@contextlib.contextmanager
def _asking_soon() -> Iterator[None]:
    """Let this thread have the interpreter soon after each system call; what the program itself sets meanwhile stays."""
    before = sys.getswitchinterval()
    if before <= _SWITCH_SECONDS:
        yield
        return
    sys.setswitchinterval(_SWITCH_SECONDS)
    ours = sys.getswitchinterval()
    try:
        yield
    finally:
        if sys.getswitchinterval() == ours:
            sys.setswitchinterval(before)


def _joules(interval: HostInterval, share: Share) -> float:
    return sum(charge.energy_joules or 0.0 for charge in interval.charges if charge.share is share)
