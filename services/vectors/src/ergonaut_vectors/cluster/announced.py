"""What every node of the index tells once a second: that it is there, and where; as `ergonaut.announcements` says."""

from pydantic import Field

from ergonaut.announcements import Announced, Kind

SUBJECT = "ergonaut-cluster.v1.vectors.nodes"
"""Outside of the public subjects; no stream keeps what is told here."""

GONE_SECONDS = 60.0
"""A node that is silent for so long is taken for lost: its replicas are made anew elsewhere. A restart takes less."""

PROTOCOL = 1


class NodeAnnounced(Announced):
    """A node as it is now."""

    protocol: int = Field(default=PROTOCOL, ge=1, description="How it is asked; others are not asked.")
    name: str = Field(min_length=1, max_length=256, description="The same after a restart: what it holds goes by it.")
    process: str = Field(min_length=1, max_length=64, description="Another one after each start.")
    address: str = Field(max_length=256, description="Where it is asked, host:port.")
    zone: str = Field(default="", max_length=256, description="What fails together; empty is a zone of its own.")
    weight: float = Field(
        default=1.0, ge=0, le=1e6, allow_inf_nan=False, description="What it can hold, against others."
    )
    draining: bool = Field(default=False, description="Whether it is about to leave, and is to hold nothing more.")


ANNOUNCEMENTS = Kind("node", SUBJECT, NodeAnnounced, b"ergonaut vectors node\n", message_bytes_max=4096)
