"""What the options of `ergonaut vectors` mean, which several of its commands take."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import typer

from ergonaut.cli.output import JSON_OPTION
from ergonaut.client.vectors import Filter
from ergonaut.errors import Refused

JsonFlag = Annotated[bool, JSON_OPTION]
Name = Annotated[str, typer.Argument(help="The collection's name.")]
Metric = Annotated[str, typer.Option("--metric", help="l2, cosine, inner-product or hamming.")]
Element = Annotated[str, typer.Option("--element", help="float32, float16, uint8, int8 or binary.")]
Fields = Annotated[
    list[str] | None,
    typer.Option("--field", metavar="NAME=TYPE", help="A field of payloads, such as title=text:english; repeatable."),
]
FilterText = Annotated[
    str,
    typer.Option("--filter", metavar="JSON", help='Only what matches: {"field": "price", "range": {"lt": 10}}.'),
]

LIMIT_MAX = 1000
"""Vectors, groups or values of one answer: as many as the door gives."""

EFFORT_MAX = 4096
"""As hard as the door looks."""


def filter_told(text: str) -> Filter | None:
    """The filter of an option, None where it is empty. Raises Refused."""
    if not text:
        return None
    try:
        told = json.loads(text)
    except ValueError as error:
        raise Refused(f"is no JSON: {error}", field="--filter") from error
    if not isinstance(told, dict):
        raise Refused('must be an object, such as {"field": "tag", "eq": "new"}', field="--filter")
    return told


def fields_told(told: list[str]) -> dict[str, Mapping[str, str]]:
    """Declared fields of options. Raises Refused."""
    found: dict[str, Mapping[str, str]] = {}
    for text in told:
        name, equals, kind = text.partition("=")
        if not equals or not name or not kind:
            raise Refused(f"{text!r} is not NAME=TYPE, such as price=float or title=text:english", field="--field")
        kind, _, language = kind.partition(":")
        found[name] = {"type": kind} | ({"language": language} if language else {})
    return found


def vector_told(text: str) -> list[float] | None:
    """The vector of an option, None where it is empty. Raises Refused."""
    if not text:
        return None
    try:
        if not text.startswith("@"):
            return [float(number) for number in text.split(",")]
        told = json.loads(Path(text[1:]).read_text(encoding="utf-8"))
        if isinstance(told, list) and told:
            return [float(number) for number in told]
    except OSError as error:
        raise Refused(f"{text[1:]} cannot be read: {error.strerror}", field="--vector") from error
    except (ValueError, TypeError) as error:
        raise Refused(f"must be numbers with commas, or @FILE with a JSON list: {error}", field="--vector") from error
    raise Refused(f"{text[1:]} must hold a JSON list of numbers", field="--vector")
