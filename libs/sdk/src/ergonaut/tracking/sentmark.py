"""How far a journal has been sent, so that what a bus that was away has not had is sent later, and not removed before."""

import contextlib
from pathlib import Path

_MARK_DIGITS = 20


class SentMark:
    """How many entries of a journal are sent, in a small file beside it; without the file there is nothing to send."""

    def __init__(self, journal: Path) -> None:
        self._path = journal.with_name("sent")

    @property
    def exists(self) -> bool:
        """Whether something may be left to send."""
        return self._path.exists()

    def create(self) -> None:
        """Say that this journal is to be sent."""
        # On a full disk all is sent from the beginning, and the bus keeps of it what it has not had.
        with contextlib.suppress(OSError):
            if not self.exists:
                self._path.write_text("0" * _MARK_DIGITS)

    def read(self) -> int:
        """How many entries were acknowledged."""
        try:
            return int(self._path.read_text() or 0)
        except (OSError, ValueError):
            return 0

    def write(self, entries: int) -> None:
        """Remember it; written in place with a fixed width, so that no crash leaves half a number."""
        with contextlib.suppress(OSError), self._path.open("r+b", buffering=0) as file:
            file.write(f"{entries:0{_MARK_DIGITS}d}".encode())

    def remove(self) -> None:
        """Say that all is sent."""
        self._path.unlink(missing_ok=True)
