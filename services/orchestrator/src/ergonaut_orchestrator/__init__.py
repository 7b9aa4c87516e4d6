"""Brings each job through its life on a machine: place, provision, run, survive, collect, tear down, tell.

It promises that a job runs to one end however often its own process, Temporal or NATS dies, and that no lease or process is left
behind. It reads the Temporal queue `ergonaut-runs` and the sources' object store; it emits `runs.*` and `leases.*`.
"""
