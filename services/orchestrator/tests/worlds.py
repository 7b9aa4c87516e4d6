"""Things that several tests build: leases, attempts, programs, and a world of fakes."""

import io
import tarfile
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from ergonaut.ids import derived_id, new_id
from ergonaut.jobs import Candidate, JobSpec, Plan
from ergonaut.runcontext import RunContext
from ergonaut.workflows import RunJobInput
from ergonaut_common.clock import Clock
from ergonaut_orchestrator.domain import Attempt, Lease, Program
from ergonaut_orchestrator.fakes import (
    FakeAnnouncer,
    FakeArtifacts,
    FakePlacing,
    FakeProvider,
    FakeSources,
    FakeWorkflows,
)
from ergonaut_orchestrator.service import World


def lease(**changes: str) -> Lease:
    run_id = changes.pop("run_id", new_id("run"))
    values = {
        "lease_id": derived_id("lease", run_id),
        "tenant": "default",
        "job_id": "job-1",
        "run_id": run_id,
        "provider": "local",
        "offer_id": "local/host/machine/free",
        "workflow_id": "job/default/job-1",
        "workflow_run_id": "11111111-1111-1111-1111-111111111111",
    }
    return Lease(**values | changes)


def program(*command: str, run_id: str = "run-1", **environment: str) -> Program:
    return Program(tuple(command), environment, RunContext(run_id=run_id, job_id="job-1", metered=True))


def job(*command: str, **changes: Any) -> JobSpec:
    values: dict[str, Any] = {"name": "digits", "command": command or ("true",), "duration_seconds_expected": 1}
    return JobSpec.model_validate(values | changes)


def candidate(now: datetime | None = None, **changes: Any) -> Candidate:
    now = now or datetime.now(UTC)
    values: dict[str, Any] = {
        "offer_id": "local/host/machine/free",
        "provider": "local",
        "region": "here",
        "zone": "DE",
        "machine_type": "machine",
        "starts_at": now,
        "ends_at": now + timedelta(hours=1),
        "cost_usd_expected": 0.1,
        "energy_joules_expected": 100.0,
        "carbon_grams_co2e_expected": 1.0,
        "price_microusd_per_hour": 50_000,
        "pue": 1.2,
    }
    return Candidate.model_validate(values | changes)


def attempt(spec: JobSpec, now: datetime, **changes: str) -> Attempt:
    return Attempt(lease(**changes), 1, spec, candidate(now), stop_at=now + timedelta(hours=1))


@dataclass
class FakeWorld:
    """Every port a fake, each at hand for the test."""

    clock: Clock
    provider: FakeProvider
    placing: FakePlacing
    sources: FakeSources
    artifacts: FakeArtifacts
    announcer: FakeAnnouncer
    workflows: FakeWorkflows

    @classmethod
    def on(cls, clock: Clock, plan: Plan | None = None, *, lease_ttl_seconds: float = 120.0) -> "FakeWorld":
        def answer(_: RunJobInput) -> Plan:
            return plan or Plan(chosen=candidate(clock.now()), alternatives=(candidate(clock.now()),), weighed=2)

        provider = FakeProvider(clock, lease_ttl_seconds=lease_ttl_seconds)
        return cls(
            clock, provider, FakePlacing(answer), FakeSources(), FakeArtifacts(), FakeAnnouncer(), FakeWorkflows()
        )

    @property
    def world(self) -> World:
        return World(
            placing=self.placing,
            providers={self.provider.name: self.provider},
            sources=self.sources,
            artifacts=self.artifacts,
            announcer=self.announcer,
            workflows=self.workflows,
            clock=self.clock,
        )


def archive(**files: bytes) -> bytes:
    """A gzipped tar of these files, a double underscore standing for a dot."""
    return archive_of({name.replace("__", "."): content for name, content in files.items()})


def archive_of(files: dict[str, bytes], *extra: tarfile.TarInfo) -> bytes:
    """A gzipped tar of these files and these further members."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as tar:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            member.mode = 0o755
            tar.addfile(member, io.BytesIO(content))
        for member in extra:
            tar.addfile(member)
    return packed.getvalue()
