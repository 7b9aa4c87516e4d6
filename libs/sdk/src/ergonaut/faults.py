"""Turns what pydantic finds wrong with an input into sentences that name the field and say what to do."""

import difflib
from collections.abc import Iterator

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from ergonaut.errors import FieldError
from ergonaut.ids import NAME_PATTERN, NAME_RULE

_SHOWN_LENGTH_MAX = 60
"""A longer value would hide the sentence that it stands in."""

_SECRET_FIELDS = frozenset({"environment"})
"""Values of these fields are never repeated in a message, since people put passwords there against all advice."""

_HINTS = {
    "tuple_type": 'give a list, such as ["python", "train.py"]',
    "string_type": "put the value in quotes",
    "model_type": "give fields under it, such as `vcpus: 2`",
    "timezone_aware": "give a time zone, such as 2026-01-01T12:00:00Z",
}


def field_errors(error: ValidationError, model: type[BaseModel]) -> list[FieldError]:
    """Each thing that is wrong, in the order of the fields; never empty."""
    return [_field_error(details, model) for details in error.errors(include_url=False)]


def in_words(error: ValidationError) -> str:
    """Every field that is wrong, and why, in one line; never the values, which may be secrets or whole payloads."""
    problems = []
    for problem in error.errors(include_url=False, include_input=False):
        where = ".".join(str(part) for part in problem["loc"])
        message = _in_words(problem)
        problems.append(f"{where}: {message}" if where else message)
    return "; ".join(problems)


def _field_error(details: ErrorDetails, model: type[BaseModel]) -> FieldError:
    location = details["loc"]
    message = _in_words(details)
    if details["type"] == "extra_forbidden":
        return FieldError(_path(location), _unknown(str(location[-1]), _model_at(location[:-1], model)))
    if details["type"] == "missing":
        return FieldError(_path(location), "is missing; it must be given")
    if details["type"] == "value_error":
        # A rule over several fields begins its sentence with the field that is at fault, where it can tell.
        field, found, rest = message.partition(": ")
        if found and field.isidentifier():
            return FieldError(_path((*location, field)), rest)
        return FieldError(_path(location), message)
    hint = _HINTS.get(details["type"], "")
    sentence = message + _given(details)
    return FieldError(_path(location), f"{sentence}; {hint}" if hint else sentence)


def _in_words(details: ErrorDetails) -> str:
    if details["type"] == "string_pattern_mismatch" and details.get("ctx", {}).get("pattern") == NAME_PATTERN:
        return f"must be {NAME_RULE}"
    return details["msg"].removeprefix("Value error, ").replace("Input should", "should")


def _given(details: ErrorDetails) -> str:
    if _SECRET_FIELDS.intersection(map(str, details["loc"])):
        return ""
    shown = repr(details["input"])
    return f", not {shown}" if len(shown) <= _SHOWN_LENGTH_MAX else ""


def _path(location: tuple[int | str, ...]) -> str:
    return "".join(_steps(location)).removeprefix(".")


def _steps(location: tuple[int | str, ...]) -> Iterator[str]:
    for step in location:
        yield f"[{step}]" if isinstance(step, int) else f".{step}"


def _model_at(location: tuple[int | str, ...], model: type[BaseModel]) -> type[BaseModel]:
    for step in location:
        field = model.model_fields.get(str(step))
        if field is None or not isinstance(field.annotation, type) or not issubclass(field.annotation, BaseModel):
            return model
        model = field.annotation
    return model


def _unknown(name: str, model: type[BaseModel]) -> str:
    known = list(model.model_fields)
    near = difflib.get_close_matches(name, known, n=1)
    if near:
        return f"is no field; did you mean {near[0]}?"
    return f"is no field; known are {', '.join(known)}"
