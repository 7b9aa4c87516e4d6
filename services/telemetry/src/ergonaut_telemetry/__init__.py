"""The agent of one host: reads its meters each second and charges every joule to a run, to others, or to idling.

Reads the host's meters and processes, and `pricing.intensity.changed`. Emits `telemetry.power.sampled` and
`telemetry.host.reported`. Answers TelemetryService: what the meters are, and live totals of the host and its runs.
"""
