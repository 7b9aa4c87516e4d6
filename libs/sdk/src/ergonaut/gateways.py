"""What every process of the gateway tells once a second on core NATS: that it is there, where it takes work, how busy it is.

Gateways find each other by it, and whoever keeps replicas of them sees which are there. Nothing keeps it: who is silent for
`SILENT_SECONDS` is gone. It is signed with the services' key, since whoever is believed here is sent the requests of all tenants.
"""

import hashlib
import hmac
from datetime import datetime, timedelta

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, ValidationError

from ergonaut.errors import Refused
from ergonaut.events.base import PUBLIC_TENANT, subject_of
from ergonaut.faults import in_words

TYPE = "gateways.replica.announced"
SUBJECT = subject_of(TYPE, tenant=PUBLIC_TENANT, key="all")
"""No stream keeps what is told here."""

EVERY_SECONDS = 1.0
SILENT_SECONDS = 3.0
"""Two may be lost on the way before somebody who is there is taken for gone."""

PROTOCOL = 1
"""How gateways send each other requests: `ModelInfer` of the Open Inference Protocol with the metadata of `FORWARDED_BY`."""

FORWARDED_BY = "x-ergonaut-forwarded-by"
"""Metadata of a request that another gateway has sent on, with that one's replica: it is answered here, not sent on again."""

MESSAGE_BYTES_MAX = 64 * 1024
"""A thousand models take 11 kB; whatever is longer is not of ours."""

APART_MAX = timedelta(seconds=60)
"""How far the clocks of two machines may be apart. Older announcements are not believed, so that nobody can tell them again
later, when their address may be another's."""

_CONTEXT = b"ergonaut gateway announcement\n"
_SIGNATURE_BYTES = hashlib.sha256().digest_size


class GatewayAnnounced(BaseModel):
    """One process of the gateway as it is now. Several of one `replica` share its address: they are workers of one gateway."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    protocol: int = Field(default=PROTOCOL, ge=1, description="How it is sent requests; others are not sent any.")
    replica: str = Field(
        min_length=1, max_length=256, description="The gateway, the same after a restart where it was named."
    )
    process: str = Field(min_length=1, max_length=64, description="The process, another one after each start.")
    address: str = Field(
        default="", max_length=256, description="Its gRPC, host:port; empty where it takes no others' requests."
    )
    host: str = Field(
        default="",
        max_length=256,
        description="The machine, or container; a loopback address is reached from there alone.",
    )
    tls: bool = Field(default=False, description="Whether TLS is spoken there.")
    told_at: AwareDatetime = Field(description="When this was told, UTC.")
    draining: bool = Field(default=False, description="Whether it is about to leave and takes nothing more.")
    weight: float = Field(
        default=1.0, gt=0, le=1e6, allow_inf_nan=False, description="How much it can do, against others."
    )
    at_work: int = Field(default=0, ge=0, description="Requests that wait or run.")
    at_work_max: int = Field(
        default=1, ge=1, description="As many may be at work before callers are told to come back."
    )
    cores: float | None = Field(
        default=None, ge=0, allow_inf_nan=False, description="Used in the last second; unset: not known."
    )
    replicas_wanted: int | None = Field(
        default=None,
        ge=0,
        description="Gateways that will be needed soon, as all of them reckon; unset where nobody reckons.",
    )
    models: str = Field(default="", description="Fingerprints of the versions that are loaded, base64, 8 bytes each.")
    models_told: bool = Field(
        default=True, description="Whether `models` has all of them; otherwise there are too many."
    )


def sealed(announced: GatewayAnnounced, key: str) -> bytes:
    """An announcement as it is told, signed with the services' key."""
    body = announced.model_dump_json(exclude_none=True).encode()
    return _signature(body, key) + body


def unsealed(message: bytes, key: str, now: datetime) -> GatewayAnnounced:
    """What was told. Raises Refused where it is not of somebody who has the services' key, is old, or cannot be read."""
    signature, body = message[:_SIGNATURE_BYTES], message[_SIGNATURE_BYTES:]
    if not key or len(message) > MESSAGE_BYTES_MAX or not hmac.compare_digest(signature, _signature(body, key)):
        raise Refused(
            "is not signed with the services' key of this gateway; give all gateways the same", field="announcement"
        )
    try:
        announced = GatewayAnnounced.model_validate_json(body)
    except ValidationError as error:
        raise Refused(f"cannot be read: {in_words(error)}", field="announcement") from error
    if abs(now - announced.told_at) > APART_MAX:
        raise Refused(
            f"was told at {announced.told_at.isoformat()} by its clock, here it is {now.isoformat()}; set the clocks",
            field="announcement",
        )
    return announced


def _signature(body: bytes, key: str) -> bytes:
    return hmac.digest(key.encode(), _CONTEXT + body, "sha256")
