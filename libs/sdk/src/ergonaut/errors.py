"""The five kinds of error that anything in Ergonaut may raise; each transport translates them by one table of its own.

ErgonautError
├── Refused      the caller asked for something that cannot be given; asking again changes nothing
│   └── NotAllowed   the caller may not ask for it
├── NotFound     what was named does not exist
├── Conflict     it exists already and is different
├── Unavailable  a part is away; asking again later helps
└── Broken       a bug or damaged data on our side
"""

from dataclasses import dataclass


class ErgonautError(Exception):
    """Any failure that Ergonaut names; the message says what was attempted, on what, and what to do."""


class Refused(ErgonautError):
    """The request is wrong or not possible; `field` names the part that is wrong, where there is one."""

    def __init__(self, message: str, *, field: str = "") -> None:
        super().__init__(f"{field}: {message}" if field else message)
        self.field = field


class NotAllowed(Refused):
    """The caller is unknown or may not do this."""


class NotFound(ErgonautError):
    """What was named does not exist."""


class Conflict(ErgonautError):
    """What was named exists already and is different."""


class Unavailable(ErgonautError):
    """A part that is needed does not answer now; the same request may succeed later."""


class Broken(ErgonautError):
    """Something that must hold does not; a bug or damaged data."""


@dataclass(frozen=True, slots=True)
class FieldError:
    """One thing that is wrong with an input: where and what."""

    field: str
    message: str
