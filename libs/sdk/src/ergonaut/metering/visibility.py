"""Whether a process number that a driver tells means the same process here: in a container it usually does not."""

import os
from pathlib import Path

# The kernel gives its first namespace of processes this fixed number (PROC_PID_INIT_INO in include/linux/proc_ns.h).
_FIRST_PID_NAMESPACE = "pid:[4026531836]"
# A process opens a few hundred files; one that opens more than this is not looked through to its end.
_FILES_MAX = 4096
# So many processes of drivers are remembered; more never hold the cards of one host at once.
_REMEMBERED_MAX = 4096


class PidVisibility:
    """Drivers tell processes by the host's numbers. In a container of its own numbers one is believed only if it is seen here,
    with the device open: the same number may be an innocent process of ours.
    """

    def __init__(self, proc: Path = Path("/proc"), device: str = "/dev/nvidia") -> None:
        self._proc = proc
        self._device = device
        self._believed: dict[int, bool] = {}
        self.all_visible = self._namespace() in ("", _FIRST_PID_NAMESPACE)

    def as_seen_here(self, pid: int) -> int:
        """The process's number, or a negative one where it belongs to nobody that can be seen here."""
        if self.all_visible:
            return pid
        if pid not in self._believed:
            if len(self._believed) >= _REMEMBERED_MAX:
                self._believed.clear()
            self._believed[pid] = self._holds_device(pid)
        return pid if self._believed[pid] else -pid

    def _namespace(self) -> str:
        try:
            return str((self._proc / "self" / "ns" / "pid").readlink())
        except OSError:
            return ""

    def _holds_device(self, pid: int) -> bool:
        folder = self._proc / str(pid) / "fd"
        try:
            with os.scandir(folder) as files:
                return any(
                    os.readlink(file.path).startswith(self._device)  # noqa: PTH115 - thousands of files, of no use as Path
                    for file, _ in zip(files, range(_FILES_MAX), strict=False)
                )
        except OSError:
            return False
