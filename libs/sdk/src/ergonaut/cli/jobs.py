"""`ergonaut plan`, `submit`, `watch`, `jobs`, `pause`, `resume`, `cancel`, `fetch`: what somebody wants run."""

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Annotated

import typer

from ergonaut.api.scheduling.v1 import scheduling_pb2 as pb
from ergonaut.cli.live import follow, state_name
from ergonaut.cli.output import EXIT_JOB_FAILED, JSON_OPTION, ask, out, print_json, print_table, telling_errors
from ergonaut.cli.plans import print_plan
from ergonaut.client import AsyncClient
from ergonaut.errors import Refused
from ergonaut.jobfile import load_job
from ergonaut.jobs import JobSpec

JsonFlag = Annotated[bool, JSON_OPTION]
JobFile = Annotated[Path, typer.Argument(help="A job.yaml, or the folder that it stands in.")]
JobId = Annotated[str, typer.Argument(help="The job's id, as `ergonaut jobs` tells it.")]


def register(app: typer.Typer) -> None:
    """Add these commands to the CLI."""
    panel = "Jobs"
    app.command("plan", rich_help_panel=panel)(plan)
    app.command("submit", rich_help_panel=panel)(submit)
    app.command("watch", rich_help_panel=panel)(watch)
    app.command("jobs", rich_help_panel=panel)(jobs)
    app.command("pause", rich_help_panel=panel)(pause)
    app.command("resume", rich_help_panel=panel)(resume)
    app.command("cancel", rich_help_panel=panel)(cancel)
    app.command("fetch", rich_help_panel=panel)(fetch)


def plan(file: JobFile, as_json: JsonFlag = False) -> None:
    """Tell where and when a job would run, what that would cost, and what else was weighed. Runs nothing.

    Example: ergonaut plan examples/digits/job.yaml
    """
    with telling_errors():
        spec, _ = load_job(file)
        answer = ask(lambda client: client.jobs.plan(spec))
        if as_json:
            print_json(answer)
        else:
            print_plan(answer)
        if answer.refused_because:
            raise Refused(answer.refused_because)


def submit(
    file: JobFile,
    wait: Annotated[bool, typer.Option("--watch/--no-watch", help="Show live progress until the job ends.")] = True,
    job_id: Annotated[str, typer.Option("--job-id", help="Makes a repeat harmless; made up when left out.")] = "",
    as_json: JsonFlag = False,
) -> None:
    """Hand a job in, with the files of its folder; show the choice, then live progress. Ends with 1 when the job fails.

    Example: ergonaut submit examples/digits/job.yaml
    """

    async def submitted(client: AsyncClient, spec: JobSpec, folder: Path) -> pb.JobStatus:
        if not as_json:
            print_plan(await client.jobs.plan(spec))
        accepted = await client.jobs.submit(spec, folder, job_id=job_id)
        if not as_json:
            out.print(f"job {accepted}")
        return await follow(client, accepted, quiet=as_json) if wait else await client.jobs.get(accepted)

    with telling_errors():
        spec, folder = load_job(file)
        status = ask(lambda client: submitted(client, spec, folder))
        if as_json:
            print_json(status)
        _end_with(status)


def watch(job_id: JobId, as_json: JsonFlag = False) -> None:
    """Show a job's live progress until it ends: phase, watts, joules, grams, dollars. Ends with 1 when the job fails.

    Example: ergonaut watch job-01k...
    """
    with telling_errors():
        status = ask(lambda client: follow(client, job_id, quiet=as_json))
        if as_json:
            print_json(status)
        _end_with(status)


def jobs(
    limit: Annotated[int, typer.Option(min=1, max=1000, help="How many, newest first.")] = 20, as_json: JsonFlag = False
) -> None:
    """List the newest jobs.

    Example: ergonaut jobs --limit 5
    """
    with telling_errors():
        found = ask(lambda client: client.jobs.newest(limit))
        if as_json:
            print_json(found)
            return
        rows = [
            (job.job_id, job.name, state_name(job.state), job.run_id or "-", f"{job.submitted_at.ToDatetime():%F %T}")
            for job in found
        ]
        print_table("", ("job", "name", "state", "run", "submitted (UTC)"), rows)


def pause(
    job_id: JobId, because: Annotated[str, typer.Option(help="For the record.")] = "", as_json: JsonFlag = False
) -> None:
    """Ask a job to save its state and give its machine back, until it is resumed.

    Example: ergonaut pause job-01k... --because "the grid is dirty now"
    """
    said = f"{job_id} will pause; `ergonaut resume {job_id}` lets it go on"
    _wish(
        lambda client: client.jobs.pause(job_id, because=because),
        {"job_id": job_id, "pausing": True} if as_json else said,
    )


def resume(
    job_id: JobId, because: Annotated[str, typer.Option(help="For the record.")] = "", as_json: JsonFlag = False
) -> None:
    """Let a paused job go on from its checkpoint, at the best place there is now.

    Where a budget is still used up it waits for the budget's next window, or stays paused: raise the budget instead, and it
    goes on by itself. One that waits for a window already is paused and resumed to be placed anew.

    Example: ergonaut resume job-01k...
    """
    said = f"{job_id} will go on; `ergonaut watch {job_id}` tells when it does"
    _wish(
        lambda client: client.jobs.resume(job_id, because=because),
        {"job_id": job_id, "resuming": True} if as_json else said,
    )


def cancel(
    job_id: JobId, because: Annotated[str, typer.Option(help="For the record.")] = "", as_json: JsonFlag = False
) -> None:
    """Ask a job to stop; its machine is given back.

    Example: ergonaut cancel job-01k... --because "wrong data"
    """
    said = f"{job_id} will stop; `ergonaut watch {job_id}` tells when it has"
    _wish(
        lambda client: client.jobs.cancel(job_id, because=because),
        {"job_id": job_id, "cancelled": True} if as_json else said,
    )


def _wish(call: Callable[[AsyncClient], Awaitable[object]], answer: dict[str, object] | str) -> None:
    """Pass a wish about a job on, then say so, as JSON or in words."""
    with telling_errors():
        ask(call)
        if isinstance(answer, str):
            out.print(answer, markup=False)
        else:
            print_json(answer)


def fetch(
    artifact: Annotated[str, typer.Argument(help="Its name: RUN/PATH, as `ergonaut watch` tells it.")],
    to: Annotated[Path, typer.Option("--to", help="Folder to put it in.")] = Path(),
    as_json: JsonFlag = False,
) -> None:
    """Fetch a file that a run kept.

    Example: ergonaut fetch run-01k.../model.onnx --to models
    """
    with telling_errors():
        path = ask(lambda client: client.jobs.download(artifact, to / Path(artifact).name))
        if as_json:
            print_json({"artifact": artifact, "path": str(path)})
        else:
            out.print(str(path), markup=False, soft_wrap=True)


def _end_with(status: pb.JobStatus) -> None:
    if status.state in (pb.JOB_STATE_FAILED, pb.JOB_STATE_CANCELLED, pb.JOB_STATE_REFUSED):
        raise typer.Exit(EXIT_JOB_FAILED)
