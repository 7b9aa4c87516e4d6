"""A job that keeps to the contract of `RunJob` and takes no time of a machine, so that time can be skipped while it runs."""

import asyncio
from datetime import timedelta

from temporalio import activity, workflow

with workflow.unsafe.imports_passed_through():
    from ergonaut.workflows import PROGRESS_QUERY, RUN_JOB, JobProgress, JobStep, RunJobInput, RunJobResult
    from ergonaut_orchestrator.fakes import FakeGateways

FINISH_SIGNAL = "finish"
DRAINS = timedelta(seconds=7)


class Gatehouse:
    """Where the gateways of jobs announce themselves, as the test wishes."""

    def __init__(self) -> None:
        self.gateways = FakeGateways()
        self.started: list[RunJobInput] = []
        self.ended: list[str] = []
        self.mute = False
        """Whether those that start from now on do not announce themselves."""
        self.wanted: int | None = None

    @activity.defn
    async def gateway_starts(self, request: RunJobInput) -> None:
        """A gateway is there."""
        self.started.append(request)
        if not self.mute:
            self.gateways.tell(request.job_id, wanted=self.wanted)

    @activity.defn
    async def gateway_ends(self, job_id: str) -> None:
        """A gateway is gone."""
        self.ended.append(job_id)
        self.gateways.silence(job_id)

    def want(self, count: int) -> None:
        """Let all gateways forecast so many."""
        self.wanted = count
        self.gateways.tell("platform", wanted=count)
        for each in self.gateways.announced.values():
            self.gateways.tell(each.replica, process=each.process, wanted=count)

    def there(self) -> list[str]:
        """The jobs that run."""
        return [each.job_id for each in self.started if each.job_id not in self.ended]


@workflow.defn(name=RUN_JOB)
class StandInJob:
    """Runs until it is cancelled or told to finish; cancelled, its gateway drains for a while."""

    def __init__(self) -> None:
        self._step = JobStep.PLACING
        self._job_id = ""
        self._finishes = False

    @workflow.query(name=PROGRESS_QUERY)
    def progress(self) -> JobProgress:
        return JobProgress(job_id=self._job_id, step=self._step, because="as the test wished")

    @workflow.signal(name=FINISH_SIGNAL)
    def finish(self) -> None:
        self._finishes = True

    @workflow.run
    async def run(self, request: RunJobInput) -> RunJobResult:
        self._job_id, soon = request.job_id, timedelta(seconds=30)
        await workflow.execute_activity_method(Gatehouse.gateway_starts, request, start_to_close_timeout=soon)
        self._step, state = JobStep.RUNNING, "succeeded"
        try:
            await workflow.wait_condition(lambda: self._finishes)
        except asyncio.CancelledError:
            state = "cancelled"
            await asyncio.shield(workflow.sleep(DRAINS))
        await workflow.execute_activity_method(Gatehouse.gateway_ends, request.job_id, start_to_close_timeout=soon)
        self._step = JobStep.ENDED
        return RunJobResult(job_id=request.job_id, run_id="run-1", state=state)
