"""How a model's tensors are told to people: named fields of rows, named results, classes by their names. Pure; the gateway's
plain JSON door reads and writes by it, and the OpenAPI document describes the same."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

FEATURES = "ergonaut.features"
CLASSES = "ergonaut.classes"
"""Keys of a model's own metadata (ONNX `metadata_props`): JSON lists of names, one a column of the only input, one a class."""

NAMES_MAX = 10_000
"""Names that are taken from a model's metadata; more are no form for people."""

FEATURES_MAX = 1_000
"""Columns that become fields of their own; a model of more takes them as a list, which reads and describes faster."""

NAME_CHARACTERS_MAX = 200

ROWS, ID, PARAMETERS = "rows", "id", "parameters"
"""Words of a request that are no fields, unless the model has a field of that name."""

LABEL, PROBABILITY = "label", "probability"


class Tensor(Protocol):
    """A tensor that a model takes or gives; -1 in the shape stands where the caller chooses."""

    @property
    def name(self) -> str: ...

    @property
    def datatype(self) -> str: ...

    @property
    def shape(self) -> tuple[int, ...]: ...


@dataclass(frozen=True, slots=True)
class Field:
    """What a person gives or gets under one name, for one row; a shape without axes is a single value."""

    name: str
    datatype: str
    shape: tuple[int, ...]
    tensor: str
    """The input or output that it is, or is a column of."""
    classes: tuple[str, ...] = ()
    """The names of the values, where they are those of classes."""
    by_row: bool = True
    """Whether there is one for each row; else one for the request."""


@dataclass(frozen=True, slots=True)
class Form:
    """What a model takes and gives, for people."""

    fields: tuple[Field, ...]
    results: tuple[Field, ...]
    is_rowed: bool
    """Whether a request may have as many rows as its caller likes; else it is one, and fields have the tensors' whole shapes."""

    @property
    def scored(self) -> Field | None:
        """The result by which the likeliest class is told, where the model does not tell it itself."""
        named = [result for result in self.results if result.classes]
        told = {result.name for result in self.results}
        return named[0] if len(named) == 1 and LABEL not in told else None

    @property
    def tells_probability(self) -> bool:
        """Whether the likeliest class comes with its probability: only where the model says that these are some."""
        scored = self.scored
        told = {result.name for result in self.results}
        return scored is not None and "prob" in scored.name.lower() and PROBABILITY not in told


def form_of(inputs: Sequence[Tensor], outputs: Sequence[Tensor], notes: Mapping[str, str] | None = None) -> Form:
    """The form of a signature; `notes` is the metadata that the model's file carries, whatever that is."""
    notes = notes or {}
    is_rowed = bool(inputs) and all(tensor.shape[:1] == (-1,) for tensor in inputs)
    classes = names_in(notes.get(CLASSES, ""))
    return Form(
        tuple(_shown(_fields(inputs, names_in(notes.get(FEATURES, "")), is_rowed=is_rowed))),
        tuple(_result(tensor, classes, is_rowed=is_rowed) for tensor in outputs),
        is_rowed,
    )


def names_in(text: str) -> tuple[str, ...]:
    """The names that a JSON list holds; none where it is anything else, or where two are the same.

    >>> names_in('["setosa", "virginica"]'), names_in('["a", "a"]'), names_in("{")
    (('setosa', 'virginica'), (), ())
    """
    try:
        told = json.loads(text) if text else []
    except (ValueError, RecursionError):
        return ()
    if not isinstance(told, list) or not 0 < len(told) <= NAMES_MAX:
        return ()
    names = tuple(str(each) if isinstance(each, int) else each for each in told)
    fits = all(isinstance(each, str) and 0 < len(each) <= NAME_CHARACTERS_MAX and _is_text(each) for each in names)
    return names if fits and len(set(names)) == len(names) else ()


def _is_text(name: str) -> bool:
    """Half a surrogate pair is no text that any answer could carry."""
    return not any("\ud800" <= each <= "\udfff" for each in name)


def _fields(inputs: Sequence[Tensor], features: tuple[str, ...], *, is_rowed: bool) -> list[Field]:
    if is_rowed and len(inputs) == 1 and inputs[0].shape == (-1, len(features)) and 0 < len(features) <= FEATURES_MAX:
        only = inputs[0]
        return [Field(feature, only.datatype, (), only.name) for feature in features]
    return [Field(each.name, each.datatype, _of_row(each.shape, is_rowed=is_rowed), each.name) for each in inputs]


def _shown(fields: Sequence[Field]) -> list[Field]:
    """The same fields by names that are plain in JSON: no quote, backslash or control character. Those that are then the same
    are told apart by a number."""
    shown: dict[str, Field] = {}
    for each in fields:
        plain = "".join("_" if letter in '"\\' or letter < " " else letter for letter in each.name)
        name, number = plain, 2
        while name in shown:
            name, number = f"{plain}_{number}", number + 1
        shown[name] = replace(each, name=name)
    return list(shown.values())


def _result(tensor: Tensor, classes: tuple[str, ...], *, is_rowed: bool) -> Field:
    by_row = not is_rowed or tensor.shape[:1] == (-1,)
    shape = _of_row(tensor.shape, is_rowed=is_rowed and by_row)
    is_scored = by_row and bool(classes) and tensor.datatype[:2] in ("FP", "BF")
    named = classes if is_scored and shape in ((len(classes),), (1, len(classes))) else ()
    return Field(tensor.name, tensor.datatype, shape, tensor.name, named, by_row)


def _of_row(shape: tuple[int, ...], *, is_rowed: bool) -> tuple[int, ...]:
    if not is_rowed:
        return shape
    # A column of width 1 is a single value to anybody but a matrix.
    return () if shape[1:] == (1,) else shape[1:]
