"""The main job of Ergonaut, step by step: start, place, run, serve, search, account, stop. Run by `make demo`.

Each step is a command that a person could type; it is shown before it runs. The first that fails ends the demo with 1,
saying which it was and where to look.
"""

import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from rich.console import Console

from ergonaut.client import Client
from ergonaut.errors import ErgonautError
from ergonaut.ids import new_id
from ergonaut.local import Home, down

FOLDER = Path(__file__).parent
ERGONAUT = [sys.executable, "-m", "ergonaut"]

console = Console(highlight=False)


class StepFailed(Exception):
    """A step ended with something else than 0."""


class Demo:
    """The steps, and what they hand to each other."""

    def __init__(self, home: Home) -> None:
        self.home = home
        self.kept = home.path / "demo"
        self.job_id = new_id("job")
        self.run_id = ""
        self.step = 0

    def run(self) -> None:
        """All steps in order."""
        self._do("start the system on this machine", ["up"], ["supervisor"])
        self._do(
            "place the job and run it", ["submit", str(FOLDER), "--job-id", self.job_id], ["scheduler", "orchestrator"]
        )
        self._say("fetch what the run kept", "client.jobs.download(...)", self._fetch)
        model = ["deploy", str(self.kept / "model.onnx"), "--name", "digits", "--run", self.run_id]
        self._do("serve the model", model, ["gateway"])
        self._python("predict the held-out images", "predict.py", "held_out.npz", "gateway")
        self._python("search the activations", "neighbours.py", "activations.npz", "vectors")
        self._do("account for the run", ["report", self.run_id, "--html", "report.html"], ["ledger"])
        earlier = self._earlier_run()
        if earlier:
            self._do("compare with the run before", ["compare", earlier, self.run_id], ["ledger"])

    def _do(self, title: str, arguments: Sequence[str], logs: Sequence[str]) -> None:
        shown = " ".join(["ergonaut", *arguments])
        self._say(title, shown, lambda: call([*ERGONAUT, *arguments]), logs)

    def _python(self, title: str, script: str, artifact: str, log: str) -> None:
        path = self.kept / artifact
        self._say(
            title, f"python {script} {path}", lambda: call([sys.executable, str(FOLDER / script), str(path)]), [log]
        )

    def _say(self, title: str, shown: str, work: Callable[[], None], logs: Sequence[str] = ("scheduler",)) -> None:
        self.step += 1
        console.print(f"\n[bold cyan]{self.step}. {title}[/]\n[dim]$ {shown}[/]", soft_wrap=True)
        started = time.monotonic()
        try:
            work()
        except Exception as error:
            where = ", ".join(str(self.home.log_of(name)) for name in logs)
            raise StepFailed(f"step {self.step} ({title}) failed: {error}; see {where}") from error
        console.print(f"[dim]{time.monotonic() - started:.1f} s[/]")

    def _fetch(self) -> None:
        with Client() as client:
            status = client.jobs.get(self.job_id)
            self.run_id = status.run_id
            for artifact in status.artifacts:
                console.print(f"kept {client.jobs.download(artifact, self.kept / Path(artifact).name)}")

    def _earlier_run(self) -> str:
        with Client() as client:
            others = [
                run.run_id
                for run in client.ledger.runs()
                if (run.name, run.state) == ("digits", "succeeded") and run.run_id != self.run_id
            ]
        return others[0] if others else ""


def call(command: Sequence[str]) -> None:
    """Run a command; raises StepFailed where it ends with something else than 0."""
    status = subprocess.run(command, check=False).returncode
    if status != 0:
        raise StepFailed(f"exit {status}")


def main() -> None:
    """Run the demo; the system is stopped at the end, however it went."""
    home = Home(Path(os.environ.get("ERGONAUT_HOME", ".ergonaut")).resolve())
    os.environ["ERGONAUT_HOME"] = str(home.path)
    started = time.monotonic()
    failure = ""
    try:
        Demo(home).run()
    except (StepFailed, ErgonautError) as error:
        failure = str(error)
    finally:
        console.print("\n[bold cyan]stop the system[/]\n[dim]$ ergonaut down[/]")
        down(home)
    if failure:
        sys.exit(failure)
    console.print(f"\n[bold green]done in {time.monotonic() - started:.0f} s[/]; report.html shows the run.")


if __name__ == "__main__":
    main()
