"""Who calls: API keys, kept as digests only, and what each may do. Used by every gRPC and HTTP door.

A key reads `ergo_<id>_<secret>`; the file holds `{"keys": [{"id", "sha256", "tenant", "principal", "scopes", "expires_at"}]}`.
"""

import hashlib
import hmac
import json
import secrets
from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path

from pydantic import AwareDatetime, BaseModel, Field, ValidationError

from ergonaut.errors import Broken, NotAllowed
from ergonaut.ids import is_name


class Scope(StrEnum):
    """What a key may be used for."""

    READ = "read"
    WRITE = "write"
    SERVICE = "service"
    """Held by the platform's own services only: may act for any tenant."""


@dataclass(frozen=True, slots=True)
class Caller:
    """Somebody who was let in."""

    tenant: str
    principal: str
    scopes: frozenset[Scope]

    def require(self, scope: Scope) -> None:
        """Raise NotAllowed unless the caller has this scope."""
        if scope not in self.scopes:
            raise NotAllowed(f"{self.principal} has no {scope} scope; use a key that has it")

    def acting_for(self, tenant: str) -> "Caller":
        """The same caller on behalf of a tenant; only services may."""
        if tenant == self.tenant:
            return self
        self.require(Scope.SERVICE)
        if not is_name(tenant):
            raise NotAllowed(f"{tenant!r} cannot be a tenant's name")
        return replace(self, tenant=tenant)


class KeyRecord(BaseModel):
    """One key as the file holds it: never the key itself."""

    id: str
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    tenant: str
    principal: str
    scopes: frozenset[Scope]
    expires_at: AwareDatetime | None = None


class KeyRing:
    """The keys that are let in."""

    def __init__(self, records: Iterable[KeyRecord] = ()) -> None:
        self._records = {record.id: record for record in records}

    @classmethod
    def load(cls, path: Path | None) -> "KeyRing":
        """Read a file of keys; no path gives a ring that lets nobody in."""
        if path is None:
            return cls()
        try:
            return cls(KeyRecord.model_validate(entry) for entry in json.loads(path.read_text())["keys"])
        except (OSError, KeyError, ValueError, ValidationError) as error:
            raise Broken(f"the key file {path} cannot be read: {error}") from error

    def authenticate(self, authorization: str) -> Caller:
        """The caller behind an `Authorization` value, `Bearer <key>`. Raises NotAllowed."""
        key = authorization.removeprefix("Bearer ").strip()
        parts = key.split("_", 2)
        record = self._records.get(parts[1]) if len(parts) == 3 else None
        # The digest is compared even for an unknown id, so that timing does not tell which ids exist.
        expected = record.sha256 if record else "0" * 64
        matches = hmac.compare_digest(hashlib.sha256(key.encode()).hexdigest(), expected)
        if record is None or not matches:
            raise NotAllowed("the API key is missing or unknown; send `authorization: Bearer <key>`")
        if record.expires_at is not None and record.expires_at <= datetime.now(UTC):
            raise NotAllowed(f"the API key {record.id} expired at {record.expires_at.isoformat()}; ask for a new one")
        return Caller(record.tenant, record.principal, record.scopes)


def new_key(tenant: str, principal: str, scopes: Iterable[Scope]) -> tuple[str, KeyRecord]:
    """Make a key; the text is shown once, the record is what is kept."""
    key_id = secrets.token_hex(6)
    key = f"ergo_{key_id}_{secrets.token_urlsafe(32)}"
    digest = hashlib.sha256(key.encode()).hexdigest()
    return key, KeyRecord(id=key_id, sha256=digest, tenant=tenant, principal=principal, scopes=frozenset(scopes))
