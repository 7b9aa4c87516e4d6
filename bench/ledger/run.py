"""How fast the ledger takes samples in, and how soon it reports a month of a thousand hosts. `make bench-ledger`.

Ingest: one publisher with the agent's own link, one nats-server with JetStream on disk and one ledger with its embedded
ClickHouse share two cores, on which they are kept where the system can. Timed is from the first message told to the last one
acknowledged by the ledger, which is after its rows are on disk. Three forms are measured against one bound: `ingest`, large
messages that were encoded before, as a spool sends them; `ingest_built`, the same but built and encoded within the time;
`ingest_small_messages`, encoded before, but of 18 samples each, as a thousand hosts of two runs send them.

Month: the sums by hour and day of a thousand hosts, as `month.py` tells; timed are the ledger's own questions, from the question
to the rows in Python, and whole statements and compliance reports. ERGONAUT_BENCH_SECONDS sets how many seconds of the fleet are
told (default 100); `ingest` or `month` as an argument leaves out the other, `month-at-scale` the samples of the hundredth too.
The month comes first, and is asked on all cores.
"""

import os
import sys
from collections.abc import Callable, Sequence

from fleet import Fleet
from ingest import Ingested, ingest
from month import COMPLIANCE, STATEMENT, Books, Reported, month_at_a_hundredth, month_at_full_scale, with_books

FLEET = Fleet(hosts=20, runs_per_host=198)
"""998 samples a message; an agent cuts at 1,000."""

SMALL = Fleet(hosts=1_000, runs_per_host=2)
"""18 samples a message: a thousand hosts of two runs, a second of each at a time."""

Work = Callable[[Books], list[Reported]]

SAMPLES_PER_SECOND_MIN = 200_000
CPUS = 2
MONTH_SECONDS_MAX = 1.0
SECONDS = int(os.environ.get("ERGONAUT_BENCH_SECONDS", "100"))


def tell(name: str, seen: Ingested) -> None:
    """What was seen, in words."""
    print(
        f"{name}: {seen.samples:,} samples in {seen.messages:,} messages of {seen.body_bytes / seen.messages / 1024:.0f} KiB "
        f"({seen.body_bytes / seen.samples:.0f} bytes a sample): {seen.seconds:.1f} s, {seen.samples_per_second:,.0f} a second; "
        f"told after {seen.published_seconds:.1f} s; publisher {seen.publisher_cpu_seconds:.1f} CPU-s, ledger "
        f"{seen.ledger_cpu_seconds:.1f} CPU-s and {seen.ledger_memory_mib:,.0f} MiB at most"
    )


def on_two_cpus() -> None:
    """Keep this process and all that it starts on two CPUs, where the system can."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:CPUS])
        print(f"on CPUs {sorted(os.sched_getaffinity(0))}, shared by publisher, nats-server and ledger")


def bar(name: str, value: float, bound: float, *, ok: bool) -> None:
    """One line a bar: what was promised and what was seen."""
    print(f"BAR {name} {value:g} {bound:g} {'ok' if ok else 'short'}")


def ingest_bars() -> None:
    """The way of a sample, in three forms: as spools send it, built within the time, and in the small messages of many hosts."""
    on_two_cpus()
    forms = {
        "ingest": ("encoded before, as a spool is", ingest(FLEET, SECONDS, encode_first=True)),
        "ingest_built": ("built and encoded within", ingest(FLEET, SECONDS // 4, encode_first=False)),
        "ingest_small_messages": ("small messages, encoded before", ingest(SMALL, SECONDS, encode_first=True)),
    }
    for words, seen in forms.values():
        tell(words, seen)
    for name, (_, seen) in forms.items():
        value = seen.samples_per_second
        bar(f"{name}_samples_per_second", round(value), SAMPLES_PER_SECOND_MIN, ok=value >= SAMPLES_PER_SECOND_MIN)


def month_bars(works: Sequence[Work]) -> None:
    """The month, at a hundredth from the samples on and at full scale from the sums on."""
    seconds = {"month_report_seconds": 0.0}
    for work in works:
        for seen in with_books(work):
            print(f"  {seen.question}: {seen.rows:,} rows in {seen.median_seconds:.3f} s")
            if seen.question in (STATEMENT, COMPLIANCE):
                seconds[f"month_{seen.question.replace(' ', '_')}_seconds"] = seen.median_seconds
            elif seen.question.startswith("full scale"):
                seconds["month_report_seconds"] = max(seen.median_seconds, seconds["month_report_seconds"])
    for name, value in seconds.items():
        bar(name, round(value, 3), MONTH_SECONDS_MAX, ok=value <= MONTH_SECONDS_MAX)


def main() -> None:
    """Measure and tell."""
    wanted = sys.argv[1:] or ["month", "ingest"]
    if "month" in wanted:
        month_bars([month_at_a_hundredth, month_at_full_scale])
    if "month-at-scale" in wanted:
        month_bars([month_at_full_scale])
    if "ingest" in wanted:
        ingest_bars()


if __name__ == "__main__":
    main()
