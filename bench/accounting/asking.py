"""Asks one tracker one question, in a process of its own; what fails is told on a line and kept, and costs no other answer."""

import json
import os
import subprocess
import tempfile
from pathlib import Path
from typing import Any

from environments import Environment

SUBJECT = Path(__file__).with_name("subject.py")

# Loading takes some seconds, and of the peers that ask the network for their place some tens; what takes longer hangs.
PATIENCE_SECONDS = 300.0
# What a question takes by itself, beyond loading; that for the slowdown takes so long for each pair of chunks.
QUESTION_SECONDS = {"beginning": 0.0, "idle": 65.0, "asleep": 10.0}
PAIR_SECONDS = 6.0

failures: list[tuple[str, str]] = []
"""Of which tracker something failed, and the line that was told."""


def ask(environment: Environment, question: str, pairs: int | None = None) -> dict[str, Any]:
    """One question to one tracker, in a folder of its own; `failed` is the reason why there is no answer."""
    takes_seconds = QUESTION_SECONDS.get(question, 0.0) if pairs is None else pairs * PAIR_SECONDS
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        command = [str(environment.python), str(SUBJECT), question, environment.name, folder]
        command += [] if pairs is None else [str(pairs)]
        answer = _answer(command, PATIENCE_SECONDS + takes_seconds)
    if "failed" in answer:
        failed(environment, question, answer["failed"])
    return answer


def _answer(command: list[str], timeout_seconds: float) -> dict[str, Any]:
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, check=False, env=clean(), timeout=timeout_seconds
        )
    except subprocess.TimeoutExpired:
        return {"failed": f"no answer within {timeout_seconds:g} s"}
    if done.returncode:
        return {"failed": last_line(done.stderr)}
    try:
        answer: dict[str, Any] = json.loads(last_line(done.stdout))
    except ValueError:
        return {"failed": f"not an answer: {last_line(done.stdout)[:200]}"}
    return answer


def failed(tracker: Environment, question: str, because: str) -> None:
    """Tell that a tracker gave no answer, and keep it for the end."""
    line = f"{tracker.name} failed at {question!r}: {because}"
    failures.append((tracker.name, line))
    print(f"  {line}", flush=True)


def last_line(text: str) -> str:
    """What a failing program said last, which tells why."""
    return (text.strip().splitlines() or ["no reason was told"])[-1]


def clean() -> dict[str, str]:
    """The environment without anything that a tracker could be told by, nor what makes every import compile anew."""
    told = ("ERGONAUT_", "CODECARBON_", "PYTHONDONTWRITEBYTECODE")
    return {name: value for name, value in os.environ.items() if not name.startswith(told)}
