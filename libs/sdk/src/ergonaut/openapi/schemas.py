"""JSON schemas of values, rows, requests and answers, by a model's form and signature. Pure."""

import math
from collections.abc import Sequence
from typing import Any

from ergonaut.openapi.forms import ID, LABEL, PARAMETERS, PROBABILITY, ROWS, Field, Form, Tensor

Schema = dict[str, Any]

FREE_LENGTH = 8
"""How long an example makes an axis that callers choose: long enough for the windows of most models, short enough to read."""

EXAMPLE_VALUES_MAX = 10_000
"""An example of more values is left out: nobody reads it, and shapes are whatever a file says."""

ROWS_MAX = 10_000
"""Rows that the plain JSON door takes at once."""

_WHOLE = {
    f"{sign}INT{bits}": (0 if sign else -(2 ** (bits - 1)), 2**bits - 1 if sign else 2 ** (bits - 1) - 1)
    for sign in ("", "U")
    for bits in (8, 16, 32, 64)
}
_LARGEST = {"FP16": 65504.0, "BF16": 3.3895313892515355e38, "FP32": 3.4028234663852886e38}
"""The largest number of a type; FP64 holds whatever JSON's readers do."""

PARAMETERS_SCHEMA: Schema = {
    "type": "object",
    "description": "How soon, how urgently, and whether the answer tells what it used.",
    "properties": {
        "priority": {
            "type": "integer",
            "minimum": 0,
            "maximum": 2**32 - 1,
            "description": "1 goes first; 0 counts as 16.",
        },
        "timeout": {
            "type": "integer",
            "minimum": 0,
            "maximum": 24 * 3600 * 1_000_000,
            "description": "Microseconds for which the answer is of use; 0 is as long as it takes.",
        },
        "energy": {"type": "boolean", "description": "Whether the answer tells what it used, as an estimate."},
    },
}
_ID: Schema = {"type": "string", "description": "Comes back as it was sent; labels are told by it."}


def value(datatype: str, *, may_be_null: bool = False) -> Schema:
    """One value; null stands for a number that is none (NaN), where it may."""
    if datatype == "BOOL":
        return {"type": "boolean"}
    if datatype == "BYTES":
        return {"type": "string"}
    if datatype in _WHOLE:
        least, most = _WHOLE[datatype]
        return {"type": "integer", "minimum": least, "maximum": most}
    number: Schema = {"type": ["number", "null"] if may_be_null else "number"}
    if datatype in _LARGEST:
        number |= {"minimum": -_LARGEST[datatype], "maximum": _LARGEST[datatype]}
    return number


def nested(schema: Schema, shape: Sequence[int]) -> Schema:
    """Lists of it, as deep as a shape; an axis that callers choose has at least one element."""
    for length in reversed(shape):
        bounds = {"minItems": 1} if length < 0 else {"minItems": length, "maxItems": length}
        schema = {"type": "array", "items": schema, **bounds}
    return schema


def row(form: Form) -> Schema:
    """One row as people send it."""
    fields = {field.name: _taken(field) for field in form.fields}
    return {"type": "object", "required": list(fields), "properties": fields, "additionalProperties": False}


def request(form: Form, row_reference: str) -> Schema:
    """All forms that a request may have: a row, rows, columns."""
    one = row(form)
    fields = one["properties"]
    beside = {name: schema for name, schema in _beside().items() if name not in fields}
    forms: list[Schema] = [{**one, "title": "One row", "properties": fields | beside}]
    many = 1 if not form.is_rowed else ROWS_MAX
    rows: Schema = {"type": "array", "items": {"$ref": row_reference}, "minItems": 1, "maxItems": many}
    if ROWS not in fields:
        envelope = {ROWS: rows, **_beside()}
        forms.append(
            {
                "title": "Rows",
                "type": "object",
                "required": [ROWS],
                "properties": envelope,
                "additionalProperties": False,
            }
        )
    forms.append({"title": "A list of rows", **rows})
    if form.is_rowed and fields:
        columns = {
            name: {"type": "array", "items": each, "minItems": 1, "maxItems": many} for name, each in fields.items()
        }
        told = "Columns: as many values of each field as there are rows"
        forms.append({**one, "title": told, "properties": columns | beside})
    return {"anyOf": forms}


def answer(form: Form) -> Schema:
    """What comes back: a prediction a row."""
    by_row = {result.name: _given(result) for result in form.results if result.by_row}
    whole = {result.name: _given(result) for result in form.results}
    if form.scored is not None:
        by_row |= {LABEL: {"type": ["string", "null"], "description": "The likeliest class."}}
    if form.tells_probability:
        by_row |= {PROBABILITY: {"type": ["number", "null"], "description": "That of the likeliest class."}}
    return {
        "type": "object",
        "required": ["model", "version", "predictions"],
        "properties": {
            "model": {"type": "string"},
            "version": {"type": "string"},
            "id": _ID,
            "predictions": {
                "type": "array",
                "description": "One a row, in the order of the rows. null stands for what JSON cannot say: NaN or infinite.",
                "items": {"type": "object", "properties": by_row},
            },
            "outputs": {"type": "object", "description": "What is not told row by row.", "properties": whole},
            "parameters": {"type": "object", "description": "What the answer used, where that was asked for."},
        },
    }


