"""Makes a service of a model file: understood, tried, compared, made faster and smaller, served. `ergonaut create` calls it.

    outcome = create(CreateOptions(model="model.onnx", name="digits"), Telling())

Every file that came from outside is worked on in a process apart (`apart.py`), within bounds of time and memory, since a model
may be hostile or only broken. What decides is pure and lies in one module a step; `flow.py` is the order of the steps.
"""

from typing import TYPE_CHECKING

from ergonaut.lazy import lazy_names

if TYPE_CHECKING:
    from ergonaut.create.flow import Outcome, Telling, create
    from ergonaut.create.options import CreateOptions

__all__ = ["create", "CreateOptions", "Outcome", "Telling"]

_HOMES = {
    "create": "ergonaut.create.flow",
    "Outcome": "ergonaut.create.flow",
    "Telling": "ergonaut.create.flow",
    "CreateOptions": "ergonaut.create.options",
}

__getattr__ = lazy_names(__name__, _HOMES)
