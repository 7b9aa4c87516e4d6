"""A model notices that the world has changed, is trained again, and what is better takes over. Run by `make demo-retrain`.

The stream is of the UCI digits that scikit-learn carries; from some moment on the images are inverted, as if the scanner were
another one. Their labels come a moment later, as from people who check: this script tells them to the gateway, which holds both
versions of a rollout against them, and writes them into a file, and the job that trains reads that file when it runs, as it would
read a table of labelled rows elsewhere. So the job must run on this machine.
"""

import asyncio
import contextlib
import os
import shutil
import sys
import time
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import numpy as np
from demo import StepFailed, call, console
from numpy.typing import NDArray
from sklearn.datasets import load_digits

from ergonaut.api.inference.v1 import endpoints_pb2
from ergonaut.api.orchestration.v1 import retraining_pb2, rollouts_pb2
from ergonaut.api.scheduling.v1 import scheduling_pb2
from ergonaut.client import AsyncClient, Connection
from ergonaut.errors import ErgonautError, NotFound
from ergonaut.ids import new_id
from ergonaut.jobfile import load_job
from ergonaut.local import Home, down
from ergonaut.recipefile import load_recipe
from ergonaut.retraining import RecipeRollout

FOLDER = Path(__file__).parent
REQUESTS_PER_SECOND = 120.0
ROWS_PER_REQUEST = 4
AT_ONCE_MAX = 64
"""Requests under way; a gateway that is slower than the stream holds it up rather than being flooded."""

ROWS_BEFORE = 2_000
"""Rows that the first version sees before the world changes: its reference, and a first window."""

LABELLED_ROWS = 1_200
"""Rows whose labels are there before anybody needs them; a quarter of them judges the new version."""

LABELS_LATE_SECONDS = 1.0
"""From an answer until somebody has checked it."""

LABELS_AT_ONCE_MAX = 2_000
"""Rows in one call to the gateway; it takes 10,000."""

PATIENCE_SECONDS = 120.0
GAIN_MIN = 0.2
"""Of the share of right answers, on a busy machine with few labelled rows and seconds to learn from them."""

SHORT: Mapping[str, Any] = {"within_seconds": 90.0, "hold_seconds": 5.0, "look_seconds": 1.0}
"""What the demo changes of the recipe's waits, so that somebody may look on."""

WATCHED = {
    "ERGONAUT_GATEWAY_WATCH_ROWS_PER_SECOND": "1000",
    "ERGONAUT_GATEWAY_WATCH_CHECK_SECONDS": "1",
    "ERGONAUT_GATEWAY_LABELS_WAITING_MAX": "10000",
}
"""The gateway looks for drift, and keeps predictions until their labels come, where it is told to."""

Images = NDArray[np.float32]
LetPass = Callable[[float], Awaitable[None]]
"""Lets so many seconds pass; a test may skip them."""


@dataclass(frozen=True, slots=True)
class Answered:
    """A request that was answered, until somebody has checked the answer."""

    at: float
    """By the monotonic clock, in seconds."""
    id: str
    images: Images
    labels: NDArray[np.int64]
    was_shifted: bool


