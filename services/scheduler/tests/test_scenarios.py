"""Whole stories on the fakes, as transcripts that an operator could read: `>` is what is done, the lines below what is seen."""

from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from ergonaut.errors import ErgonautError
from ergonaut.events import RunFinished, RunPaused, RunPreempted, RunProgressed, RunStarted
from ergonaut.jobs import JobSpec, Plan
from ergonaut.workflows import RunJobInput, RunJobResult, job_workflow_id
from ergonaut_scheduler.ports import WorkflowEnd

SCENARIOS = sorted((Path(__file__).parent / "scenarios").glob("*.txt"))
TENANT = "default"
UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}


@pytest.mark.parametrize("path", SCENARIOS, ids=lambda path: path.stem)
async def test_the_story_goes_as_it_is_written(path: Path, around: Any) -> None:
    story = Story(around)
    written = path.read_text()
    seen: list[str] = []
    for line in written.splitlines():
        if line.startswith("> "):
            seen += [line, *await story.lines(line[2:].split())]
        elif not line or line.startswith("#"):
            seen.append(line)
    assert "\n".join(seen) + "\n" == written


def span(text: str) -> timedelta:
    return timedelta(**{UNITS[text[-1]]: int(text[:-1])})


class Story:
    """Does what a line says and tells what a person would see."""

    def __init__(self, around: Any) -> None:
        self.around = around
        self.began = around.clock.now()
        self.offers = around.offers.offers

    async def lines(self, words: list[str]) -> list[str]:
        named = dict(word.split("=") for word in words if "=" in word)
        plain = [word for word in words if "=" not in word]
        do: Callable[..., Awaitable[list[str]]] = getattr(self, f"do_{plain[0]}")
        try:
            return await do(*plain[1:], **named)
        except ErgonautError as error:
            return [f"{type(error).__name__}: {error}"]

    def spec(self, named: dict[str, str]) -> JobSpec:
        values: dict[str, Any] = {"name": "digits", "command": ("true",), "duration_seconds_expected": 30}
        base = self.began if named.pop("at", "") else self.around.clock.now()
        if "deadline" in named:
            values["deadline"] = base + span(named.pop("deadline"))
        if "source" in named:
            values["source"] = f"sha256-{named.pop('source') * 64}"
        return JobSpec.model_validate(values | named)

    async def do_submit(self, job_id: str, **named: str) -> list[str]:
        job_id = await self.around.scheduling.submitting.submit(TENANT, self.spec(named), job_id)
        return [f"{job_id} taken in"]

    async def do_plan(self, **named: str) -> list[str]:
        return self.told(await self.around.scheduling.planning.what_if(TENANT, self.spec(named)))

    async def do_place(self, job_id: str, workflow: str = "", **named: str) -> list[str]:
        stored = await self.around.jobs.find(TENANT, job_id)
        spec = self.spec(named) if workflow else stored.record.spec
        workflow_id = workflow or stored.record.workflow_id
        seed = self.around.scheduling.submitting.record_for_workflow(TENANT, job_id, spec, workflow_id)
        return self.told(await self.around.scheduling.planning.place(seed))

    def told(self, plan: Plan) -> list[str]:
        if plan.chosen is None:
            return [f"refused: {plan.refused_because}"]
        return [f"{plan.chosen.offer_id} at {plan.chosen.starts_at:%H:%M}: {plan.chosen.because}"]

    async def do_status(self, job_id: str) -> list[str]:
        status = await self.around.scheduling.reading.status(TENANT, job_id)
        run = f" {status.run_id}" if status.run_id and status.state not in ("placed", "submitted") else ""
        words = ": ".join(filter(None, (status.phase, status.because)))
        return [f"{status.state}{run}" + (f": {words}" if words else "")]

    async def do_told(self) -> list[str]:
        return [f"{event.TYPE} {event.key}" for event in self.around.announcer.told.values()]

    async def do_cancel(self, job_id: str) -> list[str]:
        await self.around.scheduling.submitting.cancel(TENANT, job_id, "")
        return []

    async def do_pause(self, job_id: str) -> list[str]:
        await self.around.scheduling.pausing.pause(TENANT, job_id, "lunch")
        return []

    async def do_resume(self, job_id: str) -> list[str]:
        await self.around.scheduling.pausing.resume(TENANT, job_id, "")
        return []

    async def do_asked(self) -> list[str]:
        return [f"{name} {workflow_id}: {asked.because}" for workflow_id, name, asked in self.around.workflows.asked]

    async def do_look(self, _after: str) -> list[str]:
        await self.around.scheduling.following.look_after()
        return []

    async def do_pass(self, how_long: str) -> list[str]:
        await self.around.clock.advance(span(how_long).total_seconds())
        return []

    async def do_pricing(self, where: str) -> list[str]:
        self.around.offers.away = where == "away"
        return []

    async def do_temporal(self, where: str) -> list[str]:
        self.around.workflows.away = where == "away"
        return []

    async def do_restart(self) -> list[str]:
        self.around.restarted()
        return []

    async def do_workflows(self) -> list[str]:
        return sorted(self.around.workflows.started)

    async def do_workflow(self, job_id: str, verb: str, *rest: str) -> list[str]:
        workflow_id = job_workflow_id(TENANT, job_id)
        if verb == "runs":
            self.around.workflows.started[workflow_id] = RunJobInput(job=self.spec({"name": "else"}), job_id=job_id)
        else:
            result = RunJobResult(job_id=job_id, run_id="", state=rest[0], because="the workflow ended in silence")
            self.around.workflows.ends[workflow_id] = WorkflowEnd(self.around.clock.now(), result)
        return []

    async def do_started(self, job_id: str, attempt: str) -> list[str]:
        await self.around.scheduling.following.started(
            RunStarted(
                **self.run(job_id, attempt), name="digits", attempt=int(attempt), host="desk", provider="local",
                region="desk", machine_type="machine", started_at=self.around.clock.now(),
            )
        )  # fmt: skip
        return []

    async def do_progressed(self, job_id: str, attempt: str, phase: str) -> list[str]:
        await self.around.scheduling.following.progressed(RunProgressed(**self.run(job_id, attempt), phase=phase))
        return []

    async def do_preempted(self, job_id: str, attempt: str) -> list[str]:
        ended_at = self.around.clock.now()
        event = RunPreempted(**self.run(job_id, attempt), because="the machine was taken back", ended_at=ended_at)
        await self.around.scheduling.following.preempted(event)
        return []

    async def do_paused(self, job_id: str, attempt: str) -> list[str]:
        ended_at = self.around.clock.now()
        event = RunPaused(**self.run(job_id, attempt), because="lunch", ended_at=ended_at)
        await self.around.scheduling.following.paused(event)
        return []

    async def do_offers(self, which: str) -> list[str]:
        self.around.offers.offers = () if which == "none" else self.offers
        return []

    async def do_finished(self, job_id: str, attempt: str, state: str) -> list[str]:
        event = RunFinished(**self.run(job_id, attempt), state=state, ended_at=self.around.clock.now())
        await self.around.scheduling.following.finished(event)
        return []

    def run(self, job_id: str, attempt: str) -> dict[str, Any]:
        moment: datetime = self.around.clock.now()
        return {"tenant": TENANT, "job_id": job_id, "run_id": f"run-{attempt}", "occurred_at": moment}
