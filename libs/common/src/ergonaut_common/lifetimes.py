"""The life of a service's process: start, wait until told to stop, leave with a clear exit code. Used by every `__main__`."""

import asyncio
import contextlib
import gc
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable

from pydantic import ValidationError

from ergonaut.errors import ErgonautError
from ergonaut.faults import in_words
from ergonaut_common.observe import get_logger, start_logging, start_tracing
from ergonaut_common.settings import PlatformSettings

CANCEL_AGAIN_SECONDS = 0.2
"""How soon a task that went on after it was cancelled is cancelled again."""

EXIT_BAD_SETTINGS = 78
"""EX_CONFIG of sysexits.h: a supervisor need not try again before a person has looked."""

log = get_logger(__name__)


async def stop_requested() -> None:
    """Return at SIGTERM or SIGINT."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    await stop.wait()


@contextlib.asynccontextmanager
async def background(work: Awaitable[None]) -> AsyncIterator[asyncio.Task[None]]:
    """Run something beside the block and stop it at the end; should it fail, the block is cancelled."""

    async def run() -> None:
        await work

    async with asyncio.TaskGroup() as group:
        task = group.create_task(run())
        try:
            yield task
        finally:
            await stopped(task)


async def stopped(task: asyncio.Task[None]) -> None:
    """Cancel a task until it has ended; once is not enough, since nats-py may swallow a cancellation that meets an answer."""
    while not task.done():
        task.cancel()
        await asyncio.wait({task}, timeout=CANCEL_AGAIN_SECONDS)


def run_service(
    name: str,
    run: Callable[[PlatformSettings], Awaitable[None]],
    *,
    loop_factory: Callable[[], asyncio.AbstractEventLoop] | None = None,
) -> None:
    """Be the process of a service: read settings, start logs and spans, run until told to stop, on a loop of its choice."""
    try:
        platform = PlatformSettings()
    except ValidationError as error:
        sys.exit(_bad_settings(name, error))
    # What is loaded by now stays for good; to look through it for garbage again and again was a tenth of the ledger's work.
    gc.freeze()
    start_logging(name, platform.log_level)
    start_tracing(name, platform.otlp_endpoint)
    try:
        with asyncio.Runner(loop_factory=loop_factory) as runner:
            runner.run(_whole_life(name, run, platform))
    except ValidationError as error:
        if error.title != "Settings":
            log.exception("service failed", service=name, error=in_words(error))
            sys.exit(1)
        # Every service reads settings of its own, a class of this name, when its life begins.
        sys.exit(_bad_settings(name, error))
    except Exception as error:
        log.error("service failed", service=name, error=_told(error), exc_info=not isinstance(error, ErgonautError))
        sys.exit(1)


async def _whole_life(
    name: str, run: Callable[[PlatformSettings], Awaitable[None]], platform: PlatformSettings
) -> None:
    log.info("service starts", service=name)
    await run(platform)
    log.info("service stopped", service=name)


def _told(error: BaseException) -> str:
    """What went wrong, in words; of a group of tasks, what went wrong in each."""
    if isinstance(error, BaseExceptionGroup):
        return "; ".join(_told(inner) for inner in error.exceptions)
    return str(error) or type(error).__name__


def _bad_settings(name: str, error: ValidationError) -> int:
    for problem in error.errors():
        where = ".".join(str(part) for part in problem["loc"])
        print(f"{name}: setting {where}: {problem['msg']}", file=sys.stderr)  # noqa: T201 - logs are not set up yet
    return EXIT_BAD_SETTINGS
