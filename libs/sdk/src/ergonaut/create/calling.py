"""A request to a served model as people write it: the protocol's JSON, a curl line, a Python program. Pure."""

import json
from collections.abc import Sequence
from typing import Any

import numpy as np

from ergonaut.create.tensors import DATATYPES, DRAWS, Array, Feed, Spec, drawn

SHOWN_VALUES_MAX = 64
"""A command with more figures than that is not read; it makes zeros where it runs."""


def tensor_json(spec: Spec, value: Array) -> dict[str, Any]:
    """A tensor as the Open Inference Protocol's JSON has it. Figures that JSON lacks become 0."""
    flat = value.reshape(-1)
    if flat.dtype.kind == "f":
        flat = np.nan_to_num(flat, posinf=0.0, neginf=0.0)
    return {"name": spec.name, "shape": list(value.shape), "datatype": spec.datatype, "data": flat.tolist()}


def one_row(specs: Sequence[Spec], feed: Feed) -> dict[str, Array]:
    """The first row of a call, where its rows are the caller's to choose."""
    free = all(spec.axes and not isinstance(spec.axes[0], int) for spec in specs)
    return {name: value[:1] for name, value in feed.items()} if free else dict(feed)


def request_json(specs: Sequence[Spec], feed: Feed) -> dict[str, Any]:
    """The body of one call."""
    return {"inputs": [tensor_json(spec, feed[spec.name]) for spec in specs]}


def curl(url: str, specs: Sequence[Spec], key: str) -> str:
    """A command line that predicts; `key` is a shell expression that gives the key."""
    feed = drawn(specs, DRAWS[1])
    tensors = [_in_shell(spec, feed[spec.name]) for spec in specs]
    body = f'{{"inputs":[{",".join(tensors)}]}}'
    return f"curl {url} -H 'content-type: application/json' -H \"authorization: Bearer {key}\" -d '{body}'"


def python(name: str, specs: Sequence[Spec]) -> str:
    """A program that predicts."""
    feed = drawn(specs, DRAWS[1])
    inputs = ", ".join(_in_python(spec, feed[spec.name]) for spec in specs)
    return (
        "from ergonaut import Client\n"
        "with Client() as ergonaut:\n"
        f"    print(ergonaut.models.predict({name!r}, [{inputs}]))"
    )


def _in_shell(spec: Spec, value: Array) -> str:
    head = json.dumps({"name": spec.name, "shape": list(value.shape), "datatype": spec.datatype})
    head = head.replace("'", "'\\''")
    if value.size > SHOWN_VALUES_MAX:
        return f"{head[:-1]}, \"data\": '\"$(python3 -c 'print([{_nothing(spec)}]*{value.size})')\"'}}"
    return f'{head[:-1]}, "data": {json.dumps(_short(value))}}}'


def _in_python(spec: Spec, value: Array) -> str:
    values = f"[{_nothing(spec)}] * {value.size}" if value.size > SHOWN_VALUES_MAX else repr(_short(value))
    return f'{{"name": {spec.name!r}, "shape": {list(value.shape)}, "datatype": "{spec.datatype}", "data": {values}}}'


def _short(value: Array) -> list[Any]:
    flat = np.round(value.reshape(-1), 2) if value.dtype.kind == "f" else value.reshape(-1)
    # A figure of 16 bits has no short decimal form; in 64 bits it has.
    return [*(flat.astype(np.float64).round(2) if flat.dtype.kind == "f" else flat).tolist()]


def _nothing(spec: Spec) -> str:
    if spec.datatype == "BYTES":
        return '""'
    if spec.datatype == "BOOL":
        return "0"
    return "0.0" if np.issubdtype(DATATYPES[spec.datatype], np.floating) else "0"
