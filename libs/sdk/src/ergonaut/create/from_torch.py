"""PyTorch and Hugging Face to ONNX; runs in the process apart. torch is never a dependency of ours: who comes here has it."""

import inspect
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ergonaut.create.feeds import read_columns, write_feed
from ergonaut.create.tensors import Array
from ergonaut.errors import Refused

SENTENCE = "The quick brown fox jumps over the lazy dog."


def convert(request: Mapping[str, Any]) -> dict[str, Any]:
    """An exported program (.pt2), tried on the inputs that it was exported with."""
    import torch

    program = torch.export.load(request["source"])
    if program.example_inputs is None or program.example_inputs[1]:
        raise Refused("the program was exported without example inputs by position; export it again with them")
    values = program.example_inputs[0]
    _write(program, program.module(), values, _named(program, values), request)
    return {}


def convert_module(module: Any, request: Mapping[str, Any]) -> dict[str, Any]:
    """A module of a person's own code, tried on the inputs that they give."""
    if request["example"] is None:
        raise Refused(
            "a PyTorch module does not tell its inputs; give some of them, by the names of forward", field="--example"
        )
    import torch

    columns = read_columns(Path(request["example"]), option="--example")
    names = [name for name in inspect.signature(module.forward).parameters if name in columns]
    if not names and len(columns) == 1:
        names = [next(iter(inspect.signature(module.forward).parameters))]
        columns = {names[0]: next(iter(columns.values()))}
    if not names:
        raise Refused(f"forward takes none of {', '.join(columns)}", field="--example")
    values = tuple(torch.as_tensor(_as_trained(columns[name])) for name in names)
    return _exported(module.eval(), values, names, request)


def convert_pretrained(request: Mapping[str, Any]) -> dict[str, Any]:
    """A Hugging Face model, tried on a sentence or a drawn image. Code that comes with a model is never run."""
    import torch
    import transformers

    config = transformers.AutoConfig.from_pretrained(request["source"], trust_remote_code=False)
    named = getattr(transformers, (config.architectures or [""])[0] or "AutoModel", transformers.AutoModel)
    # use_safetensors: other weights are pickles.
    model = named.from_pretrained(request["source"], use_safetensors=True).eval()
    if hasattr(config, "image_size"):
        size = config.image_size if isinstance(config.image_size, int) else config.image_size[0]
        inputs = {"pixel_values": torch.randn(2, getattr(config, "num_channels", 3), size, size)}
    else:
        inputs = _sentence(request["source"], config)

    class Plain(torch.nn.Module):  # type: ignore[misc]
        """Takes and gives tensors, where the model gives an object."""

        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(self, *values: Any) -> Any:
            return self.model(**dict(zip(inputs, values, strict=True)), return_dict=False)[0]

    return _exported(Plain().eval(), tuple(inputs.values()), [*inputs], request, axes={0: "batch", 1: "sequence"})


def _sentence(source: str, config: Any) -> dict[str, Any]:
    import torch
    import transformers

    try:
        tokenizer = transformers.AutoTokenizer.from_pretrained(source, trust_remote_code=False)
        return dict(tokenizer([SENTENCE, SENTENCE], return_tensors="pt"))
    except (OSError, ValueError):
        # A folder with weights alone; any words do for a comparison.
        words = torch.randint(0, min(config.vocab_size, 100), (2, 8))
        return {"input_ids": words, "attention_mask": torch.ones_like(words)}


def _exported(
    module: Any,
    values: Sequence[Any],
    names: Sequence[str],
    request: Mapping[str, Any],
    axes: Mapping[int, str] | None = None,
) -> dict[str, Any]:
    import torch

    free = axes or {0: "batch"}
    # AUTO lets the exporter find which of these axes the model really leaves free.
    shapes = tuple({axis: torch.export.Dim.AUTO for axis in free if axis < value.ndim} for value in values)
    takes_many = any(
        each.kind is inspect.Parameter.VAR_POSITIONAL for each in inspect.signature(module.forward).parameters.values()
    )
    with torch.no_grad():
        program = torch.export.export(module, tuple(values), dynamic_shapes=(shapes,) if takes_many else shapes)
    _write(program, module, values, names, request)
    return {}


def _write(program: Any, module: Any, values: Sequence[Any], names: Sequence[str], request: Mapping[str, Any]) -> None:
    import torch

    exported = torch.onnx.export(program, dynamo=True, input_names=list(names), external_data=False, verbose=False)
    exported.save(request["model"], external_data=False)
    with torch.no_grad():
        given = module(*values)
    flat = _flat(given)
    outputs = [output.name for output in exported.model.graph.outputs]
    write_feed(Path(request["feed"]), dict(zip(names, map(_array, values), strict=True)))
    write_feed(Path(request["outputs"]), dict(zip(outputs, map(_array, flat), strict=False)))


def _named(program: Any, values: Sequence[Any]) -> list[str]:
    names = [*program.graph_signature.user_inputs]
    return [str(name) for name in names[: len(values)]]


def _flat(given: Any) -> list[Any]:
    if isinstance(given, Mapping):
        return [part for value in given.values() for part in _flat(value)]
    if isinstance(given, list | tuple):
        return [part for value in given for part in _flat(value)]
    return [given]


def _array(value: Any) -> Array:
    array: Array = value.detach().cpu().numpy()
    return array


def _as_trained(value: Array) -> Array:
    """Decimal figures as torch has them unless told otherwise."""
    return value.astype(np.float32) if value.dtype == np.float64 else value
