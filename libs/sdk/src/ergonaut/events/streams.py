"""The JetStream streams that keep the events: one an area, each bounded. Services make those that they use when they start."""

from dataclasses import dataclass

_MIB = 1024 * 1024
_DAY_SECONDS = 24 * 3600


@dataclass(frozen=True, slots=True)
class StreamSpec:
    """One stream: what it keeps, how much of it, how long."""

    name: str
    area: str
    bytes_max: int
    age_max_seconds: int

    @property
    def subjects(self) -> list[str]:
        """Everything of its area, of all tenants."""
        return [f"ergonaut.v1.*.{self.area}.>"]


# The ledger is the record; a stream only has to outlast the ledger's absence. A host tells 2.7 kB of samples a second, 4.3 kB
# with one run and 15.5 kB with eight, so the stream of samples holds 49, 32 or 10 hours of one host. JetStream sets a stream's
# bound aside when it is made, so all of them together must fit on a small disk.
STREAMS = {
    spec.area: spec
    for spec in (
        StreamSpec("ERGONAUT_TELEMETRY", "telemetry", 512 * _MIB, 7 * _DAY_SECONDS),
        StreamSpec("ERGONAUT_PRICING", "pricing", 64 * _MIB, 7 * _DAY_SECONDS),
        StreamSpec("ERGONAUT_JOBS", "jobs", 64 * _MIB, 30 * _DAY_SECONDS),
        StreamSpec("ERGONAUT_RUNS", "runs", 64 * _MIB, 30 * _DAY_SECONDS),
        StreamSpec("ERGONAUT_LEASES", "leases", 32 * _MIB, 30 * _DAY_SECONDS),
        StreamSpec("ERGONAUT_MODELS", "models", 32 * _MIB, 30 * _DAY_SECONDS),
        StreamSpec("ERGONAUT_INFERENCE", "inference", 64 * _MIB, 7 * _DAY_SECONDS),
        StreamSpec("ERGONAUT_LEDGER", "ledger", 32 * _MIB, 30 * _DAY_SECONDS),
        StreamSpec("ERGONAUT_VECTORS", "vectors", 32 * _MIB, 30 * _DAY_SECONDS),
        StreamSpec("ERGONAUT_DEAD", "dead", 64 * _MIB, 30 * _DAY_SECONDS),
    )
}
