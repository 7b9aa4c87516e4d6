"""Programs of ours that do what a hostile or broken model could turn against whoever does it, in processes of their own."""

import asyncio
import contextlib
import json
import os
import signal
import sys
from collections.abc import Mapping
from typing import Any

from ergonaut.errors import Refused

SAID_CHARACTERS_MAX = 400
"""What is repeated of a program's own words."""


async def asked(program: str, request: Mapping[str, Any], *, doing: str, seconds: float) -> dict[str, Any]:
    """What a program answers to a request; `doing` says what it does, for people. Raises Refused where it says so, ends
    otherwise or takes longer than it may."""
    # A model has no business with keys and addresses.
    environment = {name: value for name, value in os.environ.items() if not name.startswith("ERGONAUT_")}
    process = await asyncio.create_subprocess_exec(
        # -P: a file that lies in the current folder must not stand in for a library.
        *(sys.executable, "-P", "-m", program),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env=environment,
    )
    try:
        async with asyncio.timeout(seconds):
            answered, said = await process.communicate(json.dumps(request).encode())
    except TimeoutError as error:
        raise Refused(f"{doing} took longer than {seconds:g} s") from error
    finally:
        await _ended(process)
    if process.returncode != 0:
        last = said.decode(errors="replace").strip().splitlines()[-1:]
        words = f": {last[0][:SAID_CHARACTERS_MAX]}" if last else ""
        raise Refused(f"{doing} ended with {_in_words(process.returncode)}{words}")
    try:
        answer: dict[str, Any] = json.loads(answered)
    except ValueError as error:
        raise Refused(f"{doing} gave no answer that can be read") from error
    if refused := answer.get("refused"):
        raise Refused(refused, field=answer.get("field", ""))
    return answer


def _in_words(code: int | None) -> str:
    if code is not None and -code in {*signal.Signals}:
        return signal.Signals(-code).name
    return f"{code}"


async def _ended(process: asyncio.subprocess.Process) -> None:
    if process.returncode is None:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()