class Stream:
    """People who send digits, all the time; and who say some moments later what they were."""

    def __init__(self, connection: Connection, labelled: Path) -> None:
        digits = load_digits()
        self.images: Images = (digits.data / 16).astype(np.float32)
        self.labels = digits.target
        self.is_shifted = False
        self.rows = self.requests = self.right = self.seen = 0
        self.failures: list[str] = []
        self._url = f"http://{connection.gateway_http}/v2/models/digits"
        self._headers = connection.headers
        self._labelled = labelled
        self._shifted: list[tuple[Images, NDArray[np.int64]]] = []
        self._order = np.random.default_rng(0).permutation(len(self.images))
        self._place = 0
        self._unchecked: deque[Answered] = deque()

    @contextlib.asynccontextmanager
    async def flowing(self) -> AsyncIterator[None]:
        """Send while the block runs; what is under way at its end is waited for."""
        stop, failure = asyncio.Event(), None
        async with httpx.AsyncClient(headers=self._headers, timeout=30) as http, asyncio.TaskGroup() as group:
            group.create_task(self._send(http, group, stop))
            group.create_task(self._check(http, stop))
            try:
                yield
            except StepFailed as error:
                # Within the group it would become a group of errors.
                failure = error
            finally:
                stop.set()
        if failure is not None:
            raise failure

    def shift(self) -> None:
        """From now on the images are inverted."""
        self.is_shifted = True
        self.right = self.seen = 0

    def accuracy(self) -> float:
        """Of what was answered since this was asked last."""
        share = self.right / max(self.seen, 1)
        self.right = self.seen = 0
        return share

    @property
    def labelled_rows(self) -> int:
        """Rows of the new world whose labels have come."""
        return sum(len(labels) for _, labels in self._shifted)

    async def _send(self, http: httpx.AsyncClient, group: asyncio.TaskGroup, stop: asyncio.Event) -> None:
        room = asyncio.Semaphore(AT_ONCE_MAX)
        next_at = time.monotonic()
        while not stop.is_set():
            await room.acquire()
            group.create_task(self._ask(http)).add_done_callback(lambda _: room.release())
            next_at = max(next_at + 1 / REQUESTS_PER_SECOND, time.monotonic() - 1)
            await asyncio.sleep(max(next_at - time.monotonic(), 0))

    async def _ask(self, http: httpx.AsyncClient) -> None:
        # One after the other in a drawn order: whichever are labelled, none of them is both learned from and judged by.
        chosen = self._order[np.arange(self._place, self._place + ROWS_PER_REQUEST) % len(self._order)]
        self._place += ROWS_PER_REQUEST
        images, labels = self.images[chosen], self.labels[chosen]
        was_shifted = self.is_shifted
        if was_shifted:
            images = 1 - images
        tensor = {"name": "X", "shape": list(images.shape), "datatype": "FP32", "data": images.ravel().tolist()}
        self.requests += 1
        wish = {"id": str(self.requests), "inputs": [tensor], "outputs": [{"name": "label"}]}
        try:
            answer = await http.post(f"{self._url}/infer", json=wish)
            answer.raise_for_status()
            said = answer.json()["outputs"][0]["data"]
        except (httpx.HTTPError, ValueError, KeyError, IndexError) as error:
            self.failures.append(str(error) or type(error).__name__)
            return
        self.rows += len(labels)
        self.seen += len(labels)
        self.right += int(np.sum(np.asarray(said) == labels))
        self._unchecked.append(Answered(time.monotonic(), str(wish["id"]), images, labels, was_shifted))

    async def _check(self, http: httpx.AsyncClient, stop: asyncio.Event) -> None:
        """People check the answers, a moment later: the gateway is told, and so is the file that trainings read."""
        while not stop.is_set():
            await asyncio.sleep(LABELS_LATE_SECONDS / 4)
            seen, checked = time.monotonic() - LABELS_LATE_SECONDS, list[Answered]()
            while (
                self._unchecked
                and self._unchecked[0].at <= seen
                and len(checked) < LABELS_AT_ONCE_MAX // ROWS_PER_REQUEST
            ):
                checked.append(self._unchecked.popleft())
            if not checked:
                continue
            labels = {f"{each.id}.{row}": int(label) for each in checked for row, label in enumerate(each.labels)}
            try:
                (await http.post(f"{self._url}/labels", json={"labels": labels})).raise_for_status()
            except httpx.HTTPError as error:
                self.failures.append(f"labels: {error or type(error).__name__}")
            if self.labelled_rows < LABELLED_ROWS:
                self._keep([(each.images, each.labels) for each in checked if each.was_shifted])

    def _keep(self, more: list[tuple[Images, NDArray[np.int64]]]) -> None:
        """The file is replaced whole, since a training may read it at any moment."""
        if not more:
            return
        self._shifted += more
        beside = self._labelled.with_name("beside.npz")
        np.savez(
            beside,
            images=np.concatenate([each for each, _ in self._shifted]),
            labels=np.concatenate([each for _, each in self._shifted]),
        )
        beside.replace(self._labelled)


