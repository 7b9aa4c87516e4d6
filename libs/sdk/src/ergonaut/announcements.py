"""What processes tell all others of themselves on core NATS, and how it is sealed: signed with the services' key.

Whoever is believed is asked on behalf of all tenants. Nothing keeps what is told: who is silent is gone. Each kind is told of in
its own module: gateways in `ergonaut.gateways`, nodes of the vector index in its service.
"""

import hashlib
import hmac
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Generic, TypeVar

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, ValidationError

from ergonaut.errors import Refused
from ergonaut.faults import in_words

EVERY_SECONDS = 1.0
SILENT_SECONDS = 3.0
"""Two may be lost on the way before somebody who is there is taken for gone."""

APART_MAX = timedelta(seconds=60)
"""How far the clocks of two machines may be apart. Older announcements are not believed, so that nobody can tell them again
later, when their address may be another's."""

_SIGNATURE_BYTES = hashlib.sha256().digest_size


class Announced(BaseModel):
    """A process as it is now."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    told_at: AwareDatetime = Field(description="When this was told, UTC.")


T = TypeVar("T", bound=Announced)


@dataclass(frozen=True, slots=True)
class Kind(Generic[T]):
    """What is told by all processes of one kind."""

    name: str
    """What such a process is called, for errors."""
    subject: str
    form: type[T]
    context: bytes
    """Signed beside what is told, so that words of one kind are none of another."""
    message_bytes_max: int
    """Whatever is longer is not of ours."""

    def sealed(self, announced: T, key: str) -> bytes:
        """An announcement as it is told, signed with the services' key."""
        body = announced.model_dump_json(exclude_none=True).encode()
        return self._signature(body, key) + body

    def unsealed(self, message: bytes, key: str, now: datetime) -> T:
        """What was told. Raises Refused where it is not of somebody who has the services' key, is old, or cannot be read."""
        if not self._is_signed(message, key):
            told = f"is not signed with the services' key of this {self.name}; give all {self.name}s the same"
            raise Refused(told, field=self.name)
        try:
            announced = self.form.model_validate_json(message[_SIGNATURE_BYTES:])
        except ValidationError as error:
            raise Refused(f"cannot be read: {in_words(error)}", field=self.name) from error
        if abs(now - announced.told_at) > APART_MAX:
            at, here = announced.told_at.isoformat(), now.isoformat()
            raise Refused(f"was told at {at} by its clock, here it is {here}; set the clocks", field=self.name)
        return announced

    def _is_signed(self, message: bytes, key: str) -> bool:
        signature, body = message[:_SIGNATURE_BYTES], message[_SIGNATURE_BYTES:]
        is_ours = bool(key) and len(message) <= self.message_bytes_max
        return is_ours and hmac.compare_digest(signature, self._signature(body, key))

    def _signature(self, body: bytes, key: str) -> bytes:
        return hmac.digest(key.encode(), self.context + body, "sha256")
