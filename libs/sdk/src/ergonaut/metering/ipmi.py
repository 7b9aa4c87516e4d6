"""A server's own meter, asked of its management controller (IPMI DCMI) through the program `ipmitool`."""

import os
import re
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence

from ergonaut.events.telemetry import Method
from ergonaut.metering.meters import PLATFORM, HostContext, Meter, NotMeasured, Reading
from ergonaut.metering.powersum import PowerSum, TooFarApart

_DEVICES = ("/dev/ipmi0", "/dev/ipmi/0", "/dev/ipmidev/0")
# Controllers average over seconds themselves, and starting a program takes some 10 ms of CPU time, of which the whole agent
# has 3 s in an hour.
ASK_EVERY_SECONDS = 30.0
# A controller answers within a second or two; one that does not is hung, and must not be asked by ever more programs.
_ANSWER_SECONDS_MAX = 10.0
# Whoever opens a meter waits for its first answer, and a program that is to be metered waits with it.
_FIRST_ANSWER_SECONDS_MAX = 2.0
# DCMI 1.5 states no accuracy; IBM and Dell state 5 % for their controllers' power, and samples are far apart.
_RANGE_FRACTION = 0.1
_SOURCE = "IPMI DCMI power"


def open_meters(host: HostContext) -> Sequence[Meter]:
    """Component `platform` where there is a controller; one that may not be asked says how to grant it."""
    device = next((path for path in map(host.path, _DEVICES) if path.exists()), None)
    if device is None:
        return []
    program = host.program("ipmitool")
    if program is None:
        return [NotMeasured(PLATFORM, f"{_SOURCE}: {device} is here but no program ipmitool; install it")]
    if not os.access(device, os.R_OK | os.W_OK):
        rule = f'KERNEL=="{device.name}*", GROUP="ergonaut", MODE="0660"'
        return [NotMeasured(PLATFORM, f"{_SOURCE}: {device} is for root only; grant it by a udev rule such as {rule}")]
    return [IpmiMeter(program, host.seconds)]


class IpmiMeter:
    """Asks now and then, and never waits for the answer: it is taken in by the next reading after it has come."""

    def __init__(self, program: str, seconds: Callable[[], float] = time.monotonic) -> None:
        self._program = program
        self._seconds = seconds
        self._sum = PowerSum(seconds)
        self._asked_at: float | None = None
        self._asking: subprocess.Popen[str] | None = None
        self._failed = ""
        self._watts: float | None = None

    def read(self) -> Sequence[Reading]:
        self._take_in()
        now = self._seconds()
        if self._asking is None and (self._asked_at is None or now - self._asked_at >= ASK_EVERY_SECONDS):
            self._ask(now)
            if self._watts is None and not self._failed:
                # Whoever opens a meter wants to know at once whether it reads.
                self._wait()
        if self._watts is None:
            return [Reading(PLATFORM, Method.NOT_MEASURED, f"{_SOURCE}: {self._failed}")]
        try:
            joules = self._sum.add(self._watts)
        except TooFarApart as gap:
            return [Reading(PLATFORM, Method.NOT_MEASURED, f"{_SOURCE}: {gap}")]
        return [Reading(PLATFORM, Method.POWER_SAMPLES, _SOURCE, _RANGE_FRACTION, joules)]

    def users(self) -> Mapping[str, Mapping[int, float]]:
        return {}

    def close(self) -> None:
        if self._asking is not None:
            self._asking.kill()
            self._asking.communicate()
            self._asking = None

    def _ask(self, now: float) -> None:
        self._asked_at = now
        command = [self._program, "dcmi", "power", "reading"]
        try:
            self._asking = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        except OSError as error:
            self._fail(f"{self._program} cannot be started: {error}")

    def _wait(self) -> None:
        if self._asking is not None:
            try:
                self._asking.wait(_FIRST_ANSWER_SECONDS_MAX)
            except subprocess.TimeoutExpired:
                self._give_up(_FIRST_ANSWER_SECONDS_MAX)
            self._take_in()

    def _take_in(self) -> None:
        if self._asking is None:
            return
        if self._asking.poll() is None:
            if self._seconds() - (self._asked_at or 0.0) > _ANSWER_SECONDS_MAX:
                self._give_up(_ANSWER_SECONDS_MAX)
            return
        said, _ = self._asking.communicate()
        self._asking = None
        watts = watts_of(said)
        if watts is None:
            self._fail(said.strip()[:200] or "no answer")
        else:
            self._watts, self._failed = watts, ""

    def _give_up(self, seconds: float) -> None:
        self.close()
        self._fail(f"no answer within {seconds:g} s")

    def _fail(self, because: str) -> None:
        self._watts, self._failed = None, because
        self._sum.interrupt()


def watts_of(said: str) -> float | None:
    """The power that `ipmitool dcmi power reading` tells; None where it tells none, or that measuring is off.

    >>> watts_of("    Instantaneous power reading:                   212 Watts")
    212.0
    """
    if re.search(r"Power reading state is:\s*deactivated", said):
        return None
    found = re.search(r"Instantaneous power reading:\s*(\d+)\s*Watts", said)
    return float(found[1]) if found and int(found[1]) > 0 else None