class Story:
    """The steps, and what they hand to each other."""

    def __init__(
        self,
        client: AsyncClient,
        connection: Connection,
        kept: Path,
        *,
        waits: Mapping[str, Any] = SHORT,
        let_pass: LetPass = asyncio.sleep,
    ) -> None:
        self.client = client
        self.kept = kept
        self.waits = waits
        self.let_pass = let_pass
        kept.mkdir(parents=True, exist_ok=True)
        self.stream = Stream(connection, kept / "labelled.npz")
        self.outcome = retraining_pb2.Outcome()
        self.accuracy_shifted = self.look_seconds = 0.0
        self.step = 0

    async def run(self) -> None:
        """All steps in order. Raises StepFailed naming the one that fails."""
        await self._do("train the first version", "ergonaut submit examples/digits", self._train)
        await self._do("serve it at an endpoint", "ergonaut endpoints apply digits --route main=digits@1", self._serve)
        await self._do("set the recipe", "ergonaut retrain set examples/digits/retrain.yaml", self._set_recipe)
        await self._renew()
        await self._do("count the requests that failed", "", self._count)

    async def _renew(self) -> None:
        """What happens while people send digits."""
        async with self.stream.flowing():
            await self._do("send it digits", "POST /v2/models/digits/infer", self._send_before)
            await self._do("exchange the scanner: images are inverted from now on", "1 - image", self._shift)
            await self._do("wait until the gateway finds the drift", "ergonaut retrain show digits", self._find_drift)
            await self._do("train again in the hour that was placed", "ergonaut jobs", self._train_again)
            await self._do("hold both against each other", "ergonaut retrain show digits", self._validate)
            await self._do("let it take over step by step", "ergonaut rollout status digits --watch", self._take_over)
            await self._do("see what the requests get now", "POST /v2/models/digits/infer", self._send_after)

    async def _do(self, title: str, shown: str, work: Callable[[], Awaitable[None]]) -> None:
        self.step += 1
        console.print(
            f"\n[bold cyan]{self.step}. {title}[/]" + (f"\n[dim]$ {shown}[/]" if shown else ""), soft_wrap=True
        )
        started = time.monotonic()
        try:
            async with asyncio.timeout(PATIENCE_SECONDS):
                await work()
        except TimeoutError as error:
            raise StepFailed(f"step {self.step} ({title}) took more than {PATIENCE_SECONDS:g} s") from error
        except (ErgonautError, StepFailed) as error:
            raise StepFailed(f"step {self.step} ({title}) failed: {error}") from error
        console.print(f"[dim]{time.monotonic() - started:.1f} s[/]")

    async def _train(self) -> None:
        spec, folder = load_job(FOLDER / "job.yaml")
        spec = spec.model_copy(update={"command": ("python", "train.py", "--seconds", "12"), "name": "digits-first"})
        job_id = await self.client.jobs.submit(spec, folder, job_id=new_id("job"))
        async for status in self.client.jobs.watch(job_id):
            last = status
        if last.state != scheduling_pb2.JOB_STATE_SUCCEEDED:
            raise StepFailed(f"the job ended as {last.because or last.state}")
        for artifact in last.artifacts:
            await self.client.jobs.download(artifact, self.kept / Path(artifact).name)
        lineage = await self.client.models.lineage_of_run(last.run_id)
        path = self.kept / "model.onnx"
        model = await self.client.models.deploy(path, "digits", run_id=last.run_id, lineage=lineage)
        accuracy = dict(last.metrics).get("accuracy", 0.0)
        console.print(f"version {model.version}: accuracy {accuracy:.4f} on held-out digits, run {last.run_id}")

    async def _serve(self) -> None:
        route = endpoints_pb2.Route(name="main", model="digits", version="1", weight=1)
        endpoint = endpoints_pb2.Endpoint(name="digits", routes=[route], slow_milliseconds=500)
        made = await self.client.endpoints.apply(endpoint)
        console.print(f"endpoint {made.name}, revision {made.revision}: all requests go to version 1")

    async def _set_recipe(self) -> None:
        read = load_recipe(FOLDER / "retrain.yaml")
        job = read.recipe.job.model_copy(update={"environment": {"DIGITS_LABELLED": str(self.stream._labelled)}})
        assert read.recipe.rollout is not None, "the example rolls out"
        of_rollout = {name: value for name, value in self.waits.items() if name in RecipeRollout.model_fields}
        rollout = read.recipe.rollout.model_copy(update=of_rollout)
        rest = {name: value for name, value in self.waits.items() if name not in of_rollout}
        recipe = read.recipe.model_copy(update={"job": job, "rollout": rollout} | rest)
        self.look_seconds = rollout.look_seconds
        await self.client.retrainings.set("digits", recipe, read.folder)
        held = f"each step is held for {rollout.hold_seconds:g} s, {read.recipe.rollout.hold_seconds:g} in the file"
        console.print(f"on drift, within {recipe.within_seconds:g} s; {held}")

    async def _send_before(self) -> None:
        await until(lambda: self.stream.rows >= ROWS_BEFORE)
        console.print(f"{self.stream.rows} rows answered, {self.stream.accuracy():.1%} of them right")

    async def _shift(self) -> None:
        self.stream.shift()
        await until(lambda: self.stream.labelled_rows >= LABELLED_ROWS / 4)
        self.accuracy_shifted = self.stream.accuracy()
        console.print(
            f"{self.accuracy_shifted:.1%} of the answers are right; {self.stream.labelled_rows} rows are labelled"
        )

    async def _find_drift(self) -> None:
        told = await self._told(lambda told: told.HasField("current") or bool(told.outcomes))
        self.outcome = told.current if told.HasField("current") else told.outcomes[0]
        console.print(self.outcome.wanted_because)
        if self.outcome.trigger != "drift":
            raise StepFailed(f"it was {self.outcome.trigger} that caused a training")

    async def _train_again(self) -> None:
        placed = await self._placed()
        console.print(
            f"{self.outcome.job_id} is placed at {placed.starts_at.ToDatetime():%F %T} on {placed.provider} in {placed.zone}, "
            f"{placed.carbon_grams_co2e_expected:.3f} gCO2e and {placed.cost_usd_expected:.6f} $ expected",
            soft_wrap=True,
        )
        await self.let_pass(max((placed.starts_at.ToDatetime(UTC) - datetime.now(UTC)).total_seconds(), 0.0))
        told = await self._told(lambda told: bool(told.current.run_id) or bool(told.outcomes))
        metrics = dict((await self.client.jobs.get(self.outcome.job_id)).metrics)
        labelled = f"{metrics.get('labelled', 0):.0f} labelled rows, accuracy {metrics.get('accuracy', 0):.4f}"
        console.print(f"trained on {labelled}")
        self._check(told)

    async def _validate(self) -> None:
        told = await self._told(lambda told: told.state == "rolling-out" or bool(told.outcomes))
        self._check(told)
        outcome = told.current if told.HasField("current") else told.outcomes[0]
        seen = outcome.compared
        both = f"{seen.champion:.4f} for version {outcome.champion_version}, {seen.challenger:.4f} for version"
        console.print(f"{seen.rows} rows: {both} {outcome.challenger_version}", soft_wrap=True)
        console.print(f"better on {seen.better_rows} rows and worse on {seen.worse_rows}, p {seen.p_value:.2g}")
        model = (await self.client.models.get("digits", str(outcome.challenger_version))).model
        used = model.lineage
        console.print(
            f"training it used {used.energy_joules:.1f} J, {used.carbon_grams_co2e:.4f} gCO2e and {used.cost_usd:.6f} $"
            if used.HasField("energy_joules")
            else "what training it used was not measured"
        )

    async def _take_over(self) -> None:
        said = ""
        rollout = rollouts_pb2.Rollout(state="starting")
        while rollout.state in {"starting", "watching"}:
            rollout = await self.client.rollouts.get("digits")
            if (line := rollout_line(rollout)) != said:
                console.print(line, soft_wrap=True)
            said = line
            await self.let_pass(self.look_seconds)
        told = await self._told(lambda told: bool(told.outcomes))
        self._check(told)
        self.outcome = told.outcomes[0]
        console.print(f"{self.outcome.state}: {self.outcome.because}", soft_wrap=True)
        if self.outcome.state != "promoted":
            raise StepFailed(f"the new version was {self.outcome.state}")

    async def _send_after(self) -> None:
        self.stream.accuracy()
        await asyncio.sleep(2)
        share = self.stream.accuracy()
        console.print(f"{share:.1%} of the answers are right, {self.accuracy_shifted:.1%} were before")
        if share < self.accuracy_shifted + GAIN_MIN:
            raise StepFailed("the new version is no better among the requests")

    async def _count(self) -> None:
        failures = self.stream.failures
        console.print(f"{len(failures)} of {self.stream.requests} requests failed")
        if failures:
            raise StepFailed(f"{len(failures)} requests failed, the first: {failures[0]}")

    async def _told(self, so: Callable[[Any], bool]) -> Any:
        """The retraining once something is so."""
        while True:
            told = await self.client.retrainings.get("digits")
            if so(told):
                return told
            await asyncio.sleep(0.3)

    async def _placed(self) -> Any:
        """The placement of the training's job, once the scheduler has chosen it."""
        while True:
            with contextlib.suppress(NotFound):
                job = await self.client.jobs.get(self.outcome.job_id)
                if job.HasField("placement"):
                    return job.placement
            await asyncio.sleep(0.3)

    def _check(self, told: Any) -> None:
        """Raise where the training has ended badly."""
        if told.outcomes and told.outcomes[0].state != "promoted":
            raise StepFailed(f"the training {told.outcomes[0].state}: {told.outcomes[0].because}")


