"""API keys as callers hold them and as doors keep them. A key reads `ergo_<id>_<secret>`; only its digest is kept.

A door's file holds `{"keys": [{"id", "sha256", "tenant", "principal", "scopes", "expires_at"}]}`.
"""

import hashlib
import secrets
from collections.abc import Iterable
from enum import StrEnum

from pydantic import AwareDatetime, BaseModel, Field


class Scope(StrEnum):
    """What a key may be used for."""

    READ = "read"
    WRITE = "write"
    OPERATE = "operate"
    """Held by whoever runs the platform: may have processes started that hold the platform's own keys."""
    SERVICE = "service"
    """Held by the platform's own services only: may act for any tenant."""


class KeyRecord(BaseModel):
    """One key as a door keeps it: never the key itself."""

    id: str
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    tenant: str
    principal: str
    scopes: frozenset[Scope]
    expires_at: AwareDatetime | None = None


def new_key(tenant: str, principal: str, scopes: Iterable[Scope]) -> tuple[str, KeyRecord]:
    """Make a key; the text is shown once, the record is what is kept."""
    key_id = secrets.token_hex(6)
    key = f"ergo_{key_id}_{secrets.token_urlsafe(32)}"
    return key, KeyRecord(id=key_id, sha256=digest(key), tenant=tenant, principal=principal, scopes=frozenset(scopes))


def digest(key: str) -> str:
    """What is kept of a key. The secret has 256 random bits, so a plain hash is enough."""
    return hashlib.sha256(key.encode()).hexdigest()
