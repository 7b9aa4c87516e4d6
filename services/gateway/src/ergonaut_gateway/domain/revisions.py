"""What endpoints and pipelines have in common: each change is a revision, and a writer may say which one it expects."""

from collections.abc import Iterable
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


def check_room(records: Iterable[Revised], current: Revised | None, tenant: str, *, most: int, what: str) -> None:
    """Raise Refused where a tenant would have more than so many; whoever is there already has a place."""
    if current is None or not current.is_kept:
        count = sum(record.tenant == tenant and record.is_kept for record in records)
        if count >= most:
            raise Refused(f"{count} {what} are there, which is the most; remove one first", field="name")


def check_because(because: str) -> None:
    """Raise Refused for a reason that is too long to be kept."""
    if len(because) > BECAUSE_CHARACTERS_MAX:
        raise Refused(f"is longer than {BECAUSE_CHARACTERS_MAX} characters", field="because")
