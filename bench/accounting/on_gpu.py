"""The questions that need an NVIDIA GPU and a Python with torch: are a run's joules right, and is a shared card split by work?

`python bench/accounting/run.py --gpu`. The programs under test are matrix products of fixed duty, each a run of its own beside
the other; their tracker is this checkout's.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

SECONDS = 60.0
JOULES_OFF_MAX = 0.02
SPLIT_OFF_MAX = 0.1

# Products that last so many milliseconds of each 100, for so long; the number of products is the work that was done.
PROGRAM = """
import sys, time, json
import ergonaut, torch
busy, seconds = float(sys.argv[1]), float(sys.argv[2])
a = torch.randn(8192, 8192, device="cuda", dtype=torch.bfloat16)
done, end = 0, time.monotonic() + seconds
torch.cuda.synchronize()
with ergonaut.track(name="gpu") as run:
    while time.monotonic() < end:
        slot = time.monotonic()
        while time.monotonic() < slot + busy / 10:
            torch.mm(a, a); torch.cuda.synchronize(); done += 1
        time.sleep(max(0.0, slot + 0.1 - time.monotonic()))
parts = {part.component: part.energy_joules for part in run.summary.components if part.component.startswith("gpu")}
print(json.dumps({"done": done, "gpu_joules": sum(value or 0.0 for value in parts.values())}))
"""


def main(bar: Callable[..., None]) -> None:
    """Ask both questions of one card."""
    import pynvml

    pynvml.nvmlInit()
    card = pynvml.nvmlDeviceGetHandleByIndex(0)
    before = pynvml.nvmlDeviceGetTotalEnergyConsumption(card) / 1000
    began = time.monotonic()
    told = _together([1.0, 0.5])
    used = pynvml.nvmlDeviceGetTotalEnergyConsumption(card) / 1000 - before
    print(f"the card used {used:.0f} J in {time.monotonic() - began:.0f} s; the runs were charged {told}")
    charged = sum(run["gpu_joules"] for run in told)
    bar("gpu_joules_off_counter", abs(charged / used - 1), JOULES_OFF_MAX)
    work = told[0]["done"] / (told[0]["done"] + told[1]["done"])
    bar("gpu_split_off_work", abs(told[0]["gpu_joules"] / charged / work - 1), SPLIT_OFF_MAX)


def _together(busy: list[float]) -> list[dict[str, Any]]:
    """Programs of these duties at the same time, each with a home of its own; what each was charged and did."""
    with tempfile.TemporaryDirectory() as home:
        running = [
            subprocess.Popen(
                [sys.executable, "-c", PROGRAM, str(duty), str(SECONDS)],
                env=os.environ | {"ERGONAUT_HOME": str(Path(home) / str(number))},
                stdout=subprocess.PIPE,
                text=True,
            )
            for number, duty in enumerate(busy)
        ]
        return [json.loads(process.communicate()[0].strip().splitlines()[-1]) for process in running]
