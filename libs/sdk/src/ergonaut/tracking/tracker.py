"""`track()`: what a program writes. It loads what measures when something is to be measured, so importing it is cheap."""

import functools
from collections.abc import Callable
from types import TracebackType
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar, Unpack, overload

from ergonaut.tracking.wishes import Wishes

if TYPE_CHECKING:
    from ergonaut.tracking.run import Run
    from ergonaut.tracking.running import Block

P = ParamSpec("P")
R = TypeVar("R")


@overload
def track(function: Callable[P, R], /) -> Callable[P, R]: ...
@overload
def track(**wishes: Unpack[Wishes]) -> "Tracking": ...
def track(function: Callable[..., Any] | None = None, /, **wishes: Unpack[Wishes]) -> Any:
    """Measure what a block or a function uses: `with track(name="digits") as run:`, `@track` or `@track(name="digits")`.

    `name`, `project` say what it is and who pays. `zone`, `electricity_usd_per_kwh` and `interval_seconds` set where the
    electricity comes from, its price, and the seconds between samples. `budget` is held to: warned of at 80 %, then told or
    stopped. `exporters` are names, such as "mlflow", or exporters. With `stops_itself` SIGTERM only turns `run.should_stop`
    true, and the program saves its state and leaves; a second SIGTERM ends it.

    What is not given is taken from ERGONAUT_PROJECT, ERGONAUT_ZONE and so on. One line tells the footprint on stderr at the
    end if that is a terminal or `verbose` is set; `run.summary` has it all.
    """
    if unknown := wishes.keys() - Wishes.__annotations__.keys():
        raise TypeError(f"track() has no argument {', '.join(map(repr, sorted(unknown)))}")
    if function is not None and not callable(function):
        raise TypeError(f"track() takes a function or names, such as track(name={function!r})")
    if not isinstance(wishes.get("name", ""), str):
        raise TypeError(f"track(): name is text, not {wishes['name']!r}")
    tracking = Tracking(wishes)
    return tracking if function is None else tracking(function)


class Tracking:
    """What `track()` returns: a context manager for blocks and a decorator for functions, coroutines and generators included."""

    def __init__(self, wishes: Wishes) -> None:
        self._wishes = wishes
        self._block: Block | None = None

    def __enter__(self) -> "Run":
        # What measures loads libraries for a tenth of a second, which a program that only decorates need not wait for.
        from ergonaut.tracking.running import Block

        block = Block(self._wishes)
        run = block.enter()
        self._block = block
        return run

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._block is not None
        if self._block.leave(error):
            self._block.end_run()

    async def leave_without_blocking(self, error: BaseException | None) -> None:
        """Leave as the block's end does, but let the event loop go on while the bus is waited for."""
        assert self._block is not None
        # A phase belongs to its task's context and so must end in it; it waits for nothing.
        if self._block.leave(error):
            import asyncio

            await asyncio.to_thread(self._block.end_run)

    def __call__(self, function: Callable[P, R]) -> Callable[P, R]:
        # A quarter of all that importing `track` would cost.
        import inspect

        wishes = self._wishes.copy()
        wishes["name"] = wishes.get("name", "") or getattr(function, "__qualname__", "function")
        if inspect.iscoroutinefunction(function):

            @functools.wraps(function)
            async def measured_coroutine(*arguments: P.args, **options: P.kwargs) -> Any:
                tracking = Tracking(wishes)
                tracking.__enter__()
                try:
                    result = await function(*arguments, **options)
                except BaseException as error:
                    await tracking.leave_without_blocking(error)
                    raise
                await tracking.leave_without_blocking(None)
                return result

            return measured_coroutine  # type: ignore[return-value]

        if inspect.isasyncgenfunction(function):
            raise TypeError(f"{wishes['name']} is an asynchronous generator; put `with ergonaut.track():` into it")
        if inspect.isgeneratorfunction(function):

            @functools.wraps(function)
            def measured_generator(*arguments: P.args, **options: P.kwargs) -> Any:
                with Tracking(wishes):
                    return (yield from function(*arguments, **options))

            return measured_generator

        @functools.wraps(function)
        def measured(*arguments: P.args, **options: P.kwargs) -> R:
            with Tracking(wishes):
                return function(*arguments, **options)

        return measured
