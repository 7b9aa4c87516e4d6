"""How fast the ledger takes samples in. `make bench-ledger`.

Ingest: one publisher, one nats-server with JetStream on disk and one ledger with its embedded ClickHouse share this machine's
cores. Timed is from the first message told to the last one acknowledged by the ledger, which is after its rows are on disk.
"""

import os

from fleet import Fleet
from ingest import Ingested, ingest

FLEET = Fleet(hosts=20, runs_per_host=198)
"""998 samples a message; an agent cuts at 1,000."""

SMALL = Fleet(hosts=1_000, runs_per_host=2)
"""18 samples a message: a thousand hosts of two runs, a second of each at a time."""

SAMPLES_PER_SECOND_MIN = 200_000
SECONDS = int(os.environ.get("ERGONAUT_BENCH_SECONDS", "100"))


def tell(name: str, seen: Ingested) -> None:
    """What was seen, in words."""
    print(
        f"{name}: {seen.samples:,} samples in {seen.messages:,} messages of {seen.body_bytes / seen.messages / 1024:.0f} KiB "
        f"({seen.body_bytes / seen.samples:.0f} bytes a sample): {seen.seconds:.1f} s, {seen.samples_per_second:,.0f} a second; "
        f"told after {seen.published_seconds:.1f} s; ledger {seen.ledger_cpu_seconds:.1f} CPU-s, "
        f"{seen.ledger_memory_mib:,.0f} MiB at most"
    )


def main() -> None:
    """Measure and tell."""
    print(f"on {os.cpu_count()} cores, shared by publisher, nats-server and ledger")
    first = ingest(FLEET, SECONDS, encode_first=True)
    tell("encoded before, as a spool is", first)
    tell("built and encoded within", ingest(FLEET, SECONDS // 4, encode_first=False))
    tell("small messages, encoded before", ingest(SMALL, SECONDS // 4, encode_first=True))
    value = first.samples_per_second
    print(
        f"BAR ingest_samples_per_second {value:.0f} {SAMPLES_PER_SECOND_MIN} "
        f"{'ok' if value >= SAMPLES_PER_SECOND_MIN else 'short'}"
    )


if __name__ == "__main__":
    main()
