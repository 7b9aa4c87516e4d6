"""What every process of the gateway tells once a second on core NATS: that it is there, where it takes work, how busy it is.

Gateways find each other by it, and whoever keeps replicas of them sees which are there. How it is told: `ergonaut.announcements`.
"""

from pydantic import Field

from ergonaut.announcements import Announced, Kind
from ergonaut.events.base import PUBLIC_TENANT, subject_of

TYPE = "gateways.replica.announced"
SUBJECT = subject_of(TYPE, tenant=PUBLIC_TENANT, key="all")
"""No stream keeps what is told here."""

PROTOCOL = 1
"""How gateways send each other requests: `ModelInfer` of the Open Inference Protocol with the metadata of `FORWARDED_BY`."""

FORWARDED_BY = "x-ergonaut-forwarded-by"
"""Metadata of a request that another gateway has sent on, with that one's replica: it is answered here, not sent on again."""


class GatewayAnnounced(Announced):
    """One process of the gateway as it is now. Several of one `replica` share its address: they are workers of one gateway."""

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


ANNOUNCEMENTS = Kind(
    "gateway",
    SUBJECT,
    GatewayAnnounced,
    b"ergonaut gateway announcement\n",
    # A thousand models take 11 kB.
    message_bytes_max=64 * 1024,
)