def example_value(datatype: str, shape: Sequence[int]) -> Any:
    """A value that any model of this shape takes: noughts, and texts that say so."""
    made: Any = {"BYTES": "text", "BOOL": False}.get(datatype, 0 if datatype in _WHOLE else 0.0)
    for length in reversed(shape):
        made = [made] * (FREE_LENGTH if length < 0 else length)
    return made


def example_row(form: Form) -> dict[str, Any] | None:
    """A row of the least that fits; none where that is too large to be read."""
    if sum(_count(field.shape) for field in form.fields) > EXAMPLE_VALUES_MAX:
        return None
    return {field.name: example_value(field.datatype, field.shape) for field in form.fields}


def tensor(spec: Tensor) -> Schema:
    """A tensor of the Open Inference Protocol, in JSON."""
    axes = [{"type": "integer", **({"const": axis} if axis >= 0 else {"minimum": 0})} for axis in spec.shape]
    shape: Schema = {"type": "array", "minItems": len(axes), "maxItems": len(axes)}
    if axes:
        shape["prefixItems"] = axes
    items = value(spec.datatype)
    return {
        "title": f"{spec.name} {spec.datatype} {list(spec.shape)}",
        "type": "object",
        "required": ["name", "shape", "datatype", "data"],
        "properties": {
            "name": {"const": spec.name},
            "shape": shape,
            "datatype": {"const": spec.datatype},
            "data": {
                "type": "array",
                "description": "All values in row-major order, flat or nested as the shape is.",
                "items": {**items, "type": [items["type"], "array"]},
            },
        },
    }


def tensors(field: str, specs: Sequence[Tensor]) -> Schema:
    """A message of the protocol that holds tensors under this field; numbers of outputs may be null, where they are none."""
    forms = [tensor(spec) for spec in specs]
    if field == "outputs":
        for form, spec in zip(forms, specs, strict=True):
            given = value(spec.datatype, may_be_null=True)["type"]
            properties = form["properties"]
            properties["data"]["items"] = {"type": [*([given] if isinstance(given, str) else given), "array"]}
            # Which axis is how long need not be checked of an answer, and some readers stumble over lists of schemas there.
            properties["shape"] = {"type": "array", "items": {"type": "integer", "minimum": 0}} | {
                bound: properties["shape"][bound] for bound in ("minItems", "maxItems")
            }
    return {
        "type": "object",
        "required": [field],
        "properties": {
            "id": _ID,
            field: {
                "type": "array",
                "minItems": len(specs) if field == "inputs" else 1,
                "maxItems": len(specs),
                # A schema must name at least one; a model without inputs takes an empty list.
                "items": {"anyOf": forms or [{}]},
            },
        },
    }


def example_tensors(specs: Sequence[Tensor]) -> list[Schema] | None:
    """Tensors of noughts, one row where rows are the caller's; none where they are too large to be read."""
    if sum(_count(spec.shape[1:] if spec.shape[:1] == (-1,) else spec.shape) for spec in specs) > EXAMPLE_VALUES_MAX:
        return None
    told = []
    for spec in specs:
        shape = [axis if axis >= 0 else 1 if place == 0 else FREE_LENGTH for place, axis in enumerate(spec.shape)]
        data = [example_value(spec.datatype, ())] * math.prod(shape)
        told.append({"name": spec.name, "shape": shape, "datatype": spec.datatype, "data": data})
    return told


def _count(shape: Sequence[int]) -> int:
    return math.prod(FREE_LENGTH if length < 0 else length for length in shape)


def _beside() -> dict[str, Schema]:
    return {ID: _ID, PARAMETERS: PARAMETERS_SCHEMA}


def _taken(field: Field) -> Schema:
    described = {"description": f"{field.datatype}, column of {field.tensor}"} if field.name != field.tensor else {}
    return {**nested(value(field.datatype, may_be_null=True), field.shape), **described, "x-datatype": field.datatype}


def _given(result: Field) -> Schema:
    number = value(result.datatype, may_be_null=True)
    # What a model gives is within its type; to bound it would only invite doubt about rounding.
    number = {key: told for key, told in number.items() if key not in ("minimum", "maximum")}
    if result.classes:
        return {"type": "object", "properties": dict.fromkeys(result.classes, number)}
    lists: Schema = number
    for _ in result.shape:
        lists = {"type": "array", "items": lists}
    return lists
