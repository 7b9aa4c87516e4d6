"""What Prometheus may read of the agent."""

from prometheus_client import Counter, Gauge

from ergonaut_telemetry.domain import Turn

power = Gauge("ergonaut_power_watts", "Power over the last sample, by whose it is.", ["component", "share"])
energy = Counter("ergonaut_energy_joules", "Energy since the agent started, by whose it is.", ["component", "share"])
samples = Counter("ergonaut_samples", "Samples of the host that were taken and kept.")
failures = Counter("ergonaut_sample_failures", "Samples that the spool did not take; the next covered their time.")
sent = Counter("ergonaut_spool_sent", "Events that the bus has stored.")
drops = Counter("ergonaut_spool_drops", "Events that were dropped unsent, since the spool was full.")
spooled = Gauge("ergonaut_spool_events", "Events that wait in the spool.")


_powers: dict[tuple[str, str], Gauge] = {}
_energies: dict[tuple[str, str], Counter] = {}
# Looking a labelled figure up costs as much as all else here, and this runs at every sample.


def show(turn: Turn) -> None:
    """Take a sample into the figures. What is not measured has none, rather than a zero."""
    samples.inc()
    watts: dict[tuple[str, str], float] = {}
    for event in turn.events:
        for sample in event.samples:
            seconds = (sample.ended_at - sample.started_at).total_seconds()
            if sample.energy_joules is None or seconds <= 0:
                continue
            whose = (sample.component, sample.share.value)
            watts[whose] = watts.get(whose, 0.0) + sample.energy_joules / seconds
            if whose not in _energies:
                _energies[whose] = energy.labels(*whose)
            _energies[whose].inc(sample.energy_joules)
    _show_powers(watts)


def _show_powers(watts: dict[tuple[str, str], float]) -> None:
    # A power that is not told any more must vanish; its last value would look like the present.
    for gone in _powers.keys() - watts.keys():
        power.remove(*gone)
        del _powers[gone]
    for whose, value in watts.items():
        if whose not in _powers:
            _powers[whose] = power.labels(*whose)
        _powers[whose].set(value)
