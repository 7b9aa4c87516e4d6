"""Ergonaut: run AI work where and when compute is cheapest and cleanest; account for every joule, gram and cent.

    import ergonaut

    with ergonaut.track(name="digits") as run:
        with run.phase("epoch", 1):
            ...
        run.metric("accuracy", 0.97)
    print(run.summary.energy_joules, run.summary.carbon_grams_co2e, run.summary.cost_usd)

Importing this costs next to nothing: each name is loaded when it is first used.
"""

from typing import TYPE_CHECKING, Any

from ergonaut.lazy import lazy_names

if TYPE_CHECKING:
    from ergonaut.client import AsyncClient, Client
    from ergonaut.jobs import Budget
    from ergonaut.tracking import BudgetExceeded, Run, RunSummary, recover_runs, track

    __version__: str

_HOMES = {
    "track": "ergonaut.tracking",
    "Run": "ergonaut.tracking",
    "RunSummary": "ergonaut.tracking",
    "recover_runs": "ergonaut.tracking",
    "BudgetExceeded": "ergonaut.tracking",
    "Budget": "ergonaut.jobs",
    "Client": "ergonaut.client",
    "AsyncClient": "ergonaut.client",
}

__all__ = [
    "track",
    "Run",
    "RunSummary",
    "recover_runs",
    "Budget",
    "BudgetExceeded",
    "Client",
    "AsyncClient",
    "__version__",
]


_lazy_name = lazy_names(__name__, _HOMES)


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import version

        return version("ergonaut")
    return _lazy_name(name)


def load_ipython_extension(shell: Any) -> None:
    """What `%load_ext ergonaut` calls: adds the cell magic `%%track`."""
    from ergonaut.integrations.jupyter import add_magic

    add_magic(shell)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
