"""Whether a condition makes sense of a datatype, and whether it holds. There is no language behind it and nothing to evaluate."""

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from ergonaut_gateway.domain.models import TensorSpec
from ergonaut_gateway.domain.pipelines.spec import Condition, Op, Over, Take, Value
from ergonaut_gateway.domain.tensors import BF16, BYTES, DTYPES, Tensor, float32_of

VALUES_MAX = 64
"""Values of one `in`; a longer list is a table, which is for a model."""

_ORDERED = (Op.LT, Op.LE, Op.GT, Op.GE)
_COMPARE: dict[Op, Callable[[Any, Any], Any]] = {
    Op.EQ: np.equal,
    Op.NE: np.not_equal,
    Op.LT: np.less,
    Op.LE: np.less_equal,
    Op.GT: np.greater,
    Op.GE: np.greater_equal,
}


def fault_of(condition: Condition) -> str:
    """What is wrong with a condition by itself; empty where nothing is."""
    if bool(condition.tensor) == bool(condition.parameter):
        return "names a tensor or a parameter, and not both"
    if fault := _fault_of_values(condition):
        return fault
    if condition.op in _ORDERED and _kind_of(condition.values[0]) == "true or false":
        return f"{condition.op} compares numbers or texts, not true and false"
    if condition.parameter and (condition.take is not Take.EACH or condition.over is not Over.ALL):
        return "take and over are for tensors; a parameter has one value"
    return ""


def _fault_of_values(condition: Condition) -> str:
    if not condition.values or (len(condition.values) > 1 and condition.op is not Op.IN):
        return f"{condition.op} compares with one value; `in` takes several"
    if len(condition.values) > VALUES_MAX:
        return f"has {len(condition.values)} values, at most {VALUES_MAX} are taken"
    if len({_kind_of(value) for value in condition.values}) > 1:
        return "has values of different kinds; give numbers, or texts, or true and false"
    if not all(math.isfinite(value) for value in condition.values if isinstance(value, float)):
        return "has a value that is no finite number"
    return ""


def misfit_of(condition: Condition, spec: TensorSpec) -> str:
    """Why a condition cannot be asked of a tensor; empty where it can."""
    given = _kind_of(condition.values[0])
    told = "texts" if spec.datatype == BYTES else "true or false" if spec.datatype == "BOOL" else "numbers"
    if condition.take is not Take.EACH:
        if told != "numbers":
            return f"{condition.take} is of numbers, and {spec.name} is {spec.datatype}"
        if not spec.shape:
            return f"{condition.take} is of the last axis, and {spec.name} has none"
    if told != given:
        return f"compares {spec.name}, which is {spec.datatype}, with {given}"
    if told == "texts" and condition.op in _ORDERED:
        return f"{condition.op} is of numbers, and {spec.name} is {spec.datatype}"
    return ""


def holds(condition: Condition, tensors: Mapping[str, Tensor], parameters: Mapping[str, object]) -> bool:
    """Whether it holds. It does not where the parameter is absent or of another kind than the value."""
    if condition.parameter:
        return _holds_of_parameter(condition, parameters.get(condition.parameter))
    taken = _taken(tensors[condition.tensor], condition.take)
    if taken.dtype == object:
        wanted = {str(value).encode() for value in condition.values}
        found = np.fromiter((element in wanted for element in taken.flat), bool, taken.size)
        each = ~found if condition.op is Op.NE else found
    elif condition.op is Op.IN:
        each = np.logical_or.reduce([taken == value for value in condition.values])
    else:
        each = _COMPARE[condition.op](taken, condition.values[0])
    return bool(np.all(each) if condition.over is Over.ALL else np.any(each))


def _holds_of_parameter(condition: Condition, given: object) -> bool:
    if not isinstance(given, bool | int | float | str) or _kind_of(given) != _kind_of(condition.values[0]):
        return False
    if condition.op is Op.IN:
        return given in condition.values
    return bool(_PLAIN[condition.op](given, condition.values[0]))


_PLAIN: dict[Op, Callable[[Any, Any], bool]] = {
    Op.EQ: lambda given, value: given == value,
    Op.NE: lambda given, value: given != value,
    Op.LT: lambda given, value: given < value,
    Op.LE: lambda given, value: given <= value,
    Op.GT: lambda given, value: given > value,
    Op.GE: lambda given, value: given >= value,
}


def _taken(tensor: Tensor, take: Take) -> Tensor:
    if tensor.dtype == DTYPES[BF16]:
        tensor = float32_of(tensor)
    # Of no elements there is no largest; then nothing is compared.
    if take is Take.EACH or not tensor.size:
        return tensor
    found: Tensor = getattr(np, take.value)(tensor, axis=-1)
    return found


def _kind_of(value: Value) -> str:
    if isinstance(value, bool):
        return "true or false"
    return "texts" if isinstance(value, str) else "numbers"
