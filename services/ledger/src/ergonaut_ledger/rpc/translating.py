"""What the ledger's doors share in turning requests into questions and answers into protobuf."""

from datetime import UTC, datetime

from google.protobuf.timestamp_pb2 import Timestamp

from ergonaut.errors import Refused
from ergonaut.ids import NAME_RULE, is_name
from ergonaut_ledger.domain.bounds import EARLIEST, LATEST


def within(field: str, value: int, least: int, most: int) -> int:
    """A number that must lie between two others. Raises Refused naming the field."""
    if not least <= value <= most:
        raise Refused(f"{value} is not between {least} and {most}", field=field)
    return value


def run_id_of(run_id: str) -> str:
    """A run's id. Raises Refused."""
    if not is_name(run_id):
        raise Refused(f"{run_id!r} is no run's id; it must be {NAME_RULE}", field="run_id")
    return run_id


def moment(field: str, stamp: Timestamp) -> datetime:
    """A time that must be given and be one that the ledger can hold. Raises Refused naming the field."""
    at = stamp.ToDatetime(UTC) if stamp.seconds else EARLIEST
    if not EARLIEST < at < LATEST:
        raise Refused(f"must be a time from {EARLIEST:%Y} to {LATEST:%Y}", field=field)
    return at


def timestamp(moment: datetime) -> Timestamp:
    """A time as it travels by gRPC."""
    stamp = Timestamp()
    stamp.FromDatetime(moment)
    return stamp
