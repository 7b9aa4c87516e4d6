"""What endpoints and pipelines have in common: each change is a revision, and a writer may say which one it expects."""

from datetime import datetime
from typing import Protocol

from ergonaut.errors import Conflict, Refused

BECAUSE_CHARACTERS_MAX = 500
"""Of why somebody changes something; records and events must stay small."""

HISTORY_MAX = 20
"""Earlier revisions that are kept; a record must stay small."""


class _Numbered(Protocol):
    @property
    def revision(self) -> int: ...


class Revised(Protocol):
    """The one truth about something that changes by revisions."""

    @property
    def tenant(self) -> str: ...
    @property
    def name(self) -> str: ...
    @property
    def now(self) -> _Numbered: ...
    @property
    def removed_at(self) -> datetime | None: ...
    @property
    def is_told(self) -> bool: ...
    @property
    def is_kept(self) -> bool: ...


def check_expected(current: Revised | None, what: str, expected: int | None) -> None:
    """Raise Conflict unless there is the revision that is expected; 0 is none, None is any."""
    revision = current.now.revision if current is not None and current.is_kept else 0
    if expected is not None and expected != revision:
        told = f"has revision {revision}" if revision else "is not there"
        wanted = f"revision {expected}" if expected else "none"
        raise Conflict(f"{what} {told}, and {wanted} was expected")


def check_because(because: str) -> None:
    """Raise Refused for a reason that is too long to be kept."""
    if len(because) > BECAUSE_CHARACTERS_MAX:
        raise Refused(f"is longer than {BECAUSE_CHARACTERS_MAX} characters", field="because")
