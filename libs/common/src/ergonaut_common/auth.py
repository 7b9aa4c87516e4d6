"""Who calls, and what they may do. Used by every gRPC and HTTP door; the keys themselves are described in `ergonaut.keys`."""

import hmac
import json
from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

from pydantic import ValidationError

from ergonaut.errors import Broken, NotAllowed
from ergonaut.faults import in_words
from ergonaut.ids import is_name
from ergonaut.keys import KeyRecord, Scope, digest


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
        except ValidationError as error:
            raise Broken(f"the key file {path} is damaged: {in_words(error)}") from error
        except (OSError, KeyError, TypeError, ValueError) as error:
            raise Broken(f"the key file {path} cannot be read: {error}") from error

    def authenticate(self, authorization: str) -> Caller:
        """The caller behind an `Authorization` value, `Bearer <key>`. Raises NotAllowed."""
        key = authorization.removeprefix("Bearer ").strip()
        parts = key.split("_", 2)
        record = self._records.get(parts[1]) if len(parts) == 3 else None
        # The digest is compared even for an unknown id, so that timing does not tell which ids exist.
        expected = record.sha256 if record else "0" * 64
        matches = hmac.compare_digest(digest(key), expected)
        if record is None or not matches:
            raise NotAllowed("the API key is missing or unknown; send `authorization: Bearer <key>`")
        if record.expires_at is not None and record.expires_at <= datetime.now(UTC):
            raise NotAllowed(f"the API key {record.id} expired at {record.expires_at.isoformat()}; ask for a new one")
        return Caller(record.tenant, record.principal, record.scopes)
