"""Apple computers: the program `powermetrics` of macOS, which estimates the energy of CPU, GPU and neural engine."""

import contextlib
import os
import plistlib
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence

from ergonaut.events.telemetry import Method
from ergonaut.metering.meters import USERS_NOT_TOLD, HostContext, Meter, NotMeasured, Reading

_INTERVAL_MILLISECONDS = 1000
# A minute of lists, each some 10 kB; whoever reads less often than that loses the oldest and says so by a gap.
_BYTES_MAX = 1 << 20
# Apple's manual calls the figures estimates and states no accuracy, so they are taken to be as good as other models.
_RANGE_FRACTION = 0.4
_JOULES_PER_MILLIJOULE = 1e-3
# Millijoules over the interval, of chips by Apple.
_ENERGIES = {"cpu": "cpu_energy", "gpu0": "gpu_energy", "ane": "ane_energy"}
_NO_ROOT = (
    "powermetrics tells energy to root only; run the agent as root, or let its user start it by this line in sudoers: "
    "ergonaut ALL=(root) NOPASSWD: /usr/bin/powermetrics"
)
# The first list comes after one interval; a program that has said nothing by then is asked again by the next reading.
_FIRST_SECONDS_MAX = 3.0
# A program that cannot write any more ends with its next list.
_END_SECONDS_MAX = 2 * _INTERVAL_MILLISECONDS / 1000


def open_meters(host: HostContext) -> Sequence[Meter]:
    """Components `cpu`, `gpu0` and `ane` of a Mac."""
    program = host.program("powermetrics")
    if program is None:
        return []
    if sys.platform == "darwin" and os.geteuid() != 0:
        sudo = host.program("sudo")
        allowed = sudo and subprocess.run([sudo, "-n", "-l", program], capture_output=True, check=False, timeout=2)
        if not sudo or not allowed or allowed.returncode != 0:
            return [NotMeasured("cpu", _NO_ROOT), NotMeasured("gpu", _NO_ROOT)]
        return [AppleMeter([sudo, "-n", program])]
    return [AppleMeter([program])]


class AppleMeter:
    """Lets `powermetrics` run along and adds up what it tells, without ever waiting for it but for the first list."""

    def __init__(self, command: Sequence[str]) -> None:
        options = ["--samplers", "cpu_power,gpu_power", "-i", str(_INTERVAL_MILLISECONDS), "-f", "plist"]
        self._joules: dict[str, float] = {}
        self._ended = ""
        self._text = b""
        self._program: subprocess.Popen[bytes] | None = None
        try:
            self._program = subprocess.Popen([*command, *options], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        except OSError as error:
            self._ended = f"cannot be started: {error}"
            return
        assert self._program.stdout is not None
        os.set_blocking(self._program.stdout.fileno(), False)
        self._wait_for_first()

    def read(self) -> Sequence[Reading]:
        self._take_in()
        if self._ended or not self._joules:
            because = f"powermetrics {self._ended or 'has told nothing yet'}"
            return [Reading(name, Method.NOT_MEASURED, because) for name in self._joules or ("cpu", "gpu0")]
        return [
            Reading(name, Method.POWER_SAMPLES, _source(name), _RANGE_FRACTION, joules)
            for name, joules in self._joules.items()
        ]

    def users(self) -> Mapping[str, Mapping[int, float]]:
        return {}

    def close(self) -> None:
        program, self._program = self._program, None
        if program is None:
            return
        self._ended = self._ended or "was closed"
        assert program.stdout is not None
        program.stdout.close()
        # One that sudo started is root's and may not be killed, but has nowhere left to write to.
        with contextlib.suppress(PermissionError):
            program.kill()
        with contextlib.suppress(subprocess.TimeoutExpired):
            program.wait(_END_SECONDS_MAX)

    def _wait_for_first(self) -> None:
        import select

        assert self._program is not None
        assert self._program.stdout is not None
        ends_at = time.monotonic() + _FIRST_SECONDS_MAX
        while not self._joules and not self._ended:
            seconds_left = max(0.0, ends_at - time.monotonic())
            if not select.select([self._program.stdout], [], [], seconds_left)[0]:
                return
            self._take_in()

    def _take_in(self) -> None:
        if self._program is None:
            return
        assert self._program.stdout is not None
        try:
            while chunk := os.read(self._program.stdout.fileno(), _BYTES_MAX):
                self._text += chunk
        except BlockingIOError:
            pass
        else:
            # The end of its output is the end of the program.
            self._ended = f"has ended with {self._program.wait()}"
        # Each list ends with a closing tag, and begins with a zero byte but for the first.
        *lists, rest = self._text.split(b"</plist>")
        self._text = rest[-_BYTES_MAX:]
        for text in lists:
            self._add(text.lstrip(b"\0\n ") + b"</plist>")

    def _add(self, text: bytes) -> None:
        try:
            told = plistlib.loads(text)
            energies = energies_of(told)
        except (plistlib.InvalidFileException, ValueError, TypeError, AttributeError, SyntaxError) as error:
            self._ended = f"told what cannot be read: {error!r}"
            return
        for component, joules in energies.items():
            self._joules[component] = self._joules.get(component, 0.0) + joules


def _source(component: str) -> str:
    return f"powermetrics, an estimate by Apple{USERS_NOT_TOLD if component.startswith('gpu') else ''}"


def energies_of(told: Mapping[str, object]) -> Mapping[str, float]:
    """Joules by component of one list of `powermetrics`; an Intel Mac tells its package's only.

    >>> energies_of({"processor": {"cpu_energy": 500, "gpu_energy": 20}})
    {'cpu': 0.5, 'gpu0': 0.02}
    >>> energies_of({"processor": {"package_joules": 12.5}})
    {'cpu': 12.5}
    """
    processor = told.get("processor")
    if not isinstance(processor, dict):
        return {}
    if "package_joules" in processor:
        return {"cpu": float(processor["package_joules"])}
    return {
        component: float(processor[name]) * _JOULES_PER_MILLIJOULE
        for component, name in _ENERGIES.items()
        if name in processor
    }
