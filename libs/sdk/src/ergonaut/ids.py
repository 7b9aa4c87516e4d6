"""Ids that sort by the time they were made, with a word in front that says what they name: `run-01k…`."""

import hashlib
import re
from datetime import UTC, datetime

from ulid import ULID

NAME_PATTERN = r"^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$"
_NAME = re.compile(NAME_PATTERN)
NAME_RULE = "1 to 63 lower-case letters, digits and dashes, beginning and ending with a letter or digit"


def new_id(kind: str) -> str:
    """A new id; later ones sort after earlier ones, and all are fit for subjects, keys and file names.

    >>> new_id("run").startswith("run-")
    True
    """
    return f"{kind}-{str(ULID()).lower()}"


def id_at(kind: str, at: datetime, entropy: int) -> str:
    """An id made of a given time and 80 bits of given randomness, for code that must be repeatable, such as workflows.

    >>> from datetime import UTC
    >>> id_at("run", datetime(2026, 1, 1, tzinfo=UTC), 7)
    'run-01kdvdna000000000000000007'
    """
    milliseconds = int(at.timestamp() * 1000)
    return f"{kind}-{str(ULID.from_bytes(milliseconds.to_bytes(6) + entropy.to_bytes(10))).lower()}"


def time_of(made: str) -> datetime:
    """When an id of `new_id` was made, to the millisecond.

    >>> time_of("run-01kdvdna000000000000000007").isoformat()
    '2026-01-01T00:00:00+00:00'
    """
    return ULID.from_str(made.rpartition("-")[2].upper()).datetime.astimezone(UTC)


def derived_id(kind: str, *parts: str) -> str:
    """The same id for the same parts, for work that may be repeated.

    >>> derived_id("lease", "job-1", "1") == derived_id("lease", "job-1", "1")
    True
    """
    digest = hashlib.sha256("\0".join(parts).encode()).hexdigest()
    return f"{kind}-{digest[:26]}"


def is_name(text: str) -> bool:
    """Whether a text may name a tenant, job, run, model or collection; such names are safe in subjects, keys and paths.

    >>> is_name("digits-2"), is_name("../etc"), is_name("")
    (True, False, False)
    """
    return _NAME.fullmatch(text) is not None
