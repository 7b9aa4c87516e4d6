"""Files of models that versions share: one a digest and tenant, kept as long as any deployment holds it."""

from dataclasses import dataclass, replace
from datetime import datetime, timedelta

HOLD_UNUSED_MAX = timedelta(hours=1)
"""How long a hold may stand before a version's record tells of it; a deployment writes that within minutes or has died."""


@dataclass(frozen=True, slots=True)
class Hold:
    """A deployment that needs the file."""

    model: str
    deployment_id: str
    at: datetime


@dataclass(frozen=True, slots=True)
class KeptFile:
    """A file in the store and who holds it. One that nobody holds is being deleted, and is never held again."""

    tenant: str
    digest: str
    file: str
    holds: tuple[Hold, ...] = ()


@dataclass(frozen=True, slots=True)
class FileEntry:
    """A kept file and the revision under which it is noted; a writer must name the revision that it replaces."""

    kept: KeptFile
    revision: int


def held(kept: KeptFile, hold: Hold) -> KeptFile:
    """The file with one more that holds it."""
    return replace(kept, holds=(*kept.holds, hold))


def let_go(kept: KeptFile, deployment_id: str) -> KeptFile:
    """The file without a deployment's hold."""
    return replace(kept, holds=tuple(hold for hold in kept.holds if hold.deployment_id != deployment_id))


def without_dead(kept: KeptFile, living: frozenset[str], *, now: datetime) -> KeptFile:
    """The file without the holds of deployments that died before their version was recorded."""
    holds = (hold for hold in kept.holds if hold.deployment_id in living or now - hold.at <= HOLD_UNUSED_MAX)
    return replace(kept, holds=tuple(holds))
