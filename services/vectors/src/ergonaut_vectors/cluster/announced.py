"""What every node of the index tells once a second on core NATS: that it is there, and where.

Signed with the services' key, since whoever is believed is asked on behalf of all tenants, and told what is written. Nothing
keeps it: who is silent is gone.
"""

import hashlib
import hmac
from datetime import datetime, timedelta

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, ValidationError

from ergonaut.errors import Refused
from ergonaut.faults import in_words

SUBJECT = "ergonaut-cluster.v1.vectors.nodes"
"""Outside of the public subjects; no stream keeps what is told here."""

EVERY_SECONDS = 1.0
SILENT_SECONDS = 3.0
"""Two may be lost on the way before a node that is there is asked nothing any more."""

GONE_SECONDS = 60.0
"""A node that is silent for so long is taken for lost: its replicas are made anew elsewhere. A restart takes less."""

PROTOCOL = 1
MESSAGE_BYTES_MAX = 4096
"""Whatever is longer is not of ours."""

APART_MAX = timedelta(seconds=60)
"""How far the clocks of two machines may be apart; older words are not believed, so that nobody can tell them again later."""

_CONTEXT = b"ergonaut vectors node\n"
_SIGNATURE_BYTES = hashlib.sha256().digest_size


class NodeAnnounced(BaseModel):
    """A node as it is now."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    protocol: int = Field(default=PROTOCOL, ge=1, description="How it is asked; others are not asked.")
    name: str = Field(min_length=1, max_length=256, description="The same after a restart: what it holds goes by it.")
    process: str = Field(min_length=1, max_length=64, description="Another one after each start.")
    address: str = Field(max_length=256, description="Where it is asked, host:port.")
    zone: str = Field(default="", max_length=256, description="What fails together; empty is a zone of its own.")
    weight: float = Field(
        default=1.0, ge=0, le=1e6, allow_inf_nan=False, description="What it can hold, against others."
    )
    told_at: AwareDatetime = Field(description="When this was told, UTC.")
    draining: bool = Field(default=False, description="Whether it is about to leave, and is to hold nothing more.")


def sealed(announced: NodeAnnounced, key: str) -> bytes:
    """An announcement as it is told, signed with the services' key."""
    body = announced.model_dump_json().encode()
    return _signature(body, key) + body


def unsealed(message: bytes, key: str, now: datetime) -> NodeAnnounced:
    """What was told. Raises Refused where it is not of somebody who has the services' key, is old, or cannot be read."""
    signature, body = message[:_SIGNATURE_BYTES], message[_SIGNATURE_BYTES:]
    if not key or len(message) > MESSAGE_BYTES_MAX or not hmac.compare_digest(signature, _signature(body, key)):
        raise Refused("is not signed with the services' key of this node; give all nodes the same", field="node")
    try:
        announced = NodeAnnounced.model_validate_json(body)
    except ValidationError as error:
        raise Refused(f"cannot be read: {in_words(error)}", field="node") from error
    if abs(now - announced.told_at) > APART_MAX:
        told = f"was told at {announced.told_at.isoformat()} by its clock, here it is {now.isoformat()}; set the clocks"
        raise Refused(told, field="node")
    return announced


def _signature(body: bytes, key: str) -> bytes:
    return hmac.digest(key.encode(), _CONTEXT + body, "sha256")
