"""Writes the documents that are made from code: the events' schema snapshots and each service's AsyncAPI file.

`python tools/docs.py` writes them (`make docs`); `tools/test_docs.py` checks that they are current.
"""

import ast
import importlib.util
import inspect
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import yaml
from faststream.nats import NatsBroker
from faststream.specification import AsyncAPI

from ergonaut import events
from ergonaut.events import Event, subject_of
from ergonaut.events.schemas import broken_promises, concrete_types, promised, schema_of, snapshot_file, text_of
from ergonaut_common.bus import Listeners

ROOT = Path(__file__).resolve().parents[1]
ASYNCAPI = ROOT / "docs" / "asyncapi"


def snapshots() -> dict[Path, str]:
    """Every event's schema snapshot, by the file that it belongs in."""
    return {snapshot_file(name): text_of(schema_of(event_type)) for name, event_type in concrete_types().items()}


def all_broken_promises() -> list[str]:
    """What a new snapshot would take back of what was promised, as sentences."""
    return [
        f"{name}: {sentence}"
        for name, event_type in concrete_types().items()
        for sentence in broken_promises(promised(name) or schema_of(event_type), schema_of(event_type))
    ]


def asyncapi_files() -> dict[Path, str]:
    """Every service's AsyncAPI file, by where it belongs."""
    services = sorted(path.parent for path in ROOT.glob("services/*/pyproject.toml"))
    return {ASYNCAPI / f"{folder.name}.yaml": asyncapi(folder) for folder in services}


def asyncapi(folder: Path) -> str:
    """What a service listens to and what it tells, as AsyncAPI 3.0; made on a broker that never connects."""
    broker = NatsBroker()
    heard_by(folder.name).subscribe(broker)
    heard = {event_type for event_type, _, _ in heard_by(folder.name).handlers}
    for event_type in told_by(folder):
        broker.publisher(
            subject_of(event_type.TYPE),
            schema=event_type,
            # A channel has one direction here, so what a service hears of itself needs two.
            title=f"{event_type.TYPE} (told)" if event_type in heard else event_type.TYPE,
            description=inspect.getdoc(event_type),
        )
    package = importlib.import_module(f"ergonaut_{folder.name}")
    made = AsyncAPI(
        broker,
        title=f"ergonaut {folder.name}",
        version="1",
        description=inspect.getdoc(package),
        schema_version="3.0.0",
    )
    # faststream keeps subscribers in sets, whose order changes from process to process.
    return yaml.safe_dump(_sorted(yaml.safe_load(made.to_specification().to_yaml())), sort_keys=False, width=120)


def heard_by(service: str) -> Listeners:
    """What a service listens to, from the same declaration that it runs with; nothing where it has no such door."""
    name = f"ergonaut_{service}.listeners"
    if importlib.util.find_spec(name) is None:
        return Listeners(service)
    door = importlib.import_module(name)
    listeners = Listeners(service)
    for declare in (getattr(door, name) for name in ("listeners", "followed") if hasattr(door, name)):
        listeners.handlers += _declared(declare).handlers
    if listeners.handlers:
        return listeners
    # The ledger reads whole areas in batches, so it has no function an event.
    for type_name, event_type in concrete_types().items():
        if type_name.split(".")[0] in door.AREAS:
            listeners.on(event_type, durable=door.DURABLE)(_kept)
    return listeners


def told_by(folder: Path) -> list[type[Event]]:
    """The events that a service makes anywhere in its code: what it makes, it tells."""
    contract = {event_type.__name__: event_type for event_type in concrete_types().values()}
    made = {name for path in folder.glob("src/**/*.py") for name in _constructed(path) if name in contract}
    return [contract[name] for name in sorted(made)]


_ONLY_ASKING = ("isinstance", "on")
"""Calls that take an event's class and make none: a question about its type, and a listener's declaration."""


def _constructed(path: Path) -> Iterator[str]:
    tree = ast.parse(path.read_text())
    imported = {
        alias.name
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith(events.__name__)
        for alias in node.names
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            # `Event(...)`, or `made(Event, ...)` where several are made in the same way.
            function = node.func.id if isinstance(node.func, ast.Name) else getattr(node.func, "attr", "")
            first = node.args[0] if node.args and function not in _ONLY_ASKING else None
            yield from {function, first.id if isinstance(first, ast.Name) else ""} & imported


def _declared(declare: Callable[..., Listeners]) -> Listeners:
    """Call a door's declaration with what only its handlers would use; a text stands for itself in names."""
    given = inspect.signature(declare).parameters.values()
    return declare(*(f"<{each.name}>" if each.annotation is str else object() for each in given))


async def _kept(event: Event) -> None:
    """Stands for the ledger's keeping in the AsyncAPI file."""


def _sorted(document: dict[str, Any]) -> dict[str, Any]:
    """The same document with its named parts in the order of the alphabet."""
    parts = document["components"]
    return document | {
        "channels": dict(sorted(document["channels"].items())),
        "operations": dict(sorted(document["operations"].items())),
        "components": {name: dict(sorted(parts[name].items())) for name in sorted(parts)},
    }


def main() -> None:
    """Write every file; refuse where a snapshot would take back what was promised."""
    if broken := all_broken_promises():
        sys.exit(
            "these changes break what was promised to readers of events; add optional fields or a v2 instead:\n  "
            + "\n  ".join(broken)
        )
    for path, text in (snapshots() | asyncapi_files()).items():
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.exists() or path.read_text() != text:
            path.write_text(text)
            print(path.relative_to(ROOT))


if __name__ == "__main__":
    main()