def rollout_line(rollout: rollouts_pb2.Rollout) -> str:
    """How a rollout stands, in one line."""

    def arm(version: int, seen: rollouts_pb2.ArmFigures) -> str:
        wrong = f"{seen.wrong} of {seen.labelled} labelled rows wrong"
        return f"version {version} failed {seen.failed} of {seen.requests}, {wrong}"

    both = f"{arm(rollout.version, rollout.canary)}; {arm(rollout.champion_version, rollout.champion)}"
    return f"{rollout.state}, step {rollout.step} of {rollout.steps} at {rollout.share:.0%}: {both}"


async def until(so: Callable[[], bool]) -> None:
    while True:
        if so():
            return
        await asyncio.sleep(0.1)


async def _tell(home: Home) -> None:
    connection = Connection.from_environment()
    async with AsyncClient(connection) as client:
        await Story(client, connection, home.path / "demo-retrain").run()


def main() -> None:
    """Run the demo in a home of its own; the system is stopped at the end, however it went."""
    home = Home(Path(os.environ.get("ERGONAUT_HOME", ".ergonaut")).resolve() / "retrain")
    shutil.rmtree(home.path, ignore_errors=True)
    os.environ |= WATCHED | {"ERGONAUT_HOME": str(home.path)}
    started = time.monotonic()
    failure = ""
    try:
        console.print("[bold cyan]start the system on this machine[/]\n[dim]$ ergonaut up[/]")
        call([sys.executable, "-m", "ergonaut", "up"])
        asyncio.run(_tell(home))
    except (StepFailed, ErgonautError) as error:
        failure = f"{error}; the logs are in {home.logs}"
    finally:
        console.print("\n[bold cyan]stop the system[/]\n[dim]$ ergonaut down[/]")
        down(home)
    if failure:
        sys.exit(failure)
    console.print(f"\n[bold green]done in {time.monotonic() - started:.0f} s[/]")


if __name__ == "__main__":
    main()
